"""Sending an alert through Apprise: one channel, one attempt, bounded in time, and what became of it.

**What runs where.** Apprise blocks, so each send has a daemon thread of its own and the loop waits beside it.
Not `asyncio.to_thread` and not `async_notify`: their pools are shared, so that one hanging channel delays the
others, and the interpreter's exit waits for their threads. Everything is built anew for each send, for Apprise
paces (sleeps) per object; pacing is the outbox's business.

**What callers wrote.** Apprise 2.2, told that a body is text, converts it to the plug-in's format: HTML is
escaped, Markdown gets backslashes, text stays. It converts the title in the same way only where the service has
none and the title becomes the body's first line; a title with a field of its own stays as it is. It leaves
`@mentions` everywhere, and it takes for text what Discord, Mattermost and others draw as markup whatever it is
called. Where the plug-in's format is Markdown, Apprise is told that the body is Markdown already: its backslashes
would be read aloud, mailed and put into pagers by services that pass the text on. What is added here, to title
and body alike, per channel:

- text (e-mail, SMS, ntfy, webhooks): nothing, the characters stay;
- HTML (Telegram, some mail): an invisible space inside `@name`, `http://` and `www.`: nobody is called, nothing links;
- Markdown, and the services that draw markup in what is called text: the same, and the full-width twin of each
  character that could become active; no line begins a list or underlines a heading, no `&amp;` becomes another
  character. Not backslashes: Slack, Google Chat and WhatsApp do not know them;
- Markdown: two blanks end a line, which would else run into the next.

**ntfy** is the one service that we speak to by ourselves, where we can (`ntfy`): to replace and clear what it shows.

**Calling back.** What is harmless by then gets a `tel:` link, made of a number in E.164 and nothing else: in Markdown,
in HTML mail, and as ntfy's tap and button. Elsewhere the number stands there for people's phones to notice.
Our own links about a voicemail are made in the same places; elsewhere their URL stands there whole.

A line break in a title never becomes a mail header: titles are made one line here, whatever a plug-in does.

**What the machine's surroundings may do.** `HTTP_PROXY` and its kin are honoured: behind a proxy there is no
other way out. `~/.netrc` is not: its credentials would replace a channel's own token. Redirects are not
followed. An answer is read whole into memory, whatever its size: the unit's `MemoryMax=` is the limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import smtplib
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import apprise
import urllib3
import urllib3.exceptions
from apprise.plugins.base import NotifyBase
from apprise.utils.parse import parse_urls

from vmwatch import calls, ntfy
from vmwatch.models import SECOND, Duration, Outcome, Receipt
from vmwatch.wording import Tap, Text

MOST_ABANDONED = 4
"""Threads of one channel that may hang past their time limit before no further one is started."""

_UNBUILDABLE = "is not a URL that Apprise can build a channel from"
_HTTP_STATUS = re.compile(r"error=([1-5]\d\d)\b")
_TARGETS = (
    *("targets", "channels", "channel_ids", "topics", "rooms", "users", "dm_users", "groups", "devices", "phone"),
    *("target_phones", "target_groups", "target_contacts", "members", "events", "subreddits", "cc", "bcc"),
)
"""The attributes that plug-ins keep their targets in; several may add up."""
_DROPPED = ("invalid_targets", "_invalid_targets", "invalid_rooms")
_DESKTOPS = frozenset({"blink1", "dbus", "gio", "glib", "gnome", "kde", "macosx", "qt", "windows"})
_DRAWS_MARKUP = re.compile(
    "bluesky|bsky|deltachat|dingtalk|discord|feishu|flock|fluxer|gchat|groupme|guilded|hassio|humhub|jira"
    "|kakao|kakaotalk|lark|line|mastodon|matrix|misskey|mmost|nctalk|nostr|notifiarr|onebot|pushdeer|qq|revolt|rocket|ryver|schan"
    "|session|signal|slack|sogs|spugpush|stackfield|synology|threema|toot|tweet|twitter|viber|wechat|wecombot|whatsapp|wpush"
    "|wxpusher|x|xmpp|youlmk|zalo|zoom|zulip"
)
"""Services that draw markup, or call people, in what Apprise takes for text."""

_DRAWS_NO_LINKS = re.compile("discord|evolution|gchat|kook|reddit|whapi|whatsapp")
"""Services whose Markdown knows no links, or none to a telephone number: these would show it as it is written."""
_NTFY = re.compile("ntfys?://", re.IGNORECASE)

_ZERO_WIDTH = "\u200b"
_FULL_WIDTH = {ord(sign): ord(sign) + 0xFEE0 for sign in "#*<>[\\]_`|~"}
_LINK = re.compile(r"(?<=:)(?=//)|(?<=\bwww)(?=\.)", re.IGNORECASE)
_BLOCK = re.compile(r"^ *(?=(?:[-+]|[0-9]{1,9}[.)])(?: |$)|(?:-+|=+) *$)", re.MULTILINE)
"""Where Markdown would begin a list, or take the line above for a heading."""
_REFERENCE = re.compile(r"&(?=#?\w)")
_CALL = re.compile(r"\((?=(?:met|rol|chn)\))")
"""How KOOK calls people: `(met)all(met)`."""


def prepare() -> None:
    """Imports Apprise's plug-ins, which blocks for a quarter of a second, and shuts its loggers. Before READY."""
    _seclude()
    # It names the host, which for some services is the secret; whoever wrote `?verify=no` knows.
    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    apprise.Apprise.instantiate("json://localhost")


