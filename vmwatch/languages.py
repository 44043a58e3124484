"""The languages there are, and what time it is where: what a channel's voice is made of.

English is the source's own; each other language is one file, `locales/LANGUAGE.po`.

Read as they are when first asked for: nothing has to be compiled, and who keeps to English does not pay for Babel.
"""

from __future__ import annotations

import gettext
from collections.abc import Iterator, Mapping
from datetime import tzinfo
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from vmwatch.models import WORDED, Kind
from vmwatch.settings import Channel, Settings
from vmwatch.templates import Filling
from vmwatch.texts import ENGLISH, Key, Texts
from vmwatch.voice import Voice, filling

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog

FOLDER = Path(__file__).parent / "locales"


@cache
def names() -> tuple[str, ...]:
    """`en`, and the others by their codes: `da`."""
    return (ENGLISH.language, *sorted(path.stem for path in FOLDER.glob("*.po")))


@cache
def texts(language: str) -> Texts:
    """Raises KeyError for a language that is not one of `names`."""
    if language not in names():
        raise KeyError(language)
    return ENGLISH if language == ENGLISH.language else read(FOLDER / f"{language}.po")


def read(file: Path) -> Texts:
    """The texts of a language's file. Raises ValueError where it is not what gettext calls a .po."""
    from babel.messages.pofile import read_po  # only for those who want it: the import costs as much as several others

    with file.open("rb") as lines:
        catalog = read_po(lines, abort_invalid=True)
    forms = {key: said for key, said in _translations(catalog) if isinstance(said, tuple)}
    said = {key: said for key, said in _translations(catalog) if isinstance(said, str)}
    return Texts(file.stem, said, forms, gettext.c2py(catalog.plural_expr))


def _translations(catalog: Catalog) -> Iterator[tuple[Key, str | tuple[str, ...]]]:
    """What is translated. A fuzzy entry is a guess that nobody has looked at."""
    for message in catalog:
        source = message.id if isinstance(message.id, str) else message.id[0]
        said = message.string if isinstance(message.string, str) else tuple(message.string or ())
        if source and said and all(said) and not message.fuzzy:
            yield (message.context or "", source), said


def zone(name: str) -> ZoneInfo | None:
    """The time zone of a name such as `Europe/Copenhagen`; None where this machine knows none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder's name, a path, or nothing at all
        return None


def zone_of(named: str | None, here: tzinfo) -> tzinfo:
    """The time zone of that name, or `here` where none was named."""
    return (zone(named) if named is not None else None) or here


def voices(settings: Settings, here: tzinfo) -> dict[str, Voice]:
    """How each channel is spoken to, by its name; `here` is the machine's own zone."""
    return {name: _voice(settings, name, here) for name in settings.channels}


def _voice(settings: Settings, name: str, here: tzinfo) -> Voice:
    channel, zone_ = settings.channels[name], zone_of(settings.timezone_of(name), here)
    return Voice(zone_, texts(settings.language_of(name)), channel.privacy, dict(_templates(channel)))


def _templates(channel: Channel) -> Iterator[tuple[Kind, Mapping[str, Filling]]]:
    for kind in WORDED:
        written = channel.template(kind).model_dump(exclude_none=True)
        if written:
            yield kind, {part: filling(part, source) for part, source in written.items()}
