"""The words of the house: frozen values that every other module speaks in.

Pure: nothing here reads a clock, a file or a socket. Instants and durations are whole milliseconds, so that
memory, SQL and JSON hold the same number; they become dates only where a person or a script reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

Instant: TypeAlias = int
"""Milliseconds since 1970-01-01T00:00:00Z."""
Duration: TypeAlias = int
"""Milliseconds."""

SECOND: Duration = 1_000
MINUTE: Duration = 60 * SECOND
HOUR: Duration = 60 * MINUTE
DAY: Duration = 24 * HOUR

FOREVER: Instant = 253_402_300_799_000
"""9999-12-31T23:59:59Z: a pause without an end."""


class Box(StrEnum):
    """What a list call asks for (`box=`). The answers' own `box` field uses other words: INBOX, SAVED."""

    NEW = "NEW"
    OLD = "OLD"
    SAVED = "SAVED"


class LineState(StrEnum):
    WAITING = "waiting"
    OK = "ok"
    FAILING = "failing"
    LOCKED = "locked"
    REJECTED = "rejected"
    NOT_ENABLED = "not_enabled"
    UNKNOWN_NUMBER = "unknown_number"
    PAUSED = "paused"


class Reason(StrEnum):
    """Why a line is as it is. One word, used by log, page, command line and tests alike."""

    # An answer was read (READ is a line's own reason, the others are a poll's).
    READ = "read"
    FIRST_SIGHT = "first_sight"
    NOTHING_NEW = "nothing_new"
    NEW_MESSAGES = "new_messages"
    # The operator said no.
    PIN_REJECTED = "pin_rejected"
    PIN_LOCKED = "pin_locked"
    STILL_LOCKED = "still_locked"
    NOT_ENABLED = "not_enabled"
    UNKNOWN_NUMBER = "unknown_number"
    BLACKLISTED = "blacklisted"
    REFUSAL_UNCLEAR = "refusal_unclear"
    REFUSED_TWICE = "refused_twice"
    # The operator could not answer, or was not heard.
    THROTTLED = "throttled"
    OPERATOR_ERROR = "operator_error"
    GATEWAY_ERROR = "gateway_error"
    NOT_THE_OPERATOR = "not_the_operator"
    NO_CONNECTION = "no_connection"
    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection_lost"
    ATTEMPT_LOST = "attempt_lost"
    VERDICT_LOST_TWICE = "verdict_lost_twice"
    # A person, or the configuration, said so.
    NOT_READ_YET = "not_read_yet"
    PIN_CHANGED = "pin_changed"
    RESUMED = "resumed"
    PAUSED = "paused"
    DISABLED = "disabled"


class Kind(StrEnum):
    """What an alert is about. The part before the dot is its group (`events = ["line"]`)."""

    VOICEMAIL_NEW = "voicemail.new"
    VOICEMAIL_SUMMARY = "voicemail.summary"
    VOICEMAIL_REMINDER = "voicemail.reminder"
    VOICEMAIL_ESCALATED = "voicemail.escalated"
    VOICEMAIL_HEARD = "voicemail.heard"
    VOICEMAIL_DIGEST = "voicemail.digest"
    VOICEMAIL_CLEARED = "voicemail.cleared"
    """Says nothing: what was shown of a message goes away. Nobody asks for it, and it has no words."""
    LINE_LOCKED = "line.locked"
    LINE_REJECTED = "line.rejected"
    LINE_NOT_ENABLED = "line.not_enabled"
    LINE_UNKNOWN_NUMBER = "line.unknown_number"
    LINE_UNREACHABLE = "line.unreachable"
    LINE_RECOVERED = "line.recovered"
    LINE_STALE = "line.stale"
    CHANNEL_FAILING = "channel.failing"
    CHANNEL_RECOVERED = "channel.recovered"
    STORE_FAILING = "store.failing"
    STORE_RECOVERED = "store.recovered"
    TEST = "test"

    @property
    def group(self) -> str:
        return self.value.partition(".")[0]


