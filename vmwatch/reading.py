"""Reads what the operator answered: bytes become a Mailbox, or a Trouble that says why not.

Pure. Whatever a stranger sends, nothing but Trouble comes out, and no word of the stranger is in it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from vmwatch.errors import Trouble
from vmwatch.models import DAY, FOREVER, SECOND, Duration, Instant, Mailbox, Reason, Voicemail

LONGEST_ID = 200
LONGEST_TEXT = 100
LONGEST_WAIT: Duration = DAY
_READ_OF_TEXT = 1000
"""Only the beginning of a text is looked at: normalising a megabyte of combining marks takes minutes."""
MOST_MESSAGES = 15_000
_MOST_MARKS = 14 * MOST_MESSAGES
"""Commas and opening brackets: a message has 13. 8 MiB of nothing else would take seconds and 300 MiB to read."""
_LONGEST_REFUSAL = 2**16
"""Bytes of an error's body that are worth reading."""
_DEEPEST = 6
"""How far into an error's body its codes are looked for."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Instant = FOREVER - DAY
"""A day less than a date can hold, so that every local time of it can be shown."""

_SPACES = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_UNSEEN = re.compile(
    "["
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "]+"
)
"""Zero-width and bidi characters, fillers, variation selectors, tags, half surrogates, noncharacters."""


class _Refusal(NamedTuple):
    status: int
    code: str
    sentence: str | None
    """The operator's own words, where they can mean nothing else with this status."""
    reason: Reason


_REFUSALS = (  # [api:errors], of each status the most dangerous first
    _Refusal(422, "pin", "pin code is invalid", Reason.PIN_REJECTED),
    _Refusal(404, "pin", None, Reason.PIN_REJECTED),
    _Refusal(404, "id", None, Reason.UNKNOWN_NUMBER),
    _Refusal(403, "pin", "login via pin disabled due to multiple failed logins", Reason.PIN_LOCKED),
    _Refusal(403, "blacklisted", "ip address is blacklisted", Reason.BLACKLISTED),
    _Refusal(403, "number", "voicemail not enabled for this number", Reason.NOT_ENABLED),
)


def mailbox(body: bytes) -> Mailbox:
    """The mailbox that a 200 to the list call holds [api:mvno:voicemail:list].

    Raises Trouble (NOT_THE_OPERATOR) for anything that is no JSON object of that shape, or has more than
    MOST_MESSAGES. An entry without a usable `_id` is counted and hides nobody; an optional field of the wrong type
    is as good as absent.
    """
    if sum(map(body.count, (b",", b"{", b"["))) > _MOST_MARKS:
        raise _too_large()
    answer = _parsed(body)
    if not isinstance(answer, dict):
        raise Trouble(Reason.NOT_THE_OPERATOR, "the answer is not a JSON object")
    entries = _entries(answer)
    messages = [message for message in map(_voicemail, entries) if message]
    return Mailbox(
        messages=tuple(sorted({message.id: message for message in messages}.values(), key=_age)),
        new=_whole(answer.get("newCount")),
        old=_whole(answer.get("oldCount")),
        saved=_whole(answer.get("savedCount")),
        unreadable=len(entries) - len(messages),
    )


def refusal(status: int, body: bytes, retry_after: str | None, now: Instant) -> Trouble:
    """What an answer other than 200 means, by HTTP status and the body's code together [api:errors].

    `retry_after` is the header as it came. The Trouble's `wait` is in ms, at most LONGEST_WAIT.
    """
    if status == 429:
        return Trouble(Reason.THROTTLED, "HTTP 429", _wait(retry_after, now))
    if 400 <= status < 500:
        return _refused(status, set(_texts(body)))
    if 500 <= status < 600:
        return _failed(status, _wait(retry_after, now))
    words = f"HTTP {status}, a redirect" if 300 <= status < 400 else f"HTTP {status}"
    return Trouble(Reason.NOT_THE_OPERATOR, words)


def _parsed(body: bytes) -> Any:
    """None for what is not JSON in UTF-8: JSON's own null would be no answer either."""
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _entries(answer: dict[str, Any]) -> list[Any]:
    entries = answer.get("voicemails")
    if entries is None and _whole(answer.get("newCount")) == 0:
        return []  # properties without a value may be left out
    if not isinstance(entries, list):
        raise Trouble(Reason.NOT_THE_OPERATOR, "the answer has no list of voicemails")
    if len(entries) > MOST_MESSAGES:
        raise _too_large()
    return entries


