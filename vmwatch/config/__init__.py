"""The configuration: one TOML file, with values from the environment and from systemd's credentials above it.

All of it is read and judged before anything is sent, and what is wrong with it is said in one run, a sentence
each. `settings` says which keys there are and what each may hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from vmwatch.book import region_of
from vmwatch.config import layers
from vmwatch.config.gather import gather
from vmwatch.config.judge import ObjectToUrl, bad_vcards, crosswise, judge, unwise
from vmwatch.config.objections import Found
from vmwatch.errors import ConfigError
from vmwatch.redaction import SECRET
from vmwatch.settings import Contacts, ContactSources, Settings, Store, is_shared, passwords_of

__all__ = [
    "Loaded",
    "ObjectToUrl",
    "absolute",
    "channels_alone",
    "find",
    "load",
    "load_contacts",
    "load_store",
    "redacted",
]

_UNNAMED = (Path("config.toml"), Path("/etc/vmwatch/config.toml"))
_SQLITE = "sqlite:///"
_CACHE = "contacts.cache"


@dataclass(frozen=True, slots=True)
class Loaded:
    """An accepted configuration."""

    settings: Settings
    path: Path | None
    """The TOML file, as it was named; None where there is none."""
    store_url: str = field(repr=False)
    """With an absolute path: `sqlite:////var/lib/vmwatch/vmwatch.db`. PostgreSQL's may hold a password."""
    warnings: tuple[str, ...] = ()
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    """Every PIN, channel's URL, token and password in plain text, for logs to leave out."""
    contacts: ContactSources = field(default_factory=ContactSources)

    @property
    def store_shown(self) -> str:
        """Where the store is, for people; without a secret."""
        return SECRET if is_shared(self.store_url) else self.store_url

    @property
    def names(self) -> tuple[str, ...]:
        """What lines and channels are called: never a secret."""
        return (*self.settings.lines, *self.settings.channels)


class _StoreAlone(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    store: Store = Store()


class _ContactsAlone(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    contacts: Contacts = Contacts()


def find(named: str | None, environ: Mapping[str, str]) -> Path:
    """The file that --config or $VMWATCH_CONFIG names, else ./config.toml, else /etc/vmwatch/config.toml.

    Raises ConfigError if a named file is missing or if there is none at all.
    """
    if named is not None:
        return _existing(Path(named), "--config")
    if environ.get("VMWATCH_CONFIG"):
        return _existing(Path(environ["VMWATCH_CONFIG"]), "$VMWATCH_CONFIG")
    for path in _UNNAMED:
        if _is_there(path):
            return path
    looked = " and ".join(str(path) for path in _UNNAMED)
    raise ConfigError(
        (
            f"no configuration: looked for {looked}; copy config.example.toml to ./config.toml and change it, "
            "name another file with --config, or try vmwatch without one: vmwatch demo",
        )
    )


def _existing(path: Path, named_by: str) -> Path:
    if not _is_there(path):
        raise ConfigError((f"{path}: there is no such file, but {named_by} names it",))
    return path


def _is_there(path: Path) -> bool:
    """Whether there is something of that name, if only something that can't be read: `load` says so then."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True
    return True


def load(path: Path, environ: Mapping[str, str], object_to_url: ObjectToUrl) -> Loaded:
    """Reads and judges the whole configuration. Raises ConfigError with every objection.

    `object_to_url` returns None for a channel's URL that can be used and stands for one target, else words to
    follow the key, without the URL in them.
    """
    gathered = gather(path, environ)
    settings = judge(gathered, Settings, crosswise(gathered, object_to_url))
    store_url = absolute(settings.store.url.get_secret_value(), path, environ)
    numbers = [line.number for line in settings.lines.values()]
    return Loaded(
        settings=settings,
        path=path,
        store_url=store_url,
        contacts=_sources(settings.contacts, numbers, store_url, path, environ),
        warnings=tuple(unwise(gathered, settings)),
        secrets=frozenset(_secrets(settings)),
    )


def load_store(path: Path, environ: Mapping[str, str]) -> str:
    """The store's URL with an absolute path, without asking for PINs or channels. Raises ConfigError."""
    alone = judge(gather(path, environ, only="store"), _StoreAlone, iter(()))
    return absolute(alone.store.url.get_secret_value(), path, environ)


def load_contacts(path: Path, environ: Mapping[str, str], numbers: Iterable[str]) -> ContactSources:
    """Where the contacts come from, whatever else is wrong; `numbers` are the lines'. Raises ConfigError."""
    gathered = gather(path, environ, only="contacts")
    alone = judge(gathered, _ContactsAlone, bad_vcards(gathered))
    return _sources(alone.contacts, numbers, load_store(path, environ), path, environ)


def _sources(
    contacts: Contacts, numbers: Iterable[str], store_url: str, path: Path, environ: Mapping[str, str]
) -> ContactSources:
    """What CardDAV brought lies beside the store, where that is a file: every verb finds it there."""
    beside = absolute(f"{_SQLITE}{_CACHE}", path, environ) if is_shared(store_url) else store_url
    folder = Path(beside.removeprefix(_SQLITE)).parent
    return ContactSources(
        vcards=tuple(os.path.abspath(path.parent / name) for name in contacts.vcards),
        region=contacts.default_region or region_of(numbers),
        carddav=contacts.carddav,
        cache=str(folder / _CACHE),
    )


def channels_alone(environ: Mapping[str, str]) -> dict[str, str]:
    """The URLs that are credentials, by the channel's name, whatever the rest of the configuration is like."""
    channels = layers.from_credentials(environ).tree.get("channels", {})
    urls = ((name, table.get("url")) for name, table in channels.items())
    return {name: url.value for name, url in urls if isinstance(url, Found) and isinstance(url.value, str)}


def redacted(loaded: Loaded) -> dict[str, Any]:
    """The configuration in effect, as a person would write it out in full, `<secret>` for secrets."""
    settings = loaded.settings
    full: dict[str, Any] = settings.model_dump(mode="json")
    full["store"]["url"] = loaded.store_shown
    for name, line in full["lines"].items():
        line["label"] = settings.label_of(name)
        line["channels"] = [recipient.name for recipient in settings.recipients_of(name)]
        line["interval"] = line["interval"] or full["polling"]["interval"]
    return full


def _secrets(settings: Settings) -> Iterator[str]:
    for line in settings.lines.values():
        yield line.pin.get_secret_value()
    for channel in settings.channels.values():
        yield channel.url.get_secret_value()
    for secret in (settings.web.token, settings.heartbeat.url, settings.contacts.carddav.password):
        if secret is not None:
            yield secret.get_secret_value()
    yield from passwords_of(settings.store.url.get_secret_value())


def absolute(url: str, config: Path, environ: Mapping[str, str]) -> str:
    """A store's URL with an absolute path; as it is, where it names no file.

    A relative file lies in the state directory that systemd gives (the first, of several), else beside `config`.
    """
    if is_shared(url):
        return url
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    folder = Path(state) if state else config.parent
    return f"{_SQLITE}/{os.path.abspath(folder / url.removeprefix(_SQLITE)).lstrip('/')}"