WORDED = tuple(kind for kind in Kind if kind is not Kind.VOICEMAIL_CLEARED)
"""The kinds that people read."""


class Privacy(StrEnum):
    """How much a channel's alerts show of who called: everything, a part of the number, or nothing."""

    FULL = "full"
    MASKED = "masked"
    MINIMAL = "minimal"


class DeliveryState(StrEnum):
    PENDING = "pending"
    SENT = "sent"
    DEAD = "dead"
    WITHDRAWN = "withdrawn"


class Held(StrEnum):
    """Why a delivery waits, though nothing is wrong with its channel."""

    QUIET = "quiet"
    DIGEST = "digest"
    BUDGET = "budget"
    SNOOZED = "snoozed"


class Fate(StrEnum):
    """What becomes of a message because of who called; whichever it is, it is noted."""

    ANNOUNCED = "announced"
    MUTED = "muted"
    TOO_SHORT = "too_short"


class ChannelState(StrEnum):
    OK = "ok"
    FAILING = "failing"


class Outcome(StrEnum):
    """What became of one attempt on one channel. UNKNOWN: it may have arrived, nobody said so in time."""

    SENT = "sent"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Voicemail:
    """One message as the operator lists it; only `id` can be relied on [api:mvno:voicemail:list].

    `length` is in seconds. `box` is the operator's own word (INBOX, SAVED).
    """

    id: str
    caller: str | None = None
    caller_name: str | None = None
    called: str | None = None
    call_id: str | None = None
    received_at: Instant | None = None
    length: int | None = None
    box: str | None = None
    played: bool | None = None
    voice_account: str | None = None
    customer: str | None = None


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A well-formed answer to the list call: counts of the whole mailbox, messages of the box asked for.

    `messages` are sorted by (received_at, id). `unreadable` counts entries without a usable `_id`.
    """

    messages: tuple[Voicemail, ...] = ()
    new: int | None = None
    old: int | None = None
    saved: int | None = None
    unreadable: int = 0

    @property
    def complete(self) -> bool:
        """Whether a message's absence from the list says anything: counts and list agree, all was readable."""
        return self.unreadable == 0 and self.new in (None, len(self.messages))


