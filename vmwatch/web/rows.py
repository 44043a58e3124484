"""A sight in the words and pieces that the templates put together. Pure: values that can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from vmwatch import shapes, wording
from vmwatch.ledger import ChannelView, MessageView, Owed, Told
from vmwatch.ledger.history import EVERYONE
from vmwatch.models import FOREVER, ChannelState, DeliveryState, Held, Instant, LineState, Reason, Standing
from vmwatch.texts import N_, Texts
from vmwatch.web.needs import why
from vmwatch.web.picture import Picture, picture
from vmwatch.web.sight import Sight

LINES = 50
"""Lines of one page."""

STATES = {
    LineState.WAITING: N_("not read yet"),
    LineState.OK: N_("ok"),
    LineState.FAILING: N_("failing"),
    LineState.LOCKED: N_("locked"),
    LineState.REJECTED: N_("rejected"),
    LineState.NOT_ENABLED: N_("not enabled"),
    LineState.UNKNOWN_NUMBER: N_("unknown number"),
    LineState.PAUSED: N_("paused"),
}
_TOLD = {
    DeliveryState.PENDING: N_("waits"),
    DeliveryState.SENT: N_("sent"),
    DeliveryState.DEAD: N_("given up"),
    DeliveryState.WITHDRAWN: N_("no longer needed"),
}
_HELD = {
    Held.QUIET: N_("held by quiet hours"),
    Held.DIGEST: N_("held for a digest"),
    Held.BUDGET: N_("held, for there were many"),
    Held.SNOOZED: N_("snoozed"),
}
_IN_DIGEST = N_("told in a digest")
_CHANNELS = {ChannelState.OK: N_("ok"), ChannelState.FAILING: N_("failing")}
_RESUMABLE = frozenset(
    {LineState.PAUSED, LineState.LOCKED, LineState.REJECTED, LineState.NOT_ENABLED, LineState.UNKNOWN_NUMBER}
)


@dataclass(frozen=True, slots=True)
class Button:
    path: str
    words: str


POLL = Button("/act/poll", N_("Poll now"))
PAUSE_AN_HOUR = Button("/act/pause-an-hour", N_("Pause 1 h"))
PAUSE = Button("/act/pause", N_("Pause"))
RESUME = Button("/act/resume", N_("Resume"))
ACK = Button("/act/ack", N_("Acknowledge"))
SNOOZE_AN_HOUR = Button("/act/snooze-an-hour", N_("Snooze 1 h"))
ONE_MORE_TRY = Button("/act/resume", N_("Allow one more try"))


@dataclass(frozen=True, slots=True)
class Time:
    iso: str
    shown: str


@dataclass(frozen=True, slots=True)
class LineRow:
    name: str
    label: str
    number: str
    look: str
    """`good`, `bad` or `still`."""
    state: str
    why: str
    since: Time | None
    next_poll: Time | None
    counts: tuple[tuple[str, int | None], ...]
    picture: Picture
    buttons: tuple[Button, ...]


@dataclass(frozen=True, slots=True)
class MessageRow:
    key: str
    """What a button's form calls it by."""
    caller: str
    number: str
    dial: str
    """What is behind `tel:`; empty where nobody can be called."""
    line: str
    length: str
    received: Time | None
    is_new: bool
    acked: Time | None
    snoozed: Time | None
    """Until when."""
    left: Time | None
    told: tuple[tuple[str, str, Time | None], ...]
    """Channel, what became of it, when."""
    buttons: tuple[Button, ...]


@dataclass(frozen=True, slots=True)
class ChannelRow:
    name: str
    look: str
    state: str
    pending: int
    dead: int
    last_sent: Time | None
    error: str


@dataclass(frozen=True, slots=True)
class DeadRow:
    id: int
    kind: str
    line: str
    channel: str
    error: str
    created: Time | None


