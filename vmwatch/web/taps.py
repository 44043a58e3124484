"""Links in alerts, as they are followed: what one shows to whoever has it, and what its one button does.

The signature is the permission: no login, no token, no secret of the form's own. It is shown which line was called and
when, and nothing of who called.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum

from vmwatch import languages, links, wording
from vmwatch.errors import LedgerError
from vmwatch.ledger import Ledger, MessageView
from vmwatch.models import Act, Instant
from vmwatch.texts import N_, Texts
from vmwatch.web.asked import Answer, Request
from vmwatch.web.drawing import Drawing
from vmwatch.web.facts import Facts
from vmwatch.web.view import language_of

HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'",
    ),
    ("Vary", "Accept-Language, Cookie"),
)
"""What is not here is as strict as anywhere: neither kept by anybody, nor told as a referrer."""
AWAY = N_("vmwatch can't do that just now. Try again in a minute.")


class Stage(StrEnum):
    """How the message stands to which a link leads."""

    WAITS = "waits"
    """There is something to do."""
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    UNFOLLOWED = "unfollowed"
    """No reminder would come at the end of a snooze: its alert was kept back because of who called."""
    HEARD = "heard"
    GONE = "gone"


_REFUSED = {
    links.Refused.FORGED: (403, N_("This link is not one of vmwatch's, or a part of it is missing.")),
    links.Refused.EXPIRED: (410, N_("This link is too old: they are good for 7 days. A newer alert has a newer one.")),
}
_OVER = {
    Stage.UNFOLLOWED: N_("Nobody is reminded of this voicemail, for it was sent only because a person asked for it."),
    Stage.HEARD: N_("This voicemail is no longer new: somebody has probably heard it."),
    Stage.GONE: N_("This voicemail is not known any more."),
}
_ALREADY = {
    Stage.ACKNOWLEDGED: N_("It was acknowledged already: %(when)s."),
    Stage.SNOOZED: N_("It is snoozed already, until %(when)s."),
}
_DONE = {
    Stage.ACKNOWLEDGED: N_("Acknowledged. Nobody is reminded of it any more."),
    Stage.SNOOZED: N_("Snoozed until %(when)s. If nobody has heard it by then, a reminder comes."),
}
_ASKED = {
    Act.ACK: (N_("Acknowledge this voicemail?"), N_("Nobody is reminded of it any more.")),
    Act.SNOOZE: (N_("Snooze this voicemail?"), N_("No alerts about it for an hour, and then a reminder.")),
}
_BUTTONS = {Act.ACK: wording.ACKNOWLEDGE, Act.SNOOZE: wording.SNOOZE}


class Taps:
    """`do` raises LedgerError."""

    def __init__(
        self, facts: Facts, ledger: Ledger, do: Callable[[Act, MessageView], Awaitable[None]], drawing: Drawing
    ) -> None:
        self._facts = facts
        self._ledger = ledger
        self._do = do
        self._drawing = drawing

    async def answer(self, request: Request) -> tuple[Answer, bool]:
        """What is shown, and whether something was done."""
        language = language_of(request, languages.names())
        try:
            return await self._followed(request, language)
        except LedgerError:  # whose words name the store
            return self._sentence(503, languages.texts(language).gettext(AWAY), language), False

    async def _followed(self, request: Request, language: str) -> tuple[Answer, bool]:
        t, now = languages.texts(language), self._facts.clock.now()
        key = await self._ledger.keys.known()
        permit = links.read(request.path, key, now)
        if isinstance(permit, links.Refused):
            status, words = _REFUSED[permit]
            return self._sentence(status, t.gettext(words), language), False
        message = await self._message(permit, key)
        stage = stage_of(permit.act, message, now)
        is_done = message is not None and stage is Stage.WAITS and request.method == "POST"
        if message is not None and is_done:
            await self._do(permit.act, message)
            message = await self._message(permit, key)
            stage = stage_of(permit.act, message, now)
        if message is None or stage in _OVER:
            return self._sentence(410, t.gettext(_OVER[stage]), language), is_done
        return await self._shown(permit.act, message, stage, is_done, language), is_done

    async def _message(self, permit: links.Permit, key: bytes) -> MessageView | None:
        found = await self._ledger.messages.with_id(permit.message)
        return next((one for one in found if links.tag(one.number, key) == permit.tag), None)

    async def _shown(self, act: Act, message: MessageView, stage: Stage, is_done: bool, language: str) -> Answer:
        t = languages.texts(language)
        line = await self._ledger.lines.standing(message.number)
        received = self._when(message.voicemail.received_at or message.first_seen_at, t)
        when = self._when(message.acked_at or message.snoozed_until, t)
        heading, about = _ASKED[act]
        said = about if stage is Stage.WAITS else (_DONE if is_done else _ALREADY)[stage]
        facts = t.gettext("%(line)s, received %(when)s")
        return self._page(
            200,
            language,
            heading=t.gettext(heading if stage is Stage.WAITS else _BUTTONS[act]),
            which=facts % {"line": wording.one_line(line.label if line else message.line), "when": received},
            sentence=t.gettext(said) % {"when": when},
            button=t.gettext(_BUTTONS[act]) if stage is Stage.WAITS else "",
        )

    def _when(self, instant: Instant | None, t: Texts) -> str:
        return "" if instant is None else wording.moment(instant, self._facts.zone, t)

    def _sentence(self, status: int, sentence: str, language: str) -> Answer:
        heading = languages.texts(language).gettext("Nothing was done")
        return self._page(status, language, heading=heading, which="", sentence=sentence, button="")

    def _page(self, status: int, language: str, **words: str) -> Answer:
        # Seen from itself alone, for a proxy may have put it into a folder.
        html = self._drawing.whole("tap.html", language, root="../", **words)
        return Answer(status, "text/html; charset=utf-8", html.encode(), HEADERS)


def stage_of(act: Act, message: MessageView | None, now: Instant) -> Stage:
    """What an act still has to do. Who snoozed may acknowledge after all; what is acknowledged stays so."""
    if message is None:
        return Stage.GONE
    if message.left_new_at is not None:
        return Stage.HEARD
    if message.acked_at is not None:
        return Stage.ACKNOWLEDGED
    if act is Act.SNOOZE and message.alert_id is None:
        return Stage.UNFOLLOWED
    is_snoozed = act is Act.SNOOZE and (message.snoozed_until or 0) > now
    return Stage.SNOOZED if is_snoozed else Stage.WAITS
