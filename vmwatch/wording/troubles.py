"""The words for what is wrong, or right again, with a line, a channel, the store; and for a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from vmwatch.models import Alert, Reason
from vmwatch.texts import N_
from vmwatch.wording import plain
from vmwatch.wording.style import Style, Text

Words: TypeAlias = Callable[[Alert, Style], Text]

REASONS: Mapping[Reason, str] = {
    Reason.READ: N_("the mailbox was read"),
    Reason.FIRST_SIGHT: N_("the mailbox was read for the first time"),
    Reason.NOTHING_NEW: N_("nothing new"),
    Reason.NEW_MESSAGES: N_("new voicemails"),
    Reason.PIN_REJECTED: N_("the operator rejected the PIN"),
    Reason.PIN_LOCKED: N_("the operator locked the login after too many wrong PINs"),
    Reason.STILL_LOCKED: N_("the operator still keeps the login locked"),
    Reason.NOT_ENABLED: N_("voicemail is not enabled for this number"),
    Reason.UNKNOWN_NUMBER: N_("the operator does not know this number"),
    Reason.BLACKLISTED: N_("the operator blocks this machine's address"),
    Reason.REFUSAL_UNCLEAR: N_("the operator refused without a clear reason"),
    Reason.REFUSED_TWICE: N_("the operator refused twice without a clear reason"),
    Reason.THROTTLED: N_("the operator asked to be asked less often"),
    Reason.OPERATOR_ERROR: N_("the operator reported an error of its own"),
    Reason.GATEWAY_ERROR: N_("a gateway in front of the operator reported an error"),
    Reason.NOT_THE_OPERATOR: N_("something other than the operator answered"),
    Reason.NO_CONNECTION: N_("no connection to the operator"),
    Reason.TIMEOUT: N_("the operator did not answer in time"),
    Reason.CONNECTION_LOST: N_("the connection to the operator broke off"),
    Reason.ATTEMPT_LOST: N_("vmwatch stopped before the operator's answer was noted"),
    Reason.VERDICT_LOST_TWICE: N_("the operator's answer was lost twice"),
    Reason.NOT_READ_YET: N_("not read yet"),
    Reason.PIN_CHANGED: N_("the PIN was changed in the configuration"),
    Reason.RESUMED: N_("resumed by a person"),
    Reason.PAUSED: N_("paused by a person"),
    Reason.DISABLED: N_("switched off in the configuration"),
}
"""Every reason in plain words, without a capital letter and a full stop, to be put into a sentence."""


def any_line(words: Words) -> Words:
    """A blocked address is told the same way whichever line's poll met it."""
    return lambda alert, style: (_blocked if alert.reason is Reason.BLACKLISTED else words)(alert, style)


def rejected(alert: Alert, style: Style) -> Text:
    cure = style.gettext("Correct the PIN in the configuration and reload vmwatch: it tries a changed PIN once.")
    if alert.reason is not Reason.PIN_REJECTED:
        cure = style.gettext("Check that the PIN in the configuration is right.")
    return _trouble(
        style.gettext("{line}: voicemail is no longer watched", line=style.line(alert)),
        _happened(alert, style, style.gettext("the operator refused the login")),
        style.gettext("vmwatch no longer asks for this line: another failed login could lock the mailbox."),
        cure,
        _command(alert, style, style.gettext("If the PIN is right, allow one more try")),
    )


def locked(alert: Alert, style: Style) -> Text:
    return _trouble(
        style.gettext("{line}: voicemail is locked", line=style.line(alert)),
        _happened(alert, style, style.gettext("the operator locked the login")),
        _waits(alert, style, style.gettext("vmwatch waits, longer each time, and tells you when it is over.")),
        style.gettext("Check the PIN in the configuration, and ask the operator to unlock the mailbox."),
        _command(alert, style, style.gettext("Once it is unlocked, or to try at once")),
    )


def not_enabled(alert: Alert, style: Style) -> Text:
    return _trouble(
        style.gettext("{line}: voicemail is not enabled", line=style.line(alert)),
        _happened(alert, style, style.gettext(REASONS[Reason.NOT_ENABLED])),
        _waits(alert, style, style.gettext("vmwatch looks again once a day.")),
        style.gettext("Ask your reseller to switch voicemail on for this number."),
        _command(alert, style, style.gettext("To look at once")),
    )


def unknown_number(alert: Alert, style: Style) -> Text:
    return _trouble(
        style.gettext("{line}: the operator does not know this number", line=style.line(alert)),
        _happened(alert, style, style.gettext(REASONS[Reason.UNKNOWN_NUMBER])),
        _waits(alert, style, style.gettext("vmwatch looks again once a day.")),
        style.gettext("Check the number in the configuration, and that it is with this operator."),
        _command(alert, style, style.gettext("To look at once")),
    )


def unreachable(alert: Alert, style: Style) -> Text:
    return _trouble(
        style.gettext("{line}: voicemail cannot be read", line=style.line(alert)),
        _happened(alert, style, style.gettext("the operator cannot be reached")),
        _waits(alert, style, style.gettext("vmwatch keeps trying and tells you when it is over.")),
        style.gettext("Nothing needs to be done unless it lasts; this shows how it stands: vmwatch status"),
    )


