"""Where the person's own address book comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import phonenumbers
from pydantic import AfterValidator, BeforeValidator, SecretStr, model_validator

from vmwatch.models import HOUR
from vmwatch.settings.spans import Leisure
from vmwatch.settings.table import HIDDEN, Table
from vmwatch.settings.urls import checked_dav_url


def _region(value: Any) -> str:
    if not isinstance(value, str) or value.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError('must be a country in two letters, like "DK"')
    return value.upper()


def _file_name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("must be the name of a file, in quotes")
    return value


class CardDav(Table):
    url: Annotated[str | None, AfterValidator(lambda value: value and checked_dav_url(value))] = None
    """Of one address book. None: there is none."""
    user: str | None = None
    password: Annotated[SecretStr | None, HIDDEN] = None
    interval: Leisure = HOUR

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.url is None and (self.user is not None or self.password is not None):
            raise ValueError("url is missing: set the address book's URL")
        if (self.user is None) != (self.password is None):
            raise ValueError("set both user and password (or password_file), or neither")
        if self.user is not None and ":" in self.user:
            raise ValueError('user must not have a ":"')
        return self


class Contacts(Table):
    vcards: tuple[Annotated[str, BeforeValidator(_file_name)], ...] = ()
    """Files, seen from the configuration's folder."""
    default_region: Annotated[str | None, BeforeValidator(_region)] = None
    """The country of numbers without one. None: that of most lines."""
    carddav: CardDav = CardDav()

    @property
    def are_there(self) -> bool:
        return bool(self.vcards or self.carddav.url)


@dataclass(frozen=True, slots=True)
class ContactSources:
    """Where the address book comes from, with absolute paths."""

    vcards: tuple[str, ...] = ()
    region: str = ""
    carddav: CardDav = field(default_factory=CardDav)
    cache: str = ""
    """The file that what CardDAV brought is kept in."""
