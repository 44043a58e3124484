"""The shape of a configuration: every key, its default and what it may hold. Pure; `config` finds the values."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

import phonenumbers
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from vmwatch.models import DAY, HOUR, MINUTE, SECOND, Duration, Kind, Recipient

_UNITS = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_PIN = re.compile(r"[0-9]{4,10}")
_GROUPS = frozenset(kind.group for kind in Kind)
_KINDS = frozenset(kind.value for kind in Kind)
LONGEST: Duration = 36_500 * DAY


def duration(value: Any) -> Duration:
    """`"90s"`, `"1h30m"`, or a number of seconds, as milliseconds. Raises ValueError with a sentence."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError('must be a duration such as "90s", "5m" or "1h30m", or a number of seconds')
    if isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        found = sum(float(count) * _UNITS[unit] for count, unit in _PART.findall(value))
    else:
        found = _seconds(value) * SECOND
    if not 0 <= found <= LONGEST:
        raise ValueError("must be a duration from 0 to 100 years")
    return round(found)


def _seconds(value: int | float | str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError('must be a duration such as "90s", "5m" or "1h30m", or a number of seconds') from None


def _at_least(least: Duration, words: str) -> Any:
    def bounded(value: Any) -> Duration:
        found = duration(value)
        if found < least:
            raise ValueError(f"must be at least {words}")
        return found

    return BeforeValidator(bounded)


def _e164(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\+[1-9][0-9]{4,14}", value):
        raise ValueError('must be a number in E.164 form, like "+4571919998"')
    if not phonenumbers.is_possible_number(phonenumbers.parse(value)):
        raise ValueError("is not a possible phone number: check its country code and its length")
    return value


def _pin(value: Any) -> SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str) or not _PIN.fullmatch(text):
        raise ValueError("must be 4 to 10 digits, in quotes")
    return SecretStr(text)


def _event(value: Any) -> str:
    if value not in _GROUPS | _KINDS:
        raise ValueError(f"must be one of {', '.join(sorted(_GROUPS | _KINDS))}")
    return str(value)


Span = Annotated[Duration, BeforeValidator(duration)]
Wait = Annotated[Duration, _at_least(1, "1ms")]
Interval = Annotated[Duration, _at_least(SECOND, '"1s": every poll is a login')]


class _Table(BaseModel):
    # hide_input_in_errors: a ValidationError prints what it refused, and that may be a PIN.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Backoff(_Table):
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


class Operator(_Table):
    base_url: str = "https://api.telecomx.dk"
    timeout: Wait = 20 * SECOND
    """One request, in total."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 20
    """Requests under way at once."""


class Polling(_Table):
    interval: Interval = MINUTE
    jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    first_poll: Literal["summary", "each", "silent"] = "summary"
    error_backoff: ErrorBackoff = ErrorBackoff()
    lockout_backoff: LockoutBackoff = LockoutBackoff()
    unreachable_after: Span = 30 * MINUTE


class Retry(Backoff):
    initial: Wait = 10 * SECOND
    max: Wait = 6 * HOUR
    give_up_after: Wait = 7 * DAY


class DeliveryPolicy(_Table):
    timeout: Wait = 30 * SECOND
    """One attempt on one channel."""
    retry: Retry = Retry()


class Store(_Table):
    url: str = "sqlite:///vmwatch.db"
    keep: Span = 365 * DAY


class Channel(_Table):
    url: SecretStr
    events: tuple[Annotated[str, BeforeValidator(_event)], ...] = ("voicemail", "line", "channel")


class Line(_Table):
    number: Annotated[str, BeforeValidator(_e164)]
    pin: Annotated[SecretStr, BeforeValidator(_pin)]
    label: str = ""
    """What people see; `Settings.label_of` falls back to the name."""
    channels: tuple[str, ...] | None = None
    """None: every channel."""
    interval: Interval | None = None
    """None: polling.interval."""
    enabled: bool = True


class Settings(_Table):
    """A whole, accepted configuration."""

    operator: Operator = Operator()
    polling: Polling = Polling()
    delivery: DeliveryPolicy = DeliveryPolicy()
    store: Store = Store()
    channels: dict[str, Channel] = {}
    lines: dict[str, Line] = {}

    def label_of(self, name: str) -> str:
        return self.lines[name].label or name

    def interval_of(self, name: str) -> Duration:
        return self.lines[name].interval or self.polling.interval

    def recipients_of(self, name: str) -> tuple[Recipient, ...]:
        """The channels of a line, in the order of the configuration."""
        wanted = self.lines[name].channels
        return tuple(recipient for recipient in self.recipients() if wanted is None or recipient.name in wanted)

    def recipients(self) -> tuple[Recipient, ...]:
        return tuple(Recipient(name, channel.events) for name, channel in self.channels.items())