@dataclass(frozen=True, slots=True)
class Moment:
    """When something is decided, and the one random number (from -1 to 1) that it may use for jitter."""

    now: Instant
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """All the ledger knows of a line; `state` is never PAUSED, for a pause lies over the state beneath it.

    A *trusted* PIN was once answered by a well-formed 200. *doubts* counts the logins since then (or since a
    person's last word) that may have failed without our reading so: at two, the line waits for a person.
    """

    number: str
    name: str
    label: str
    enabled: bool
    pin_tag: int
    state: LineState
    reason: Reason
    since: Instant
    next_poll_at: Instant | None
    """None: not before a person or a changed PIN says so."""
    detail: str = ""
    paused_until: Instant | None = None
    paused_at: Instant | None = None
    trusted: bool = False
    doubts: int = 0
    failures: int = 0
    failing_since: Instant | None = None
    locked_until: Instant | None = None
    """Where a locked line waits for a person: the end of its back-off, which a changed PIN does not shorten."""
    alerted: Kind | None = None
    """The trouble people were last alerted to and that is not over."""
    attempt_at: Instant | None = None
    """When the attempt was written down whose verdict is not; it also names the claim."""
    asked_at: Instant | None = None
    """Since when a person waits for an answer: it is recorded even if it is the last one again."""
    claimed_until: Instant | None = None
    last_poll_at: Instant | None = None
    last_success_at: Instant | None = None
    first_read_at: Instant | None = None
    new: int | None = None
    old: int | None = None
    saved: int | None = None
    configured: bool = True
    spent_tags: str = ""
    """The tags of earlier PINs that had their tries, apart by blanks."""
    version: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt that is to be written down before it is made; `attempt_at` names it.

    Every poll has one and few need more of it than this, so the line's new `standing` is made where it is asked for.
    """

    before: Standing
    attempt_at: Instant
    next_poll_at: Instant
    claimed_until: Instant

    @property
    def number(self) -> str:
        return self.before.number

    @property
    def standing(self) -> Standing:
        """The line as its row stands once the claim is won."""
        return replace(
            self.before,
            attempt_at=self.attempt_at,
            last_poll_at=self.attempt_at,
            next_poll_at=self.next_poll_at,
            claimed_until=self.claimed_until,
            version=self.before.version + 1,
        )


@dataclass(frozen=True, slots=True)
class OperatorStanding:
    """What holds for every line of the operator at once: whether it blocks this machine's address."""

    blocked_until: Instant | None = None
    blocked_since: Instant | None = None
    failures: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the ledger knows of a message that was seen before, as far as a decision needs it."""

    id: str
    missed: int
    """Agreeing, complete answers in a row that did not list it."""
    left_new_at: Instant | None


@dataclass(frozen=True, slots=True)
class Recipient:
    """A channel as a decision sees it: a name, and the kinds or groups of kinds it wants."""

    name: str
    events: tuple[str, ...]

    def wants(self, kind: Kind) -> bool:
        """A test is for the channel itself. A store in trouble silences all other alerts: everyone hears of it.

        A line that goes unread while nothing is wrong with it is vmwatch's own trouble, as a failing channel is: those
        who wait for calls on it are not troubled with that.
        """
        if kind is Kind.LINE_STALE:
            return kind.value in self.events or "channel" in self.events
        if kind is Kind.VOICEMAIL_HEARD:  # good news that most would rather not be rung for: by its own name only
            return kind.value in self.events
        return kind.group in ("test", "store") or kind.value in self.events or kind.group in self.events


@dataclass(frozen=True, slots=True)
class Alert:
    """What people are to be told, as facts; the words are chosen when it is sent.

    `voicemails` holds the newest few of `count`; `messages` the ids of all that it announces.
    """

    kind: Kind
    channels: tuple[str, ...]
    subject: str = ""
    """The line's label or the channel's name."""
    number: str | None = None
    messages: tuple[str, ...] = ()
    voicemails: tuple[Voicemail, ...] = ()
    count: int = 0
    reason: Reason | None = None
    detail: str = ""
    since: Instant | None = None
    next_poll_at: Instant | None = None
    urgent: bool = False
    """Whether it passes what else would hold it."""
    about: str = ""
    """Its messages in one word: alerts about the same ones have the same."""
    clears: str = ""
    """What is to go away is known by this on its channel."""


@dataclass(frozen=True, slots=True)
class Silenced:
    """What would have been told but for the caller's group: noted like any other alert, and owed to nobody."""

    alert: Alert
    why: Fate


class Act(StrEnum):
    """What a person can do about a message."""

    ACK = "ack"
    SNOOZE = "snooze"
    """For an hour."""


@dataclass(frozen=True, slots=True)
class Links:
    """URLs that do one thing about one message, for whoever has them; empty where there are none."""

    ack: str = field(default="", repr=False)
    snooze: str = field(default="", repr=False)


NO_LINKS = Links()


class Due(StrEnum):
    """What a message's next follow-up is due for."""

    STEP = "step"
    """A reminder or an escalation, or nothing yet: the first look reckons when the next one is."""
    SECOND_LOOK = "second_look"
    """A step that the line was to be read again for, to see whether the message is still there."""
    SNOOZE = "snooze"
    """The end of a snooze."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """When a message that was announced, and that nobody has heard, is looked at again."""

    number: str
    message: str
    alerted_at: Instant
    """What the steps' waits count from: the announcement, or the end of a snooze."""
    done_until: Instant
    """Steps up to this instant are done."""
    at: Instant
    due: Due = Due.STEP


