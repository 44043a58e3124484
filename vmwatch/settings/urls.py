"""Addresses of others that a configuration names, without a secret that would travel in the clear."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

LONGEST_PUBLIC_URL = 80
_PLAIN_URL = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?(?:/[A-Za-z0-9._-]+)*/?")
_ODD_DOT = re.compile(r"\.(?=[./:]|$)")
"""Browsers take such a one out of a path, and it is taken off a Host: the links would lead elsewhere, or be refused."""
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def checked_base_url(value: str) -> str:
    parts = _rooted(value, 'must be a URL such as "https://operator.example.com"')
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("must be https, for the PIN travels in the URL (http only for 127.0.0.1, ::1 or localhost)")
    return value.rstrip("/")


def _rooted(value: str, wanted: str, instead: str = "") -> SplitResult:
    """The parts of a web address and nothing else. Raises ValueError: `wanted`, or what to do `instead` of a login."""
    parts = _split(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(wanted)
    if "@" in parts.netloc:
        raise ValueError(f"must not have a user name or a password{instead}")
    if "?" in value or "#" in value:
        raise ValueError("must not have a query or a fragment")
    return parts


def _split(url: str) -> SplitResult:
    """Raises ValueError with a sentence; urllib's own words would repeat the URL."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # read only to have it checked
    except ValueError:
        raise ValueError("has an impossible host or port") from None
    if not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("must not have blanks, backslashes or control characters")
    return parts


def is_loopback(host: str) -> bool:
    try:
        return any(ip_address(host) in network for network in _LOOPBACK)
    except ValueError:
        return host == "localhost"


def checked_public_url(value: str) -> str:
    """Without the slash at its end. It stands in every alert, and in front of what is signed: short, and plain."""
    if not value:
        return value
    _rooted(value, 'must be the URL by which others reach vmwatch, like "https://vm.example.com"')
    if not _PLAIN_URL.fullmatch(value):
        raise ValueError("must have nothing but letters without accents, digits and . _ - / in its host and path")
    if _ODD_DOT.search(value):
        raise ValueError("must not have two dots together, nor a dot at the end of its host or of a part of its path")
    if len(value) > LONGEST_PUBLIC_URL:
        raise ValueError(f"must be at most {LONGEST_PUBLIC_URL} characters, for it stands in every alert")
    return value.rstrip("/")


def checked_ping_url(value: SecretStr | None) -> SecretStr | None:
    parts = _split(value.get_secret_value()) if value is not None else None
    if parts is not None and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError('must be a URL such as "https://hc-ping.com/your-uuid"')
    return value


def checked_dav_url(value: str) -> str:
    wanted = 'must be an address book\'s URL, like "https://cloud.example.com/dav/addressbooks/me/contacts/"'
    parts = _rooted(value, wanted, instead=": set user and password")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("must be https, for the password travels with it (http only for 127.0.0.1, ::1 or localhost)")
    return value
