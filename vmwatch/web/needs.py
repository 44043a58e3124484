"""What needs a person, and the very command to run. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vmwatch import wording
from vmwatch.models import ChannelState, LineState, Reason, Standing
from vmwatch.texts import N_, Texts
from vmwatch.web.sight import Concerns, Sight

MOST = 20
"""Needs that are shown."""

_ADVICE = {
    LineState.REJECTED: N_("Correct its PIN in the configuration and reload vmwatch, or allow one more try:"),
    LineState.LOCKED: N_("Ask the operator to unlock it. Once that is done:"),
    LineState.NOT_ENABLED: N_("Ask your reseller to switch voicemail on for this number. To look at once:"),
    LineState.UNKNOWN_NUMBER: N_("Check the number in the configuration. To look at once:"),
}


@dataclass(frozen=True, slots=True)
class Need:
    what: str
    advice: str
    command: str = ""


def needs(sight: Sight, t: Texts) -> tuple[Need, ...]:
    """The gravest first."""
    found = (*_of_vmwatch(sight.concerns, t), *_of_processes(sight, t), *_of_lines(sight, t), *_of_channels(sight, t))
    if len(found) <= MOST:
        return found
    more = len(found) - MOST
    and_more = t.gettext("and %(count)d more") % {"count": more}
    return (*found[:MOST], Need(and_more, "", "vmwatch status"))


def _of_vmwatch(concerns: Concerns, t: Texts) -> Iterator[Need]:
    if concerns.store:
        what = t.gettext("The store takes nothing")
        advice = t.gettext("Nothing is polled until it can be noted. It goes on by itself once that is mended.")
        yield Need(f"{what}: {concerns.store}", advice)
    if concerns.refusal:
        what = t.gettext("The new configuration is refused, the old one stays")
        yield Need(f"{what}: {concerns.refusal}", t.gettext("Mend it, and look:"), "vmwatch check")


def _of_processes(sight: Sight, t: Texts) -> Iterator[Need]:
    for sentence in sight.disagreements:
        what = t.gettext("Processes on the same store are configured differently")
        yield Need(f"{what}: {sentence}", t.gettext("Make their configurations alike, and look:"), "vmwatch status")


def _of_lines(sight: Sight, t: Texts) -> Iterator[Need]:
    if any(line.reason is Reason.BLACKLISTED for line in sight.lines):
        advice = t.gettext("Ask the operator to unblock the address that this machine is seen from.")
        yield Need(_sentence(t.gettext(wording.REASONS[Reason.BLACKLISTED])), advice, "vmwatch status")
    for line in sight.lines:
        if line.enabled and line.state in _ADVICE:
            yield Need(f"{line.label}: {why(line, t)}", t.gettext(_ADVICE[line.state]), f"vmwatch resume {line.name}")
    labels = {line.name: line.label for line in sight.lines}
    for name in sight.concerns.stale:
        what = t.gettext("is not read, though nothing is wrong with it")
        advice = t.gettext("This is vmwatch's own fault. Start it again, as with:")
        yield Need(f"{labels.get(name, name)}: {what}", advice, "systemctl restart vmwatch")


def _of_channels(sight: Sight, t: Texts) -> Iterator[Need]:
    for view in sight.channels:
        standing = view.standing
        if standing.state is ChannelState.FAILING:
            error = f" ({standing.last_error})" if standing.last_error else ""
            what = t.gettext("alerts do not get through")
            yield Need(f"{standing.name}: {what}{error}", t.gettext("Try it:"), f"vmwatch test {standing.name}")
    dead = sum(view.dead for view in sight.channels)
    if dead:
        what = t.ngettext("%(count)d alert was given up", "%(count)d alerts were given up", dead) % {"count": dead}
        yield Need(what, t.gettext("Send again what is dead:"), "vmwatch outbox retry")


def why(line: Standing, t: Texts) -> str:
    """The reason in plain words, and its detail."""
    detail = f" ({line.detail})" if line.detail else ""
    return t.gettext(wording.REASONS[line.reason]) + detail


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