@dataclass(frozen=True, slots=True)
class Unheard:
    """A message whose follow-up is due, and what is known of it at that moment."""

    follow_up: FollowUp
    voicemail: Voicemail
    is_missed: bool
    """The last answer did not list it; the next one tells whether it has gone."""
    read_at: Instant | None
    """When its line was last read, as far as that is noted."""
    told: tuple[str, ...] = ()
    """The channels that need not wait for its announcement any more, nor for anything else that tells of it."""
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class FollowedUp:
    """What follow-ups that were due come to, recorded in one transaction."""

    alerts: tuple[Alert, ...] = ()
    next: tuple[FollowUp, ...] = ()
    """Messages without one are not followed any more."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one poll comes to: everything here is recorded in one transaction, or nothing of it."""

    reason: Reason
    before: Standing
    after: Standing
    operator: OperatorStanding | None = None
    """Set when the operator's standing changes."""
    fresh: tuple[Voicemail, ...] = ()
    seen: tuple[Voicemail, ...] = ()
    """Known messages that the answer lists: they are new (again), whatever was thought."""
    missed: tuple[str, ...] = ()
    """Known messages that are absent for the first time."""
    left: tuple[str, ...] = ()
    """Messages that two agreeing answers no longer listed."""
    alerts: tuple[Alert, ...] = ()
    silenced: tuple[Silenced, ...] = ()
    followed: tuple[str, ...] = ()
    """Messages to be followed until they are heard, if they are announced."""
    hear_of_left: tuple[str, ...] = ()
    """Channels that want to know that messages were heard, if they were told of them."""

    @property
    def repeatable(self) -> bool:
        """Whether the same bytes, answered again, would change nothing but times."""
        return self.after.state is LineState.OK and not self.missed


@dataclass(frozen=True, slots=True)
class ChannelStanding:
    name: str
    state: ChannelState = ChannelState.OK
    since: Instant = 0
    failures: int = 0
    alerted: bool = False
    last_sent_at: Instant | None = None
    last_error: str | None = None
    version: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One alert on its way to one channel."""

    id: int
    channel: str
    alert: Alert
    created_at: Instant
    attempts: int
    """Attempts made, the one claimed now included."""
    maybe_repeat: bool = False
    """An earlier attempt may have arrived."""
    version: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    until: Instant
    why: Held


@dataclass(frozen=True, slots=True)
class Arrival:
    """A delivery that is due on a channel, before it is said whether it is sent now."""

    id: int
    version: int
    alert_id: int
    kind: Kind
    urgent: bool


@dataclass(frozen=True, slots=True)
class Queue:
    """What is due on a channel, the longest due first."""

    fresh: tuple[Arrival, ...]
    """What was not held, or is to be judged anew."""
    released: tuple[Arrival, ...]
    """Whose hold is over."""
    sent_at: tuple[Instant, ...] = ()
    """When the channel was sent something lately, the earliest first."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a channel says of one attempt; `detail` never holds anything a secret could be in."""

    outcome: Outcome
    detail: str = ""
    shown_as: str | None = None
    """What was sent can be replaced and cleared by this name; None: it can't."""
    proves: bool = True
    """Whether a channel for which it was sent works; not where there was nothing to be done."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one attempt comes to, recorded in one transaction after the send."""

    delivery: Delivery
    state: DeliveryState
    next_attempt_at: Instant | None
    sent_at: Instant | None
    last_error: str | None
    maybe_repeat: bool
    channel_before: ChannelStanding
    channel_after: ChannelStanding
    rest_until: Instant | None = None
    """Set where the attempt failed: no other delivery is tried again on this channel before."""
    alerts: tuple[Alert, ...] = ()
    shown_as: str | None = None
    """What was sent is to be cleared by this name once nothing of it is to be heard any more."""
