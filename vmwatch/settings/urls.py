"""Addresses of others that a configuration names, without a secret that would travel in the clear."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def checked_base_url(value: str) -> str:
    parts = _split(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError('must be a URL such as "https://operator.example.com"')
    if "@" in parts.netloc:
        raise ValueError("must not have a user name or a password")
    if "?" in value or "#" in value:
        raise ValueError("must not have a query or a fragment")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must be https, for the PIN travels in the URL (http only for 127.0.0.1, ::1 or localhost)")
    return value.rstrip("/")


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


def checked_ping_url(value: SecretStr | None) -> SecretStr | None:
    parts = _split(value.get_secret_value()) if value is not None else None
    if parts is not None and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError('must be a URL such as "https://hc-ping.com/your-uuid"')
    return value


def checked_dav_url(value: str) -> str:
    parts = _split(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            'must be an address book\'s URL, like "https://cloud.example.com/dav/addressbooks/me/contacts/"'
        )
    if "@" in parts.netloc:
        raise ValueError("must not have a user name or a password: set user and password")
    if "?" in value or "#" in value:
        raise ValueError("must not have a query or a fragment")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must be https, for the password travels with it (http only for 127.0.0.1, ::1 or localhost)")
    return value
