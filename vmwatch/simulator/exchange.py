"""What the simulated operator knows: lines with their PINs and boxes, and what it says to a login. No network."""

from __future__ import annotations

import json
import secrets
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from vmwatch.models import SECOND, Box, Duration, Instant

Message = dict[str, Any]
"""As the operator writes it [api:mvno:voicemail:list]."""


class Verdict(StrEnum):
    """What a request came to. The six errors are the documented ones."""

    OK = "ok"
    PIN_INVALID = "pin_invalid"
    NO_PIN = "no_pin"
    LOCKED = "locked"
    NOT_ENABLED = "not_enabled"
    UNKNOWN_NUMBER = "unknown_number"
    BLACKLISTED = "blacklisted"
    VIOLATION = "violation"
    """Something that vmwatch must never send."""


class Refusal(NamedTuple):
    status: int
    code: str
    message: str


REFUSALS = {
    Verdict.PIN_INVALID: Refusal(422, "pin", "Pin code is invalid"),
    Verdict.NO_PIN: Refusal(404, "pin", "Not found"),
    Verdict.LOCKED: Refusal(403, "pin", "Login via pin disabled due to multiple failed logins"),
    Verdict.NOT_ENABLED: Refusal(403, "number", "Voicemail not enabled for this number"),
    Verdict.UNKNOWN_NUMBER: Refusal(404, "id", "Not found"),
    Verdict.BLACKLISTED: Refusal(403, "blacklisted", "IP address is blacklisted"),
}


@dataclass(frozen=True, slots=True)
class Login:
    """One request as the operator saw it. `pin_ok` is the plain fact, whatever the verdict."""

    at: Instant
    number: str
    box: str
    verdict: Verdict
    pin_ok: bool


@dataclass(slots=True)
class Line:
    number: str
    pin: str | None
    enabled: bool = True
    known: bool = True
    failed: int = 0
    locked_at: Instant | None = None
    voice_account: str = field(default_factory=lambda: secrets.token_hex(12))
    customer: str = field(default_factory=lambda: secrets.token_hex(12))
    boxes: dict[Box, dict[str, Message]] = field(default_factory=lambda: {box: {} for box in Box})


