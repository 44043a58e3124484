"""How the operator is asked and alerts are sent: intervals, limits and back-offs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from vmwatch.models import DAY, HOUR, MINUTE, SECOND, Duration
from vmwatch.settings.spans import Interval, Span, Wait
from vmwatch.settings.table import Table, no_truth
from vmwatch.settings.urls import checked_base_url


class Backoff(Table):
    initial: Wait
    max: Wait

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.initial:
            raise ValueError("max must not be shorter than initial")
        return self


class ErrorBackoff(Backoff):
    initial: Wait = 30 * SECOND
    max: Wait = 15 * MINUTE


class LockoutBackoff(Backoff):
    initial: Wait = HOUR
    max: Wait = 24 * HOUR


class Operator(Table):
    base_url: Annotated[str, AfterValidator(checked_base_url)] = "https://api.telecomx.dk"
    timeout: Wait = 20 * SECOND
    """One request, in total."""
    concurrency: Annotated[int, BeforeValidator(no_truth), Field(ge=1, le=1000)] = 20
    """Requests under way at once."""


BRISK: Duration = 15 * SECOND
"""Polling more often than this is allowed, and warned of: whoever does it is in a hurry."""


class Polling(Table):
    interval: Interval = MINUTE
    jitter: Annotated[float, BeforeValidator(no_truth), Field(ge=0, le=0.5)] = 0.1
    first_poll: Literal["summary", "each", "silent"] = "summary"
    error_backoff: ErrorBackoff = ErrorBackoff()
    lockout_backoff: LockoutBackoff = LockoutBackoff()
    unreachable_after: Span = 30 * MINUTE


class Retry(Backoff):
    initial: Wait = 10 * SECOND
    max: Wait = 6 * HOUR
    give_up_after: Wait = 7 * DAY


class DeliveryPolicy(Table):
    timeout: Wait = 30 * SECOND
    """One attempt on one channel."""
    retry: Retry = Retry()
