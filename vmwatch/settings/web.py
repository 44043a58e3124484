"""Where vmwatch answers over HTTP, and whom it tells that it lives."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo

from vmwatch.settings.table import HIDDEN, Table
from vmwatch.settings.urls import checked_ping_url, checked_public_url, is_loopback

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9a-z.]+)):([0-9]{1,5})")
_LAST_PORT = 65535
_TOKEN = re.compile(r"[!-~]{16,200}")
_HOST_NAME = re.compile(r"(?=.{1,253}$)(?!.*\.\.)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def address(listen: str) -> tuple[str, int]:
    """`127.0.0.1:8480` or `[::1]:8480` as host and port. Raises ValueError with a sentence."""
    found = _ADDRESS.fullmatch(listen)
    host, port = ((found[1] or found[2]), int(found[3])) if found else ("", 0)
    if not _is_address(host) or port > _LAST_PORT:
        raise ValueError('must be an address and a port, like "127.0.0.1:8480" or "[::1]:8480" ("" turns it off)')
    return host, port


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _listen(value: str) -> str:
    if value:
        address(value)
    return value


def _token(value: SecretStr | None, known: ValidationInfo) -> SecretStr | None:
    listen = known.data.get("listen")
    if value is None and listen and not is_loopback(address(listen)[0]):
        raise ValueError(
            "is missing (or give token_file): who is let in from other machines must know one; "
            "make it with: openssl rand -hex 16"
        )
    if value is not None and not _TOKEN.fullmatch(value.get_secret_value()):
        raise ValueError("must be 16 to 200 letters, digits or signs, without blanks")
    return value


def _host_name(value: Any) -> str:
    if not isinstance(value, str) or not _HOST_NAME.fullmatch(value):
        raise ValueError('must be a host\'s name without a port, like "vmwatch.example.com"')
    return value.lower()


class Web(Table):
    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:8480"
    """Empty: nothing is listened on."""
    token: Annotated[SecretStr | None, AfterValidator(_token), Field(validate_default=True), HIDDEN] = None
    """Asked of everyone, where there is one."""
    hosts: tuple[Annotated[str, BeforeValidator(_host_name)], ...] = ()
    """Names by which it may be asked, besides addresses and localhost."""

    public_url: Annotated[str, AfterValidator(checked_public_url)] = ""
    """Where people reach it from elsewhere, for the links in alerts; a path in it is the proxy's. Empty: no links."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names by which it may be asked."""
        host = urlsplit(self.public_url).hostname
        return (*self.hosts, host) if host else self.hosts

    @property
    def is_open_to_strangers(self) -> bool:
        """Whether who comes by `public_url` sees the page, and its buttons, without a token."""
        host = urlsplit(self.public_url).hostname
        return bool(self.listen and host) and self.token is None and not is_loopback(host or "")

    @property
    def is_asked_for(self) -> bool:
        """Whether a person wrote the address, so that going on without it would not be what they want."""
        return "listen" in self.model_fields_set

    @property
    def address(self) -> tuple[str, int]:
        return address(self.listen)


class LifeSign(Table):
    url: Annotated[SecretStr | None, AfterValidator(checked_ping_url), HIDDEN] = None
    """None: nobody is pinged."""
