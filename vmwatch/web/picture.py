"""A line's last 24 hours as a picture: how it stood, and when messages came. Pure geometry and the words for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from vmwatch.ledger import Entry, Overall
from vmwatch.models import DAY, HOUR, MINUTE, Duration, Instant, LineState
from vmwatch.texts import N_, Texts

STEP: Duration = 5 * MINUTE
"""What one unit of the picture's width stands for; it moves on once in so much time."""
WIDTH = DAY // STEP


class Stretch(StrEnum):
    """How a line stood for a while."""

    READ = "read"
    FAILING = "failing"
    LOCKED = "locked"
    OFF = "off"
    """It was not to be read: paused, or no vmwatch ran."""


WORDS = {
    Stretch.READ: N_("read"),
    Stretch.FAILING: N_("failing"),
    Stretch.LOCKED: N_("locked or refused"),
    Stretch.OFF: N_("paused or not running"),
}
_OF_STATE = {
    LineState.OK: Stretch.READ,
    LineState.FAILING: Stretch.FAILING,
    LineState.WAITING: Stretch.OFF,
    LineState.PAUSED: Stretch.OFF,
}


@dataclass(frozen=True, slots=True)
class Bar:
    stretch: Stretch
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Picture:
    bars: tuple[Bar, ...]
    ticks: tuple[float, ...]
    """Where messages came."""
    words: str
    """The same for those who don't see it."""


def edge(now: Instant) -> Instant:
    """Where the picture ends: the present lies in its last unit."""
    return now - now % STEP + STEP


def picture(
    own: Sequence[Entry], everyone: Sequence[Entry], came: Sequence[Instant], end: Instant, t: Texts
) -> Picture:
    """A line's day until `end`, of its own entries and those that are of all lines, the earliest first."""
    begin = end - DAY
    spans = [span for span in _spans(own, everyone, end) if span[2] > begin]
    bars = tuple(_bar(stretch, max(since, begin) - begin, until - begin) for stretch, since, until in spans)
    arrived = [at for at in came if begin <= at < end]
    lasted = {
        stretch: sum(until - max(since, begin) for one, since, until in spans if one is stretch) for stretch in Stretch
    }
    ticks = tuple(sorted({(at - begin) // STEP + 0.5 for at in arrived}))
    return Picture(bars, ticks, _words(lasted, len(arrived), t))


def _spans(own: Sequence[Entry], everyone: Sequence[Entry], end: Instant) -> Iterator[tuple[Stretch, Instant, Instant]]:
    """How the line stood from when until when; neighbours that are alike are one."""
    changes = sorted({entry.at for entry in (*own, *everyone) if own and own[0].at <= entry.at < end})
    current: tuple[Stretch, Instant, Instant] | None = None
    for since, until in pairwise([*changes, end]):
        stretch = _stretch(_at(own, since), _at(everyone, since))
        if current is not None and current[0] is stretch:
            current = (stretch, current[1], until)
            continue
        if current is not None:
            yield current
        current = (stretch, since, until)
    if current is not None:
        yield current


def _at(entries: Iterable[Entry], instant: Instant) -> str:
    """The state that held then."""
    state = ""
    for entry in entries:
        if entry.at > instant:
            break
        state = entry.state
    return state


def _stretch(own: str, overall: str) -> Stretch:
    if overall == Overall.STOPPED:
        return Stretch.OFF
    stretch = _OF_STATE.get(LineState(own), Stretch.LOCKED)
    return Stretch.FAILING if overall == Overall.BLOCKED and stretch is Stretch.READ else stretch


def _bar(stretch: Stretch, since: Duration, until: Duration) -> Bar:
    return Bar(stretch, round(since / STEP, 2), round((until - since) / STEP, 2))


def _words(lasted: dict[Stretch, Duration], messages: int, t: Texts) -> str:
    """`Last 24 hours: read 23 h 10 min, failing 50 min; 3 voicemails`"""
    parts = [t.gettext(WORDS[one]) + " " + _span(lasted[one]) for one in Stretch if lasted[one] >= MINUTE]
    voicemails = t.ngettext("%(count)d voicemail", "%(count)d voicemails", messages) % {"count": messages}
    stood = ", ".join(parts) or t.gettext("nothing is known")
    day = t.gettext("Last 24 hours")
    return f"{day}: {stood}; {voicemails}"


def _span(duration: Duration) -> str:
    hours, minutes = duration // HOUR, duration % HOUR // MINUTE
    return " ".join(filter(None, (f"{hours} h" if hours else "", f"{minutes} min" if minutes or not hours else "")))