def objection(url: str) -> str | None:
    """Why this is not the URL of exactly one channel, as the end of a sentence; never a part of the URL."""
    if url != url.strip() or not url.isprintable():
        return "has white space around it, or control characters in it"
    several = parse_urls(url)  # type: ignore[no-untyped-call]
    if len(several) > 1:
        return f"stands for {len(several)} targets: give each a channel of its own"
    if url.partition(":")[0].lower() in _DESKTOPS:
        return "shows alerts on this machine's own desktop, which a daemon does not have"
    plugin = _build(url)
    return _UNBUILDABLE if plugin is None else _miscounted(plugin)


def _miscounted(plugin: NotifyBase) -> str | None:
    count = _count(plugin)
    if any(getattr(plugin, name, None) for name in _DROPPED):
        return "has a target that Apprise does not understand"
    if count == 0:
        return "has no target that Apprise understands"
    return f"stands for {count} targets: give each a channel of its own" if count > 1 else None


def _count(plugin: NotifyBase) -> int:
    """Apprise's own count leaves out copies of a mail, IRC's channels and what a batch sends at once."""
    lists = (getattr(plugin, name, None) for name in _TARGETS)
    listed = sum(len(found) for found in lists if isinstance(found, (list, tuple, set, dict)))
    if hasattr(plugin, "smtp_host"):
        return listed
    return max(listed, len(plugin) // (plugin.retry + 1))


class Channel:
    """A named channel. At most one send under way at a time is the caller's duty."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url
        self._threads: list[threading.Thread] = []

    def __repr__(self) -> str:
        return f"Channel({self.name!r})"

    async def send(
        self,
        text: Text,
        timeout: Duration,  # noqa: ASYNC109 - as the settings call it
        sequence: str = "",
        *,
        anew: bool = False,
    ) -> Receipt:
        """One attempt. UNKNOWN after `timeout` ms, with its thread left to itself; it never raises for the channel.

        `sequence`: what is shown by the same name is replaced, where the channel can; with a sound again if `anew`.
        The receipt says if it can.
        """
        letter = _in_ntfy(self._url, text)
        if letter is not None:
            publish = ntfy.publish_anew if anew else ntfy.publish
            return await publish(letter, sequence, timeout)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) > MOST_ABANDONED:
            return Receipt(Outcome.REFUSED, "earlier attempts still hang")
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        thread = threading.Thread(target=_run, args=(self._url, text, timeout, receipt), daemon=True)
        self._threads.append(thread)
        thread.start()
        try:
            return await asyncio.wait_for(receipt, timeout / SECOND)
        except TimeoutError:
            return Receipt(Outcome.UNKNOWN, f"no answer within {timeout / SECOND:g}s")

    async def clear(self, sequence: str, timeout: Duration) -> Receipt:  # noqa: ASYNC109 - the same
        """One attempt to take away what is shown by a name; done at once where the channel can't."""
        there = _ntfy_address(_build(self._url)) if _speaks_ntfy(self._url) else None
        return Receipt(Outcome.SENT, proves=False) if there is None else await ntfy.clear(there, sequence, timeout)


def _in_ntfy(url: str, text: Text) -> ntfy.Letter | None:
    """What we publish at ntfy by ourselves; None: Apprise does, or it is another service."""
    url, text, _ = _tappable(url, text)
    plugin = _build(url) if _speaks_ntfy(url) else None
    there = _ntfy_address(plugin)
    if plugin is None or there is None:
        return None
    said, _ = callable_back(harmless(text, plugin), plugin)
    return ntfy.letter(there, said.title, said.body)


def _speaks_ntfy(url: str) -> bool:
    return _NTFY.match(url) is not None and ntfy.way_is_known()


def _ntfy_address(plugin: NotifyBase | None) -> ntfy.Address | None:
    return None if plugin is None else ntfy.address(plugin, plugin.image_url(apprise.NotifyType.INFO))


def _run(url: str, text: Text, timeout: Duration, receipt: asyncio.Future[Receipt]) -> None:
    """The thread of one send. The loop may have stopped waiting, or be closed, when the result comes."""
    try:
        url, text, _ = _tappable(url, text)
        plugin = _build(url)
        found = Receipt(Outcome.REFUSED, _UNBUILDABLE) if plugin is None else attempt(plugin, text, timeout)
    except Exception as error:  # noqa: BLE001 - a hundred plug-ins by as many authors: none may take the daemon along
        found = Receipt(Outcome.REFUSED, _crashed(error))
    with contextlib.suppress(RuntimeError):
        receipt.get_loop().call_soon_threadsafe(_hand_over, receipt, found)


def _hand_over(receipt: asyncio.Future[Receipt], found: Receipt) -> None:
    if not receipt.done():
        receipt.set_result(found)


def attempt(plugin: NotifyBase, text: Text, timeout: Duration) -> Receipt:
    """Sends once through a plug-in that was just built, blocking for about `timeout` ms unless the answer drips."""
    _seclude()
    _bound(plugin, timeout)
    _seen.receipt = None
    sender = apprise.Apprise(asset=plugin.asset)
    sender.add(plugin)
    said, body_format = callable_back(harmless(text, plugin), plugin)
    with sender.notify(body=said.body, title=said.title, body_format=body_format) as result:
        if result:
            return Receipt(Outcome.SENT)
        return _refusal([entry.message for entry in result.logs()])


def _refusal(messages: list[str]) -> Receipt:
    """Apprise's texts hold hosts and tokens: nothing is taken from them but three digits."""
    status = next((found for message in messages if (found := _HTTP_STATUS.search(message))), None)
    if status is not None:
        return Receipt(Outcome.REFUSED, f"HTTP {status[1]}")
    return _seen.receipt or Receipt(Outcome.REFUSED, "refused")


@dataclass(frozen=True, slots=True)
class Shown:
    """What Apprise would be handed; `format` is text, markdown or html, `plain` the body as it is without either."""

    title: str
    body: str
    format: str
    plain: str
    buttons: tuple[Tap, ...] = ()


def shown(url: str, text: Text) -> Shown:
    """What `attempt` would send. Raises ValueError for a URL that `objection` objects to."""
    url, text, buttons = _tappable(url, text)
    plugin = _build(url)
    if plugin is None:
        raise ValueError(_UNBUILDABLE)
    plain = harmless(text, plugin)
    said, body_format = callable_back(plain, plugin)
    return Shown(said.title, said.body, body_format.value, plain.body, buttons)


def _tappable(url: str, text: Text) -> tuple[str, Text, tuple[Tap, ...]]:
    """Where buttons are part of the channel's URL, they are put there."""
    if not _NTFY.match(url):
        return url, text, ()
    buttons = calls.ntfy_buttons(url, text)
    return calls.in_ntfy_url(url, text), calls.without_lines(text) if buttons else text, buttons


def _build(url: str) -> NotifyBase | None:
    _seclude()
    return apprise.Apprise.instantiate(url, asset=asset())


def asset() -> apprise.AppriseAsset:
    """What Apprise is told of its surroundings: nothing on disk, no threads of its own, no redirects."""
    return apprise.AppriseAsset(
        app_id="vmwatch",
        app_desc="vmwatch",
        http_redirects=False,
        interpret_emojis=False,
        service_timeout=0,  # with a limit of its own Apprise would send from its shared pool
        storage_mode="memory",
    )


def _bound(plugin: NotifyBase, timeout: Duration) -> None:
    """What a URL's `?retry=`, `?optional=`, `?redirect=` and `?rto=` must not change: one attempt, told truly.

    The read limit lies just behind our own, so that silence ends as UNKNOWN and the thread soon after.
    """
    plugin.retry = 0
    plugin.optional = False
    plugin.redirects = False
    plugin.socket_read_timeout = timeout / SECOND + 1
    if hasattr(plugin, "smtp_host"):  # an SMTP session has but one limit, and servers that greet late on purpose
        plugin.socket_connect_timeout = timeout / SECOND + 1


def harmless(text: Text, plugin: NotifyBase) -> Text:
    """The text with nothing in it that the channel's service would act on; see the module's own words."""
    spoilt = _spoiler(plugin)
    body = calls.spared(replace(text, body=spoilt(text.body)), spoilt)
    if _format(plugin) is apprise.NotifyFormat.MARKDOWN:
        body = body.replace("\n", "  \n")
    return replace(text, title=spoilt(" ".join(text.title.split())), body=body)


def _spoiler(plugin: NotifyBase) -> calls.Spell:
    """What takes out of a text whatever the channel's service would act on."""
    is_markdown = _format(plugin) is apprise.NotifyFormat.MARKDOWN
    if is_markdown or any(map(_DRAWS_MARKUP.fullmatch, _protocols(plugin))):
        return _inert_markup
    return _inert if _is_html(plugin) else str


def callable_back(text: Text, plugin: NotifyBase) -> tuple[Text, apprise.NotifyFormat]:
    """A harmless text with a link to call back and our own links, and the format that it is in then.

    HTML is only spoken where the title has a field of its own: Apprise would not escape it in a body that is HTML.
    """
    markdown = _format(plugin) is apprise.NotifyFormat.MARKDOWN
    if markdown and not any(map(_DRAWS_NO_LINKS.fullmatch, _protocols(plugin))):
        body = calls.in_markdown(calls.taps_in_markdown(text), text.call)
        return replace(text, body=body), apprise.NotifyFormat.MARKDOWN
    if (text.call or text.taps) and _is_html(plugin) and plugin.title_maxlen > 0:
        escaped = partial(plugin.escape_html, convert_new_lines=True)
        html = calls.taps_in_html(replace(text, body=escaped(text.body)), escaped)
        return replace(text, body=calls.in_html(html, text.call)), apprise.NotifyFormat.HTML
    return text, _format(plugin)


def _is_html(plugin: NotifyBase) -> bool:
    return plugin.resolve_format(apprise.NotifyFormat.TEXT) is apprise.NotifyFormat.HTML


def _format(plugin: NotifyBase) -> apprise.NotifyFormat:
    """What Apprise is told that the text is: Markdown where nothing else would do, else text."""
    markdown = apprise.NotifyFormat.MARKDOWN
    return markdown if plugin.resolve_format(apprise.NotifyFormat.TEXT) is markdown else apprise.NotifyFormat.TEXT


def _inert(text: str) -> str:
    return _LINK.sub(_ZERO_WIDTH, text.replace("@", "@" + _ZERO_WIDTH))


def _inert_markup(text: str) -> str:
    text = _BLOCK.sub(_ZERO_WIDTH, _inert(text).translate(_FULL_WIDTH))
    return _CALL.sub("(" + _ZERO_WIDTH, _REFERENCE.sub("&" + _ZERO_WIDTH, text))


def _protocols(plugin: NotifyBase) -> list[str]:
    """The plug-in's schemes; not `plugin.schema`, which some turn into http."""
    kinds = (getattr(plugin, "protocol", None), getattr(plugin, "secure_protocol", None))
    return [scheme for kind in kinds if kind for scheme in ((kind,) if isinstance(kind, str) else kind)]


_seen = threading.local()
"""`receipt`: what the error that the plug-in of this thread last met comes to."""


class _Witness(logging.Filter):
    """Clamps a logger to WARNING, and sees which error a plug-in is dealing with when it logs.

    Apprise says "a connection error occurred" and keeps the error itself for DEBUG. Whether the message went
    out before is what decides between refused and unknown, so the logger stays open down to DEBUG, and here its
    records end: no handler, not Apprise's own capture either, gets to see one below WARNING.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = sys.exception()
        if error is not None:
            _seen.receipt = _verdict(error)
        return record.levelno >= logging.WARNING


_WITNESS = _Witness()
_TALKATIVE = {
    "apprise": logging.DEBUG,
    **dict.fromkeys(("urllib3", "requests_oauthlib", "oauthlib"), logging.WARNING),
}


def _seclude() -> None:
    """The loggers print tokens at DEBUG and hosts at WARNING: nothing leaves them. `result.logs()` still works."""
    os.environ.setdefault("NETRC", os.devnull)
    for name, level in _TALKATIVE.items():
        logger = logging.getLogger(name)
        if logger.level != level:  # setting it, even to the same, has every logger forget what it lets pass
            logger.setLevel(level)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
    logging.getLogger("apprise").addFilter(_WITNESS)


_NEVER_CONNECTED = (
    ConnectionRefusedError,
    socket.gaierror,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.SSLError,
)
_TOO_LATE = (TimeoutError, urllib3.exceptions.ReadTimeoutError)


def _verdict(error: BaseException) -> Receipt:
    """What an error says of one attempt; its text is not looked at."""
    if code := _smtp_code(error):
        return Receipt(Outcome.REFUSED, f"SMTP {code}")
    met = tuple(_chain(error))
    if any(isinstance(each, _NEVER_CONNECTED) for each in met) or _before_the_letter(error):
        return Receipt(Outcome.REFUSED, "could not connect")
    if any(isinstance(each, _TOO_LATE) for each in met):
        return Receipt(Outcome.UNKNOWN, "no answer in time")
    if isinstance(error, OSError):
        return Receipt(Outcome.UNKNOWN, "the connection broke off")
    return Receipt(Outcome.REFUSED, _crashed(error))


def _smtp_code(error: BaseException) -> int | None:
    """The server's three digits, of whichever step it refused."""
    codes = [error.smtp_code] if isinstance(error, smtplib.SMTPResponseException) else []
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
    return next((code for code in codes if 400 <= code <= 599), None)


def _before_the_letter(error: BaseException) -> bool:
    """Whether a mail server was lost before the letter itself was on its way."""
    steps = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    in_smtp = [code.co_name for code in steps if code.co_filename == smtplib.__file__]
    return bool(in_smtp) and "data" not in in_smtp


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all that lie beneath it: requests wraps what urllib3 wrapped, in arguments and attributes."""
    waiting, known = [error], set()
    while waiting:
        current = waiting.pop()
        known.add(id(current))
        yield current
        beneath = (*current.args, getattr(current, "reason", None), current.__cause__, current.__context__)
        waiting += [each for each in beneath if isinstance(each, BaseException) and id(each) not in known]


def _crashed(error: BaseException) -> str:
    return f"the channel's plug-in failed ({type(error).__name__})"
