"""The page: what is shown at /, how it stays live, who logs in, and what its buttons ask for."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import parse_qsl

from vmwatch import __version__, languages, settings
from vmwatch.ledger import Ledger
from vmwatch.links import act_of
from vmwatch.web.acts import Hands, said
from vmwatch.web.asked import Answer, BodyError, Request, refused
from vmwatch.web.door import is_token
from vmwatch.web.drawing import Drawing, Parts
from vmwatch.web.facts import Facts
from vmwatch.web.kept import Kept
from vmwatch.web.live import Live
from vmwatch.web.session import LASTS, NAME, Guesses, Session
from vmwatch.web.sight import Sight, see
from vmwatch.web.statics import Statics
from vmwatch.web.taps import Taps
from vmwatch.web.view import LANGUAGE, View, language_of, view_of

FRESH_S = 1.0
MOST_FIELDS = 10
MOST_VIEWS = 100
"""Views whose latest parts are remembered."""
HTML = "text/html; charset=utf-8"
_HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    # Without a referrer browsers would not say of a form which site sent it.
    ("Referrer-Policy", "same-origin"),
    ("Vary", "Accept-Language, Cookie"),
)
SHOWN = ("/", "/events")


class Page:
    """`web` tells the settings of the moment."""

    def __init__(self, facts: Facts, ledger: Ledger, hands: Hands | None, web: Callable[[], settings.Web]) -> None:
        self._facts = facts
        self._ledger = ledger
        self._web = web
        self._nonce = secrets.token_bytes(32)
        self._process = secrets.token_hex(8)
        self._guesses = Guesses()
        self._acts = hands.by_path() if hands is not None else {}
        self._ring = hands.ring if hands is not None else lambda: None
        self._drawing = Drawing(languages.texts, facts.zone)
        self._sights: Kept[Sight] = Kept(FRESH_S)
        self._drawn: Kept[Parts] = Kept(FRESH_S)
        self._latest: dict[View, tuple[Sight, Parts]] = {}
        self._live = Live(self._parts, self._process)
        self._taps = Taps(facts, ledger, hands.do, self._drawing) if hands is not None else None
        self._statics = Statics()
        self.open_paths = frozenset(self._statics.tags)
        """What strangers may read, too: it says nothing of what there is."""
        self.forms = frozenset({"/login", "/logout", *self._acts})

    def end_streams(self) -> None:
        """Whoever looks has to ask again."""
        self._live.end()

    def is_known(self, request: Request) -> bool:
        """Whether the browser is logged in."""
        return self._session.knows(request.cookie, self._now())

    def is_link(self, path: str) -> bool:
        """Whether it may be the path of a link in an alert."""
        return self._taps is not None and act_of(path) is not None

    async def tapped(self, request: Request) -> Answer:
        """To somebody who followed such a link."""
        assert self._taps is not None, "`is_link` said so"  # noqa: S101
        answer, is_done = await self._taps.answer(request)
        if is_done:
            self._changed()
        return answer

    async def answer(self, request: Request) -> Answer:
        """To a request that is let in. Raises UsageError, LedgerError."""
        if request.path in self.open_paths:
            return self._statics.answer(request)
        if request.path in self.forms:
            return await self._posted(request)
        return await (self._events(request) if request.path == "/events" else self._whole(request))

    # ---- looking ----

    async def _whole(self, request: Request) -> Answer:
        view = view_of(request, languages.names(), known=("told", "of", "why"))
        parts, t = await self._parts(view), languages.texts(view.language)
        html = self._drawing.whole(
            "page.html",
            view.language,
            parts=parts.sections,
            version=parts.version,
            view=view,
            languages=languages.names(),
            done=said(dict(request.query), t),
            form_key=self._session.form_key(request.cookie),
            has_token=self._web().token is not None,
            process=self._process,
            release=__version__,
        )
        return Answer(200, HTML, html.encode(), (*_HEADERS, *_choice(request)))

    async def _events(self, request: Request) -> Answer:
        if request.site not in ("", "same-origin"):  # it could not be read there, but would take up room
            return refused(403, "another site asked for this: nothing is told")
        view = view_of(request, languages.names(), known=("seen",))
        parts = await self._parts(view)  # what can't be read is refused before anything is promised
        stream = partial(self._live.stream, view, parts, dict(request.query).get("seen", ""))
        # nginx would collect a page's worth of it first.
        return Answer(200, "text/event-stream", b"", (("X-Accel-Buffering", "no"),), stream)

    async def _parts(self, view: View) -> Parts:
        return await self._drawn.get(view, partial(self._draw, view))

    async def _look(self) -> Sight:
        facts = self._facts
        return await see(self._ledger, facts.clock, facts.concerns, facts.book())

    async def _draw(self, view: View) -> Parts:
        sight = await self._sights.get("sight", self._look)
        known = self._latest.get(view)
        if known is not None and known[0] == sight:
            return known[1]
        parts = self._drawing.parts(sight, view)
        if len(self._latest) >= MOST_VIEWS:
            self._latest.clear()
        self._latest[view] = sight, parts
        return parts

    # ---- logging in ----

    def login_form(self, request: Request, wrong: str = "", status: int = 401) -> Answer:
        html = self._drawing.whole("login.html", language_of(request, languages.names()), wrong=wrong)
        return Answer(status, HTML, html.encode(), _HEADERS)

    async def _login(self, request: Request, form: Mapping[str, str]) -> Answer:
        now, t = self._now(), languages.texts(language_of(request, languages.names()))
        wait = self._guesses.wait(now)
        if wait:
            words = t.gettext("Too many wrong tokens. Try again in %(seconds)d s.") % {"seconds": wait}
            return self.login_form(request, words, 429)
        if not is_token(form.get("token", ""), self._web()):
            self._guesses.wrong()
            return self.login_form(request, t.gettext("This is not the token of web.token."), 403)
        secure = "; Secure" if request.origin.startswith("https:") else ""
        cookie = f"{NAME}={self._session.cookie(now)}; Path=/; Max-Age={LASTS // 1000}; HttpOnly; SameSite=Strict"
        return _elsewhere("/", ("Set-Cookie", cookie + secure))

    # ---- what the buttons ask for ----

    async def _posted(self, request: Request) -> Answer:
        form = await _form(request)
        if request.path == "/login":
            return await self._login(request, form)
        if not self._session.is_form_key(form.get("form_key", ""), request.cookie):
            return self.refusal(request, 403, "the page is older than vmwatch's start or your login: load it again")
        if request.path == "/logout":
            return _elsewhere("/", ("Set-Cookie", f"{NAME}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"))
        done = await self._acts[request.path](form)
        self._changed()
        return _elsewhere(f"/?{done.query}")

    def _changed(self) -> None:
        """The daemon is to look at once, and whoever looks next is shown it."""
        self._ring()
        self._sights.forget()
        self._drawn.forget()

    def refusal(self, request: Request, status: int, sentence: str, *headers: tuple[str, str]) -> Answer:
        """As a page to a browser, as JSON to everything else."""
        if "text/html" not in request.accept:
            return refused(status, sentence, *headers)
        html = self._drawing.whole("refused.html", language_of(request, languages.names()), sentence=sentence)
        return Answer(status, HTML, html.encode(), (*_HEADERS, *headers))

    @property
    def _session(self) -> Session:
        token = self._web().token
        return Session(self._nonce, token.get_secret_value() if token is not None else None)

    def _now(self) -> int:
        return self._facts.clock.now()


def _choice(request: Request) -> tuple[tuple[str, str], ...]:
    """Who chose a language gets the page in it from then on."""
    chosen = dict(request.query).get("lang")
    cookie = f"{LANGUAGE}={chosen}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Strict"
    return (("Set-Cookie", cookie),) if chosen else ()


def _elsewhere(path: str, *headers: tuple[str, str]) -> Answer:
    return Answer(303, "text/plain; charset=utf-8", b"", (("Location", path), *headers))


async def _form(request: Request) -> Mapping[str, str]:
    """Raises BodyError."""
    try:
        pairs = parse_qsl((await request.body()).decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise BodyError(400, "this is no form of the page's") from None
    if len(dict(pairs)) < len(pairs):
        raise BodyError(400, "the form names something twice")
    return dict(pairs)
