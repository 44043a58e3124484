"""Who is let in, and with what: the judgement of a request before anything is looked up. Pure."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from vmwatch import settings
from vmwatch.web.asked import Answer, Request, refused

METHODS = ("GET", "HEAD")
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+))(?::[0-9]{1,5})?")


def refusal(request: Request, web: settings.Web, paths: Iterable[str]) -> Answer | None:
    """Why a request is not answered. A stranger is told nothing about what there is."""
    if not _is_our_host(request.hosts, web.hosts):
        return refused(403, "this is not a name of this server: ask it by its address, or add the name to web.hosts")
    if web.token is not None and not _knows(web.token.get_secret_value(), request.authorizations):
        challenge = ("WWW-Authenticate", 'Bearer realm="vmwatch"')
        return refused(401, "say who you are: Authorization: Bearer TOKEN, with the token of web.token", challenge)
    if request.path not in paths:
        return refused(404, f"there is nothing here; there is: {', '.join(paths)}")
    if request.method not in METHODS:
        return refused(405, "only GET and HEAD are answered here", ("Allow", ", ".join(METHODS)))
    if request.has_body:
        return refused(413, "send no body: nothing here takes one")
    return None


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
    # Constant in time: how soon a guess is wrong must not tell how much of it is right.
    is_right = hmac.compare_digest(given.strip().encode(errors="surrogateescape"), token.encode())
    return scheme.lower() == "bearer" and is_right
