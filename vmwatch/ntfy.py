"""ntfy, spoken by ourselves: an alert is shown in the place of an earlier one, and cleared when it is over.

Since ntfy 2.16 a message may carry a sequence ID of the sender's choice (1 to 64 of A-Z, a-z, 0-9, - and _):

- published with the header `X-Sequence-ID`, its content takes the place of an earlier message of the same ID;
- `PUT /TOPIC/ID/clear` marks it as read and takes it off the screen; it stays in the app's list.

[docs.ntfy.sh/publish, "Updating + deleting notifications"; binwiederhier/ntfy, server/server.go: `parsePublishParams`,
`clearPathRegex`, `handleActionMessage`]. A server that knows the ID gives it back in its answer (`sequence_id`;
model/model.go, `ForJSON`). An older one ignores the header, shows each message by itself, and answers that PUT by 404.

The Android app makes no sound for what replaces something that is still on the screen [ntfy-android,
NotificationService.kt, `setOnlyAlertOnce`]. What is to be heard again is cleared first, and published then.

Apprise reads the URL and we send what it would send, in the same words: the JSON to `/` and the rest as headers. What
else it can do there (attachments, mail, delays, texts in several parts) is left to it: `address` is None then.

Nothing that a server says is passed on, and nothing of a URL: a topic is a secret wherever anybody may read it.
"""

from __future__ import annotations

import json
import logging
import os
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import quote
from urllib.request import getproxies

import aiohttp

from vmwatch.models import SECOND, Duration, Outcome, Receipt

log = logging.getLogger(__name__)

MAX_ANSWER = 64 << 10
"""Bytes of an answer that are looked at."""
LONGEST = 8_000
"""Characters of JSON; Apprise makes an attachment of what is longer, as the server would."""
_CONNECT: Duration = 5 * SECOND
_CLOUD = "https://ntfy.sh"
_OK = 200
_LATER = frozenset({408, 425, 429})
"""What a server refuses now and may do soon."""
_CAN_T_CLEAR = range(400, 500)

_NEVER_CONNECTED = (
    *(aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError),
    ssl.SSLError,
)
_NOT_MADE = (aiohttp.InvalidURL, ValueError)
_FOREIGN = (aiohttp.ClientError, TimeoutError, OSError, *_NOT_MADE)
_TAGS, _ACTIONS = "_NotifyNtfy__tags", "_NotifyNtfy__actions"
"""Where Apprise's plug-in keeps what it has no public name for; without them it sends by itself."""
_PROXIES = frozenset({"http", "https", "no"})