def stale(alert: Alert, style: Style) -> Text:
    last = _since(alert, style, N_("It was last read {when}."))
    overdue = style.gettext("It should have been read three times since.")
    return _trouble(
        style.gettext(
            "{line}: vmwatch does not read voicemail, though nothing is wrong with the line", line=style.line(alert)
        ),
        f"{last} {overdue}".lstrip(),
        _which_line(alert, style),
        style.gettext("This is vmwatch's own fault. Start it again, as with: systemctl restart vmwatch"),
        _how_it_stands(style),
    )


def _blocked(alert: Alert, style: Style) -> Text:
    waits = style.gettext("This concerns every line: vmwatch waits for hours, and tells you when it is over.")
    unblocked = style.gettext("Once it is unblocked")
    return _trouble(
        style.gettext("Voicemail is not being watched: this machine's address is blocked"),
        _happened(alert, style, style.gettext(REASONS[Reason.BLACKLISTED])),
        _waits(alert, style, waits),
        style.gettext("Ask the operator to unblock the address this machine is seen from."),
        _command(alert, style, unblocked) or _how_it_stands(style),
    )


def recovered(alert: Alert, style: Style) -> Text:
    everything = alert.number is None and not alert.subject
    title = style.gettext("{line}: voicemail is watched again", line=style.line(alert))
    if everything:
        title = style.gettext("Voicemail is being watched again")
    since = _since(alert, style, N_("It had been in trouble since {when}."))
    over = style.gettext("The trouble is over.")
    return Text(title, f"{over} {since}".rstrip())


def channel_failing(alert: Alert, style: Style) -> Text:
    name, detail = plain.one_line(alert.subject), plain.one_line(alert.detail)
    nothing = style.gettext("No alert could be delivered on this channel.")
    if alert.since is not None:
        nothing = _since(alert, style, N_("Since {when} no alert could be delivered on this channel."))
    error = style.gettext("Last error: {error}.", error=detail) if detail else ""
    return _trouble(
        style.gettext("Channel {channel}: alerts do not get through", channel=name),
        f"{nothing} {error}".rstrip(),
        style.gettext("vmwatch keeps its alerts, tries again, and tells you when it works."),
        style.gettext("This shows what waits: vmwatch outbox"),
        style.gettext("This tries the channel: vmwatch test {channel}", channel=name),
    )


def channel_recovered(alert: Alert, style: Style) -> Text:
    since = _since(alert, style, N_("It had been failing since {when}."))
    title = style.gettext("Channel {channel} works again", channel=plain.one_line(alert.subject))
    again = style.gettext("Alerts get through again.")
    return Text(title, f"{again} {since}".rstrip())


def store_failing(alert: Alert, style: Style) -> Text:
    return _trouble(
        style.gettext("Voicemail is not being watched: vmwatch can't write to its store"),
        f"{alert.detail}." if alert.detail else "",  # The ledger's own words: nothing foreign is in them.
        _since(alert, style, N_("Since: {when}")),
        style.gettext(
            "vmwatch polls nothing that it can't note. What is new stays at the operator, and what was noted is kept."
        ),
        style.gettext("It goes on by itself when the store can be written, and tells you then."),
    )


def store_recovered(alert: Alert, style: Style) -> Text:
    since = _since(alert, style, N_("It could not be since {when}."))
    again = style.gettext("vmwatch's store can be written again.")
    return Text(style.gettext("Voicemail is being watched again"), f"{again} {since}".rstrip())


def test(alert: Alert, style: Style) -> Text:
    name = plain.one_line(alert.subject)
    reach = style.gettext("Alerts reach the channel {channel}.", channel=name)
    return Text(style.gettext("Test from vmwatch"), reach if name else style.gettext("Alerts reach this channel."))


def _trouble(title: str, *sentences: str) -> Text:
    return Text(title, "\n".join(filter(None, sentences)))


def _happened(alert: Alert, style: Style, otherwise: str) -> str:
    """What went wrong, on which line, since when: `The operator rejected the PIN.` and a line for each fact."""
    what = style.gettext(REASONS[alert.reason]) if alert.reason is not None else otherwise
    detail = style.detail(alert)
    found = [f"{what[0].upper()}{what[1:]}{f' ({detail})' if detail else ''}."]
    return "\n".join(filter(None, [*found, _which_line(alert, style), _since(alert, style, N_("Since: {when}"))]))


def _which_line(alert: Alert, style: Style) -> str:
    return style.gettext("Line: {line}", line=style.line_in_full(alert)) if style.number(alert.number) else ""


def _since(alert: Alert, style: Style, words: str) -> str:
    return style.gettext(words, when=style.moment(alert.since)) if alert.since is not None else ""


def _waits(alert: Alert, style: Style, words: str) -> str:
    if alert.next_poll_at is None:
        return words
    when = style.gettext("Next try: {when}.", when=style.moment(alert.next_poll_at))
    return f"{words} {when}"


def _command(alert: Alert, style: Style, purpose: str) -> str:
    """The very command; by number, for a line's number names it wherever its label does not."""
    if not alert.number:
        return ""
    line = plain.one_line(alert.number) if style.is_open else style.gettext("LINE")
    return f"{purpose}: vmwatch resume {line}"


def _how_it_stands(style: Style) -> str:
    return style.gettext("This shows how the lines stand: vmwatch status")
