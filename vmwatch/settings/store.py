"""Where the ledger is kept."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, SecretStr

from vmwatch.models import DAY
from vmwatch.settings.spans import Span
from vmwatch.settings.table import HIDDEN, Table

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")


def _store_url(secret: SecretStr) -> SecretStr:
    url = secret.get_secret_value()
    if is_shared(url):
        _check_postgres(url)
    elif url.startswith(_SQLITE) and url.isprintable():
        _check_sqlite(url)
    else:
        raise ValueError('must be like "sqlite:///vmwatch.db" or "postgresql://db.example.com/vmwatch"')
    return secret


def is_shared(store_url: str) -> bool:
    """Whether several processes may share the store; such a URL may hold a password, and is treated as a secret."""
    return store_url.startswith(_POSTGRES)


def _check_sqlite(value: str) -> None:
    file = value.removeprefix(_SQLITE)
    if not file or file.endswith(("/", "/.", "/..")) or file in (".", "..", ":memory:"):
        raise ValueError("must name a file")
    if "?" in file:
        raise ValueError('takes no options after "?"')


def _check_postgres(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("has an impossible host") from None
    if not url.isprintable() or " " in url:
        raise ValueError("must not have blanks or control characters")
    if parts.netloc.count("@") > 1 or "@" in parts.path + parts.query or "#" in url:
        raise ValueError('has special characters in its password: write "@" as %40, "/" as %2F, "?" as %3F, "#" as %23')
    if not parts.path.strip("/") and "database" not in dict(parse_qsl(parts.query)):
        raise ValueError('must name a database, like "postgresql://db.example.com/vmwatch"')


def passwords_of(store_url: str) -> frozenset[str]:
    """What is secret in a store's URL, as it is written there and as it is meant."""
    if not is_shared(store_url):
        return frozenset()
    parts = urlsplit(store_url)
    login = parts.netloc.rpartition("@")[0].partition(":")[2]
    asked = [value for name, value in parse_qsl(parts.query) if "pass" in name and name != "passfile"]
    return frozenset(filter(None, (login, unquote(login), *asked)))


class Store(Table):
    url: Annotated[SecretStr, AfterValidator(_store_url), HIDDEN] = SecretStr("sqlite:///vmwatch.db")
    keep: Span = 365 * DAY
