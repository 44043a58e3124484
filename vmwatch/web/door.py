"""Who is let in, and with what: the judgement of a request before anything is looked up. Pure."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from vmwatch import settings
from vmwatch.web.asked import Answer, Request, refused

METHODS = ("GET", "HEAD")
FORM = "application/x-www-form-urlencoded"
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+))(?::[0-9]{1,5})?")


def refusal(
    request: Request,
    web: settings.Web,
    paths: Iterable[str],
    forms: Iterable[str] = (),
    *,
    is_known: bool = False,
    is_link: bool = False,
) -> Answer | None:
    """Why a request is not answered. A stranger is told nothing about what there is.

    `paths` are looked at, `forms` are sent to; `is_known`: logged in, or on the way to it; `is_link`: it may be signed,
    and the signature is the permission.
    """
    if not _is_our_host(request.hosts, web.names):
        return refused(403, "this is not a name of this server: ask it by its address, or add the name to web.hosts")
    if is_link:
        return _against_link(request)
    if not (is_known or is_let_in(request, web)):
        challenge = ("WWW-Authenticate", 'Bearer realm="vmwatch"')
        return refused(401, "say who you are: Authorization: Bearer TOKEN, with the token of web.token", challenge)
    if request.path in forms:
        return _against_form(request, web)
    if request.path not in paths:
        return refused(404, f"there is nothing here; there is: {', '.join(paths)}")
    if request.method not in METHODS:
        return refused(405, "only GET and HEAD are answered here", ("Allow", ", ".join(METHODS)))
    if request.has_body:
        return refused(413, "send no body: nothing here takes one")
    return None


def is_let_in(request: Request, web: settings.Web) -> bool:
    """Whether no token is asked for, or it is given."""
    return web.token is None or _knows(web.token.get_secret_value(), request.authorizations)


def is_token(given: str, web: settings.Web) -> bool:
    return web.token is not None and _is_same(given, web.token.get_secret_value())


def _against_form(request: Request, web: settings.Web) -> Answer | None:
    if request.method != "POST":
        return refused(405, "only POST is answered here: use the buttons of the page", ("Allow", "POST"))
    if not _is_own_page(request, web.names):
        return refused(403, "another site sent this: nothing was done; use the buttons of the page")
    if request.content_type.partition(";")[0].strip().lower() != FORM:
        return refused(415, f"send a form: {FORM}")
    return None


def _against_link(request: Request) -> Answer | None:
    """Looking shows, and only a POST does it: whatever looks through mail before people do changes nothing."""
    if request.method not in (*METHODS, "POST"):
        return refused(405, "only GET, HEAD and POST are answered here", ("Allow", ", ".join((*METHODS, "POST"))))
    if request.has_body and request.method != "POST":
        return refused(413, "send no body: nothing here takes one")
    return None


def _is_own_page(request: Request, names: Sequence[str]) -> bool:
    """What browsers say of where a form came from; older ones, and curl, say nothing."""
    if request.site not in ("", "same-origin"):
        return False
    if not request.origin:
        return True
    try:
        origin = urlsplit(request.origin)
        name = (origin.hostname or "").lower()
    except ValueError:
        return False
    return origin.scheme in ("http", "https") and (origin.netloc.lower() == request.hosts[0].lower() or name in names)


def _is_our_host(headers: Sequence[str], names: Sequence[str]) -> bool:
    """A page from elsewhere can have its own name lead here (DNS rebinding), but it can't ask by a bare address."""
    found = _HOST.fullmatch(headers[0]) if len(headers) == 1 else None
    if found is None:
        return False
    host = (found[1] or found[2]).lower().removesuffix(".")
    return host == "localhost" or host in names or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _knows(token: str, headers: Sequence[str]) -> bool:
    scheme, _, given = (headers[0] if len(headers) == 1 else "").partition(" ")
    # Compared before the scheme is looked at: how soon a guess is wrong must not tell how much of it is right.
    is_right = _is_same(given.strip(), token)
    return scheme.lower() == "bearer" and is_right


def _is_same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), token.encode())