@dataclass(frozen=True, slots=True)
class Address:
    """Where and how a channel publishes, as its URL says."""

    base: str = field(repr=False)
    topic: str = field(repr=False)
    authorization: Mapping[str, str] = field(default_factory=dict, repr=False)
    """A header, or none."""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers of what is published."""


@dataclass(frozen=True, slots=True)
class Letter:
    """An alert as it is published."""

    address: Address
    content: bytes = field(repr=False)


def address(plugin: Any, icon: str | None) -> Address | None:
    """What Apprise's plug-in for ntfy read from a URL; None: Apprise is to send it.

    `icon` is Apprise's own picture, which stands there unless the URL has another or wants none.
    """
    if not _is_simple(plugin):
        return None
    authorization = _authorization(plugin)
    if authorization is None:
        return None
    return Address(_base(plugin), plugin.topics[0], authorization, _options(plugin, icon))


def _is_simple(plugin: Any) -> bool:
    left_to_apprise = (plugin.attach, plugin.email, plugin.delay, getattr(plugin, "interpret_emojis", False))
    return (
        len(plugin.topics) == 1
        and not any(left_to_apprise)
        and plugin.notify_format in ("text", "markdown")
        and plugin.overflow_mode == "upstream"
        and plugin.verify_certificate is True
        and all(hasattr(plugin, name) for name in (_TAGS, _ACTIONS))
    )


def _base(plugin: Any) -> str:
    if plugin.mode == "cloud":
        return _CLOUD
    port = f":{plugin.port}" if isinstance(plugin.port, int) else ""
    return f"{'https' if plugin.secure else 'http'}://{plugin.host}{port}"


def _authorization(plugin: Any) -> dict[str, str] | None:
    """The header to log in with, if any; None: only Apprise knows what is meant."""
    if plugin.mode == "cloud" or (plugin.auth == "basic" and not plugin.user):
        return {}
    if plugin.auth == "token":
        return {"Authorization": f"Bearer {plugin.token}"} if plugin.token else None
    if not plugin.password:
        return None
    login = b64encode(f"{plugin.user}:{plugin.password}".encode()).decode()
    return {"Authorization": f"Basic {login}"}


def _options(plugin: Any, icon: str | None) -> dict[str, str]:
    picture = (plugin.avatar_url or icon) if plugin.include_image else None
    found = {
        "X-Icon": picture,
        "X-Markdown": "yes" if plugin.notify_format == "markdown" else None,
        "X-Priority": plugin.priority if plugin.priority != "default" else None,
        "X-Click": quote(plugin.click, safe=":/?@&=#") if plugin.click else None,
        "X-Tags": ",".join(getattr(plugin, _TAGS)),
        "X-Actions": getattr(plugin, _ACTIONS),
    }
    return {name: value for name, value in found.items() if value}


def letter(address: Address, title: str, body: str) -> Letter | None:
    """The text as it is published; None if it is too long for a message."""
    told = {"topic": address.topic, "title": title.strip(), "message": body.rstrip()}
    content = json.dumps({name: value for name, value in told.items() if value})
    return Letter(address, content.encode()) if len(content) <= LONGEST else None


async def publish(letter: Letter, sequence: str, timeout: Duration) -> Receipt:  # noqa: ASYNC109 - as the settings call it
    """One attempt, of `timeout` ms at most; the receipt has the sequence if the server knows what that is.

    A 200 is a yes whatever comes with it, as for any channel; only that it can be cleared must be read in its answer.
    """
    there = letter.address
    headers = {"Content-Type": "application/json", **there.options, **there.authorization}
    if sequence:
        headers["X-Sequence-ID"] = sequence
    status, answer = await _ask("POST", f"{there.base}/", headers, letter.content, timeout)
    if isinstance(answer, Receipt):
        return answer
    if status != _OK:
        return Receipt(Outcome.REFUSED, f"HTTP {status}")
    known = bool(sequence) and _sequence(answer) == sequence
    return Receipt(Outcome.SENT, shown_as=sequence if known else None)


async def publish_anew(letter: Letter, sequence: str, timeout: Duration) -> Receipt:  # noqa: ASYNC109 - the same
    """The same, with a sound again: what is shown is taken away before, if that can be done in a part of the time."""
    part = timeout // 4
    await clear(letter.address, sequence, part)
    return await publish(letter, sequence, timeout - part)


async def clear(address: Address, sequence: str, timeout: Duration) -> Receipt:  # noqa: ASYNC109 - the same
    """Take an alert off people's screens. A server that can't is not asked again: nothing depends on it."""
    path = f"{address.base}/{address.topic}/{sequence}/clear"
    status, answer = await _ask("PUT", path, dict(address.authorization), b"", timeout)
    if isinstance(answer, Receipt):
        return answer
    if status in _CAN_T_CLEAR and status not in _LATER:
        log.debug("the ntfy server does not clear what it showed: HTTP %d", status)
        return Receipt(Outcome.SENT, proves=False)
    return Receipt(Outcome.SENT) if status == _OK else Receipt(Outcome.REFUSED, f"HTTP {status}")


async def _ask(
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: bytes,
    timeout: Duration,  # noqa: ASYNC109 - the same
) -> tuple[int, bytes | Receipt]:
    """The answer's status and beginning, or what an attempt without one comes to."""
    limits = aiohttp.ClientTimeout(total=timeout / SECOND, sock_connect=min(timeout, _CONNECT) / SECOND)
    try:
        async with (
            aiohttp.ClientSession(timeout=limits, trust_env=True, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.request(
                method,
                url,
                data=content,
                headers={"User-Agent": "vmwatch", **headers},
                allow_redirects=False,
                ssl=_trusted(_bundle()) if url.startswith("https") else True,
            ) as response,
        ):
            return response.status, await _beginning(response)
    except _FOREIGN as error:
        return 0, _verdict(error, timeout)


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """As much of an answer as is looked at; nothing if it breaks off: its status was read."""
    body = bytearray()
    try:
        while len(body) < MAX_ANSWER and (part := await response.content.readany()):
            body += part
    except _FOREIGN:
        return b""
    return bytes(body)


def _verdict(error: Exception, timeout: Duration) -> Receipt:
    """What an error says of one attempt; its text is not looked at, for the URL is in it."""
    if isinstance(error, _NEVER_CONNECTED):
        return Receipt(Outcome.REFUSED, "could not connect")
    if isinstance(error, TimeoutError):
        return Receipt(Outcome.UNKNOWN, f"no answer within {timeout / SECOND:g}s")
    if isinstance(error, _NOT_MADE):
        return Receipt(Outcome.REFUSED, "its URL makes no request")
    return Receipt(Outcome.UNKNOWN, "the connection broke off")


def _sequence(answer: bytes) -> str | None:
    """What the server says that the message is known by."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    told = found.get("sequence_id") if isinstance(found, dict) else None
    return told if isinstance(told, str) else None


def way_is_known() -> bool:
    """Whether the way out is one that aiohttp goes too: of proxies, it knows HTTP's only."""
    return all(kind in _PROXIES and not proxy.startswith("socks") for kind, proxy in getproxies().items())


def _bundle() -> str | None:
    """Certificates that Apprise's own requests would be checked against."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None


@lru_cache(1)
def _trusted(bundle: str | None) -> ssl.SSLContext | bool:
    """The machine's certificates and those. Raises ssl.SSLError for what is none."""
    if bundle is None:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(**({"capath": bundle} if os.path.isdir(bundle) else {"cafile": bundle}))
    except OSError:
        raise ssl.SSLError("the certificates can't be read") from None
    return context