class Exchange:
    """Lines, verdicts and the log. A line locks after `lock_after` wrong PINs in a row, for `lock_for` ms.

    `lock_for` None: until `unlock`. `remember` is how many logins of each number the log keeps.
    """

    def __init__(
        self, now: Callable[[], Instant], lock_after: int, lock_for: Duration | None, remember: int = 10_000
    ) -> None:
        self.now = now
        self.lock_after = lock_after
        self.lock_for = lock_for
        self.blacklisted = False
        self.lines: dict[str, Line] = {}
        self.log: defaultdict[str, deque[Login]] = defaultdict(lambda: deque(maxlen=remember))

    def login(self, number: str, pin: str, box: str) -> Verdict:
        """One login: judged, counted and written down."""
        line = self.lines.get(number)
        verdict = self._verdict(line, pin)
        pin_ok = line is not None and line.pin == pin
        self.log[number].append(Login(self.now(), number, box, verdict, pin_ok))
        return verdict

    def logins(self, number: str) -> list[Login]:
        """Every request that the real operator could count as a login, right or wrong."""
        return [login for login in self.log.get(number, ()) if login.verdict is not Verdict.VIOLATION]

    def failed_logins(self, number: str) -> list[Login]:
        return [login for login in self.logins(number) if not login.pin_ok]

    def violations(self) -> list[Login]:
        return [login for entries in self.log.values() for login in entries if login.verdict is Verdict.VIOLATION]

    def _note_violation(self, number: str) -> None:
        self.log[number].append(Login(self.now(), number, "", Verdict.VIOLATION, pin_ok=False))

    def _verdict(self, line: Line | None, pin: str) -> Verdict:
        if self.blacklisted:
            return Verdict.BLACKLISTED
        if line is None or not line.known:
            return Verdict.UNKNOWN_NUMBER
        if not line.enabled:
            return Verdict.NOT_ENABLED
        return self._verdict_on_pin(line, pin)

    def _verdict_on_pin(self, line: Line, pin: str) -> Verdict:
        if self._locked(line):
            return Verdict.LOCKED
        if line.pin == pin:
            line.failed = 0
            return Verdict.OK
        line.failed += 1
        if line.failed >= self.lock_after:
            line.locked_at = self.now()
        return Verdict.NO_PIN if line.pin is None else Verdict.PIN_INVALID

    def _locked(self, line: Line) -> bool:
        if line.locked_at is None:
            return False
        if self.lock_for is None or self.now() < line.locked_at + self.lock_for:
            return True
        self.unlock(line.number)
        return False

    def add_line(self, number: str, pin: str | None, *, enabled: bool = True, known: bool = True) -> None:
        """A line with an empty mailbox; one that is there already is replaced. `pin` None: it has none."""
        self.lines[number] = Line(number, pin, enabled, known)

    def set_line(self, number: str, *, enabled: bool = True, known: bool = True) -> None:
        self.lines[number].enabled = enabled
        self.lines[number].known = known

    def set_pin(self, number: str, pin: str | None) -> None:
        self.lines[number].pin = pin

    def unlock(self, number: str) -> None:
        """Forgets the line's failed logins; the log keeps them."""
        self.lines[number].failed = 0
        self.lines[number].locked_at = None

    def blacklist(self, on: bool = True) -> None:
        self.blacklisted = on

    def leave(
        self,
        number: str,
        caller: str | None = "+4599778822",
        name: str | None = "Donald Duck",
        length: float | None = 37,
        **overrides: Any,
    ) -> str:
        """Leaves a message and tells its id. `overrides` are the operator's fields, put in as they are."""
        line = self.lines[number]
        message: Message = {
            "_id": secrets.token_hex(12),
            "voiceAccount": line.voice_account,
            "customer": line.customer,
            **_given({"from": caller, "fromName": name}),
            "to": number,
            "callId": secrets.token_hex(22),
            "date": _as_date(self.now()),
            "length": length,
            "box": "INBOX",
            "played": False,
            **overrides,
        }
        line.boxes[Box.NEW][message["_id"]] = message
        return str(message["_id"])

    def hear(self, number: str, id: str) -> None:
        self._put(number, self._take(number, id), Box.OLD)

    def save(self, number: str, id: str) -> None:
        self._put(number, self._take(number, id), Box.SAVED)

    def delete(self, number: str, id: str) -> None:
        self._take(number, id)

    def _take(self, number: str, id: str) -> Message:
        for box in self.lines[number].boxes.values():
            if id in box:
                return box.pop(id)
        raise KeyError("no such message")

    def _put(self, number: str, message: Message, box: Box) -> None:
        words = {"box": "SAVED" if box is Box.SAVED else "INBOX", "played": box is not Box.NEW}
        self.lines[number].boxes[box][message["_id"]] = message | words

    def listing(self, number: str, box: Box) -> dict[str, Any]:
        boxes = self.lines[number].boxes
        return {
            "newCount": len(boxes[Box.NEW]),
            "oldCount": len(boxes[Box.OLD]),
            "savedCount": len(boxes[Box.SAVED]),
            "voicemails": list(boxes[box].values()),
        }


def _given(fields: Message) -> Message:
    """Without the fields that have no value: they may be left out [api:mvno:voicemail:list]."""
    return {name: value for name, value in fields.items() if value is not None}


def _as_date(at: Instant) -> str:
    whole, milliseconds = divmod(at, SECOND)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def refused(refusal: Refusal) -> bytes:
    """The documented body of an error [api:errors]."""
    status, code, message = refusal
    return json.dumps({"error": {"message": message, "code": code, "status": status}}).encode()
