"""Small builders with sane defaults, so that tests read as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vmwatch import decide
from vmwatch.backoff import Grid
from vmwatch.book import EMPTY, Book
from vmwatch.errors import Trouble
from vmwatch.models import (
    HOUR,
    SECOND,
    Alert,
    Decision,
    Instant,
    Kind,
    LineState,
    Mailbox,
    Moment,
    OperatorStanding,
    Reason,
    Recipient,
    Remembered,
    Standing,
    Voicemail,
)
from vmwatch.settings import Callers, Polling

NOW: Instant = 1_704_067_200_000
NUMBER = "+4571919998"
OTHER = "+4571919999"
INTERVAL = 60 * SECOND
CALM = Moment(NOW)
PHONE = Recipient("phone", ("voicemail", "line", "channel"))
MAIL = Recipient("mail", ("voicemail", "line", "channel"))
EVERYONE = (PHONE, MAIL)


def standing(**changes: Any) -> Standing:
    """A line that was never read, due now."""
    defaults: dict[str, Any] = {
        "number": NUMBER,
        "name": "home",
        "label": "Home",
        "enabled": True,
        "pin_tag": 7,
        "state": LineState.WAITING,
        "reason": Reason.NOT_READ_YET,
        "since": NOW - HOUR,
        "next_poll_at": NOW,
    }
    return Standing(**(defaults | changes))


def trusted(**changes: Any) -> Standing:
    """A line that was read well before, due now."""
    defaults: dict[str, Any] = {
        "state": LineState.OK,
        "reason": Reason.READ,
        "trusted": True,
        "first_read_at": NOW - HOUR,
        "last_success_at": NOW - INTERVAL,
    }
    return standing(**(defaults | changes))


def rejected(**changes: Any) -> Standing:
    """A line that waits for a person."""
    defaults: dict[str, Any] = {
        "state": LineState.REJECTED,
        "reason": Reason.PIN_REJECTED,
        "next_poll_at": None,
        "failures": 1,
        "alerted": Kind.LINE_REJECTED,
    }
    return standing(**(defaults | changes))


def locked(**changes: Any) -> Standing:
    """A line whose lock-out was met once, an hour ago."""
    defaults: dict[str, Any] = {
        "state": LineState.LOCKED,
        "reason": Reason.PIN_LOCKED,
        "failures": 1,
        "alerted": Kind.LINE_LOCKED,
    }
    return standing(**(defaults | changes))


def failing(**changes: Any) -> Standing:
    """A trusted line in transient trouble."""
    defaults: dict[str, Any] = {"state": LineState.FAILING, "reason": Reason.TIMEOUT, "failures": 1}
    return trusted(**(defaults | changes))


def voicemail(id_: str, **changes: Any) -> Voicemail:
    defaults: dict[str, Any] = {
        "caller": "+4599778822",
        "caller_name": "Donald Duck",
        "called": NUMBER,
        "received_at": NOW - HOUR,
        "length": 37,
        "box": "INBOX",
        "played": False,
    }
    return Voicemail(id_, **(defaults | changes))


def mailbox(*ids: str, **changes: Any) -> Mailbox:
    """A well-formed answer whose counts agree with its list."""
    counts: dict[str, Any] = {"new": len(ids), "old": 0, "saved": 0}
    return Mailbox(messages=tuple(map(voicemail, ids)), **(counts | changes))


def remembered(*ids: str, missed: int = 0, left: Instant | None = None) -> dict[str, Remembered]:
    return {id_: Remembered(id_, missed, left) for id_ in ids}


def rules(
    recipients: tuple[Recipient, ...] = EVERYONE,
    interval: int = INTERVAL,
    callers: Mapping[str, Callers] | None = None,
    **polling: Any,
) -> decide.Rules:
    return decide.Rules(Grid(interval), Polling(**polling), recipients, EVERYONE, callers=callers or {})


def alert(kind: Kind = Kind.VOICEMAIL_NEW, channels: tuple[str, ...] = ("phone", "mail"), **changes: Any) -> Alert:
    return Alert(kind=kind, channels=channels, **({"subject": "Home", "number": NUMBER} | changes))


def judged(
    before: Standing,
    answer: Mailbox | Trouble | Reason,
    known: dict[str, Remembered] | None = None,
    operator: OperatorStanding | None = None,
    now: Instant = NOW,
    by: decide.Rules | None = None,
    book: Book = EMPTY,
) -> Decision:
    answer = Trouble(answer) if isinstance(answer, Reason) else answer
    standing_ = operator or OperatorStanding()
    return decide.after_poll(before, standing_, answer, known or {}, Moment(now), by or rules(), book)


@dataclass
class Story:
    """One line through a sequence of answers, each given when the line is due; a line that waits is not asked."""

    line: Standing
    operator: OperatorStanding = field(default_factory=OperatorStanding)
    by: decide.Rules = field(default_factory=rules)
    known: dict[str, Remembered] = field(default_factory=dict)
    now: Instant = NOW
    attempts: int = 0
    waits: list[int] = field(default_factory=list)
    alerts: list[Kind] = field(default_factory=list)

    def play(self, answers: Iterable[Mailbox | Trouble | Reason]) -> Story:
        for answer in answers:
            if self.line.next_poll_at is None:
                break
            self.now = max(self.now, self.line.next_poll_at)
            self._take(judged(self.line, answer, self.known, self.operator, self.now, self.by))
        return self

    def _take(self, decision: Decision) -> None:
        self.attempts += 1
        self.line = decision.after
        self.operator = decision.operator or self.operator
        self.alerts += [owed.kind for owed in decision.alerts]
        if self.line.next_poll_at is not None:
            self.waits.append(self.line.next_poll_at - self.now)
        self.known |= remembered(*(message.id for message in decision.fresh + decision.seen))
        self.known |= remembered(*decision.missed, missed=1)
        self.known |= remembered(*decision.left, missed=2, left=self.now)