def _too_large() -> Trouble:
    return Trouble(Reason.NOT_THE_OPERATOR, "the answer is too large")


def _voicemail(entry: Any) -> Voicemail | None:
    known = _identifier(entry.get("_id")) if isinstance(entry, dict) else None
    if known is None:
        return None
    return Voicemail(
        id=known,
        caller=_text(entry.get("from")),
        caller_name=_text(entry.get("fromName")),
        called=_text(entry.get("to")),
        call_id=_identifier(entry.get("callId")),
        received_at=_instant(entry.get("date")),
        length=_whole(entry.get("length")),
        box=_text(entry.get("box")),
        played=_flag(entry.get("played")),
        voice_account=_identifier(entry.get("voiceAccount")),
        customer=_identifier(entry.get("customer")),
    )


def _age(message: Voicemail) -> tuple[Instant, str]:
    return (message.received_at or 0, message.id)


def _identifier(value: Any) -> str | None:
    """An opaque id, character for character as it came; None where no store could keep it so."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_ID:
        return None
    # PostgreSQL keeps no NUL, and nothing encodes half a surrogate pair.
    return None if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value) else value


def _text(value: Any) -> str | None:
    """What a stranger wrote, fit to stand on one line between our own words."""
    if not isinstance(value, str):
        return None
    seen = unicodedata.normalize("NFC", _UNSEEN.sub("", value[:_READ_OF_TEXT]))
    line = _SPACES.sub(" ", seen).strip()
    if len(line) > LONGEST_TEXT:
        line = line[: LONGEST_TEXT - 1].rstrip() + "…"
    return line or None


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if 0 <= value < 2**53 else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _instant(value: Any) -> Instant | None:
    if not isinstance(value, str):
        return None
    try:
        found = _since_epoch(datetime.fromisoformat(value.strip()))
    except ValueError:
        return None
    return found if 0 <= found <= _LATEST else None


def _since_epoch(date: datetime) -> Instant:
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(milliseconds=1)


def _texts(body: bytes) -> Iterator[str]:
    if len(body) > _LONGEST_REFUSAL:
        return iter(())
    answer = _parsed(body)
    if answer is None:
        answer = body.decode("utf-8", "replace")
    return _spoken(answer, 0)


def _spoken(value: Any, depth: int) -> Iterator[str]:
    """Codes and sentences of one or more errors: the form for several is not documented, so any is read."""
    if isinstance(value, str):
        yield value.strip().removesuffix(".").rstrip().casefold()
    elif depth < _DEEPEST:
        for part in _parts(value):
            yield from _spoken(part, depth + 1)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value[key] for key in ("error", "errors", "code", "message") if key in value]
    return value if isinstance(value, list) else []


def _refused(status: int, texts: set[str]) -> Trouble:
    for known in _REFUSALS:
        if known.status == status and not texts.isdisjoint({known.code, known.sentence}):
            return Trouble(known.reason, f"HTTP {status} {known.code}")
    return Trouble(Reason.REFUSAL_UNCLEAR, f"HTTP {status}")


def _failed(status: int, wait: Duration | None) -> Trouble:
    if status == 503 and wait is not None:
        return Trouble(Reason.THROTTLED, "HTTP 503", wait)
    reason = Reason.GATEWAY_ERROR if status in (502, 504) else Reason.OPERATOR_ERROR
    return Trouble(reason, f"HTTP {status}")


def _wait(retry_after: str | None, now: Instant) -> Duration | None:
    """Both forms of Retry-After (RFC 9110, 10.2.3) in ms; None if there is none that can be read."""
    text = (retry_after or "").strip()
    asked = int(text[:12]) * SECOND if re.fullmatch(r"-?[0-9]+", text) else _until(text, now)
    return None if asked is None else min(max(asked, 0), LONGEST_WAIT)


def _until(text: str, now: Instant) -> Duration | None:
    try:
        return _since_epoch(parsedate_to_datetime(text)) - now
    except (ValueError, OverflowError):
        return None
