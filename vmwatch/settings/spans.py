"""How long something takes or waits, as people write it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from vmwatch.models import DAY, HOUR, MINUTE, SECOND, Duration

_UNITS = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
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
    except OverflowError:
        return float("inf")
    except ValueError:
        raise ValueError('must be a duration such as "90s", "5m" or "1h30m", or a number of seconds') from None


def spelled(span: Duration) -> str:
    """Milliseconds as people write them: `"1h30m"`. `duration` reads it back."""
    parts = []
    for unit, size in sorted(_UNITS.items(), key=lambda unit: -unit[1]):
        count, span = divmod(span, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


def at_least(least: Duration, words: str) -> Callable[[Any], Duration]:
    def bounded(value: Any) -> Duration:
        found = duration(value)
        if found < least:
            raise ValueError(f"must be at least {words}")
        return found

    return bounded


_SPELLED = PlainSerializer(spelled, return_type=str, when_used="json")
Span = Annotated[Duration, BeforeValidator(duration), _SPELLED]
Wait = Annotated[Duration, BeforeValidator(at_least(1, "1ms")), _SPELLED]
Interval = Annotated[Duration, BeforeValidator(at_least(SECOND, '"1s": every poll is a login')), _SPELLED]
Leisure = Annotated[Duration, BeforeValidator(at_least(MINUTE, '"1m"')), _SPELLED]