@dataclass(frozen=True, slots=True)
class Words:
    """Says a sight in one language, with times as people there have them."""

    t: Texts
    zone: tzinfo

    def time(self, instant: Instant | None, now: Instant) -> Time | None:
        """The time of day, and the date where that is another one; the same in every language."""
        if instant is None or not 0 <= instant < FOREVER:
            return None
        when, today = (datetime.fromtimestamp(one / 1000, UTC).astimezone(self.zone) for one in (instant, now))
        shown = f"{when:%H:%M}" if when.date() == today.date() else f"{when:%Y-%m-%d %H:%M}"
        return Time(shapes.iso(instant) or "", shown)

    def line(self, line: Standing, sight: Sight) -> LineRow:
        entries, t = sight.past.entries, self.t
        return LineRow(
            name=line.name,
            label=wording.one_line(line.label),
            number=wording.number(line.number),
            look=_look(line.state),
            state=t.gettext(STATES[line.state]),
            why="" if line.reason is Reason.READ and not line.detail else why(line, t),
            since=self.time(line.since, sight.until),
            next_poll=self.time(line.next_poll_at, sight.until),
            counts=tuple(
                (t.gettext(word), count)
                for word, count in ((N_("new"), line.new), (N_("old"), line.old), (N_("saved"), line.saved))
            ),
            picture=picture(
                entries.get(line.number, ()),
                entries.get(EVERYONE, ()),
                sight.past.arrivals.get(line.number, ()),
                sight.until,
                t,
            ),
            buttons=self._buttons(_buttons(line)),
        )

    def _buttons(self, buttons: Iterable[Button]) -> tuple[Button, ...]:
        return tuple(Button(one.path, self.t.gettext(one.words)) for one in buttons)

    def message(self, view: MessageView, labels: Mapping[str, str], sight: Sight) -> MessageRow:
        voicemail, now = view.voicemail, sight.until
        number = wording.number(voicemail.caller) if voicemail.caller else self.t.gettext("number withheld")
        name = wording.one_line(voicemail.caller_name or "")
        return MessageRow(
            key=" ".join(view.key),
            caller="" if name == voicemail.caller else name,
            number=number,
            dial=voicemail.caller or "" if wording.is_e164(voicemail.caller) else "",
            line=wording.one_line(labels.get(view.line, view.line)),
            length="" if voicemail.length is None else wording.length(voicemail.length),
            received=self.time(view.voicemail.received_at or view.first_seen_at, now),
            is_new=view.left_new_at is None,
            acked=self.time(view.acked_at, now),
            snoozed=self.time(view.snoozed_until, now),
            left=self.time(view.left_new_at, now),
            told=tuple(self._told(one, now) for one in sight.told.get(view.alert_id or 0, ())),
            buttons=self._buttons(_message_buttons(view)),
        )

    def _told(self, told: Told, now: Instant) -> tuple[str, str, Time | None]:
        return told.channel, self.t.gettext(_became(told)), self.time(told.sent_at, now)

    def channel(self, view: ChannelView, now: Instant) -> ChannelRow:
        standing = view.standing
        return ChannelRow(
            name=standing.name,
            look="good" if standing.state is ChannelState.OK else "bad",
            state=self.t.gettext(_CHANNELS[standing.state]),
            pending=view.pending,
            dead=view.dead,
            last_sent=self.time(standing.last_sent_at, now),
            error=standing.last_error or "",
        )

    def dead(self, owed: Owed, labels: Mapping[str, str], now: Instant) -> DeadRow:
        return DeadRow(
            id=owed.id,
            kind=owed.kind.value,
            line=wording.one_line(labels.get(owed.line or "", owed.line or "")),
            channel=owed.channel,
            error=owed.last_error or "",
            created=self.time(owed.created_at, now),
        )


def _became(told: Told) -> str:
    if told.in_digest:
        return _IN_DIGEST
    held = told.waits if told.state is DeliveryState.PENDING else None
    return _HELD[Held(held)] if held in set(Held) else _TOLD[told.state]


def _look(state: LineState) -> str:
    if state in shapes.IN_TROUBLE:
        return "bad"
    return "good" if state is LineState.OK else "still"


def _message_buttons(view: MessageView) -> tuple[Button, ...]:
    """For what was announced, and nobody has heard or seen to."""
    waits = view.alert_id is not None and view.left_new_at is None and view.acked_at is None
    return (ACK, SNOOZE_AN_HOUR) if waits else ()


def _buttons(line: Standing) -> tuple[Button, ...]:
    """What would be followed; the rest is not offered."""
    if not line.enabled:
        return ()
    resume = (ONE_MORE_TRY if line.state is LineState.REJECTED else RESUME,) if line.state in _RESUMABLE else ()
    if line.state is LineState.PAUSED:
        return resume
    poll = () if line.state is LineState.REJECTED else (POLL,)
    return (*poll, *resume, PAUSE_AN_HOUR, PAUSE)
