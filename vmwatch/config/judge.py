"""Whether what was gathered is a configuration: every objection of one run, and what is merely unwise."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vmwatch import languages, vcards, voice
from vmwatch.config import files, shape
from vmwatch.config.gather import Gathered, shown
from vmwatch.config.groups import between_groups, named_channels, unwise_groups
from vmwatch.config.objections import Key, Objection, did_you_mean, dotted
from vmwatch.errors import ConfigError
from vmwatch.models import WORDED, Duration, Kind
from vmwatch.settings import BRISK, Settings, spelled

_BEGINNING = 64 << 10
"""Bytes of a file of contacts that tell whether it is one."""
ObjectToUrl = Callable[[str], str | None]
"""None for a channel's URL that can be used, else why not, without the URL."""
_Model = TypeVar("_Model", bound=BaseModel)
_LOOKS_LIKE_A_NAME = re.compile(r"[A-Za-z_-][\w-]{0,59}", re.ASCII)
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "unknown key",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "string_type": "must be text, in quotes",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
    "too_long": "has too many entries",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
}


def judge(gathered: Gathered, model: type[_Model], others: Iterator[Objection]) -> _Model:
    """The accepted configuration. Raises ConfigError with everything that `model` or `others` have against it."""
    try:
        settings, later = model.model_validate(gathered.tree), []
    except ValidationError as error:
        settings, later = None, [_from_pydantic(gathered, one) for one in error.errors(include_input=False)]
    later += others
    objections = gathered.objections + [one for one in later if not _is_explained(one.key, gathered.objections)]
    if settings is None or objections:
        raise ConfigError(tuple(dict.fromkeys(one.sentence for one in sorted(objections, key=_order))))
    return settings


def _order(objection: Objection) -> tuple[object, ...]:
    return objection.order


def _is_explained(key: Key, earlier: list[Objection]) -> bool:
    """Whether a key is missing or incomplete only because its value was objected to already."""
    return any(objection.key[: len(key)] == key for objection in earlier)


def _from_pydantic(gathered: Gathered, error: ErrorDetails) -> Objection:
    key = tuple(part for part in error["loc"] if isinstance(part, str) and part != "[key]")
    entries = [f"entry {part + 1}: " for part in error["loc"] if isinstance(part, int)]
    return gathered.objection(key, "".join(entries) + _words(key, error))


def _words(key: Key, error: ErrorDetails) -> str:
    about: dict[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(about["error"])
        case "greater_than_equal":
            return f"must be at least {about['ge']}"
        case "less_than_equal":
            return f"must be at most {about['le']}"
        case "literal_error" | "enum":
            return f"must be {about['expected']}".replace("'", '"')
        case "missing" if shape.content_key((*key[:-1], f"{key[-1]}_file")):
            return f"is missing (or give {key[-1]}_file)"
        case other:
            return _WORDS.get(other, "has the wrong form")


def crosswise(gathered: Gathered, object_to_url: ObjectToUrl) -> Iterator[Objection]:
    """What only shows between keys, or only outside of this program's own knowledge."""
    yield from _nothing_there(gathered)
    yield from _shared_numbers(gathered)
    yield from _absent_channels(gathered)
    yield from _bad_urls(gathered, object_to_url)
    yield from _bad_voices(gathered)
    yield from bad_vcards(gathered)
    yield from between_groups(gathered)


def _bad_voices(gathered: Gathered) -> Iterator[Objection]:
    """A language without a file, a time zone that nobody knows, a template that can't be filled in."""
    channels = gathered.tree.get("channels", {})
    yield from _bad_places(gathered, ("alerts",), gathered.tree.get("alerts", {}))
    for name, channel in channels.items():
        yield from _bad_places(gathered, ("channels", name), channel)
        for kind in WORDED:
            yield from _bad_templates(gathered, ("channels", name, "templates", *kind.value.split(".")), kind)


def _bad_places(gathered: Gathered, at: Key, table: Mapping[str, Any]) -> Iterator[Objection]:
    language, timezone = table.get("language"), table.get("timezone")
    if isinstance(language, str) and language not in languages.names():
        yield gathered.objection((*at, "language"), f"must be one of {', '.join(languages.names())}")
    if isinstance(timezone, str) and languages.zone(timezone) is None:
        words = 'is not a time zone that this machine knows; they are called like "Europe/Copenhagen"'
        yield gathered.objection((*at, "timezone"), words)


def _bad_templates(gathered: Gathered, at: Key, kind: Kind) -> Iterator[Objection]:
    table: Any = reduce(lambda tree, part: tree.get(part, {}), at, gathered.tree)
    for part in ("title", "body"):
        source = table.get(part)
        against = voice.objection(kind, part, source) if isinstance(source, str) else None
        if against is not None:
            yield gathered.objection((*at, part), against)


def _nothing_there(gathered: Gathered) -> Iterator[Objection]:
    if not gathered.tree.get("lines"):
        yield gathered.objection(("lines",), "there is no line: add a table such as [lines.home]")
    if not gathered.tree.get("channels"):
        yield gathered.objection(("channels",), "there is no channel: add a table such as [channels.phone]")


def _shared_numbers(gathered: Gathered) -> Iterator[Objection]:
    first: dict[str, str] = {}
    for name, line in _with_text(gathered, "lines", "number"):
        other = first.setdefault(line["number"], name)
        if other != name:
            key = ("lines", name, "number")
            yield gathered.objection(key, f"is the number of {dotted(('lines', other))} too")


def _with_text(gathered: Gathered, table: str, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines or channels that have text under a key."""
    return ((name, one) for name, one in gathered.tree.get(table, {}).items() if isinstance(one.get(key), str))


def _absent_channels(gathered: Gathered) -> Iterator[Objection]:
    present = tuple(key[1] for key in gathered.tables if key[0] == "channels" and len(key) == 2)
    for key, channel in named_channels(gathered):
        if channel not in present:
            yield gathered.objection(key, _absent(channel, present))


def _absent(channel: str, present: tuple[str, ...]) -> str:
    if not _LOOKS_LIKE_A_NAME.fullmatch(channel):  # a URL, for one, is not to be repeated
        return "names a channel that does not exist"
    return f"there is no channel {channel}{did_you_mean(shape.nearest(channel, present))}"


def _bad_urls(gathered: Gathered, object_to_url: ObjectToUrl) -> Iterator[Objection]:
    for name, channel in _with_text(gathered, "channels", "url"):
        against = object_to_url(channel["url"]) if channel["url"].strip() else None
        if against is not None:
            yield gathered.objection(("channels", name, "url"), against)


def bad_vcards(gathered: Gathered) -> Iterator[Objection]:
    """Files of contacts that are not there, can't be read or hold something else, as far as their beginnings tell."""
    names = gathered.tree.get("contacts", {}).get("vcards")
    for place, name in enumerate(names if isinstance(names, list) else (), 1):
        path = Path(gathered.source).parent / name if isinstance(name, str) and name.strip() else None
        against = path and _against_vcards(path)
        if path is not None and against is not None:
            yield gathered.objection(("contacts", "vcards"), f"entry {place}: {shown(name, path)} {against}")


def _against_vcards(path: Path) -> str | None:
    try:
        return vcards.objection(files.beginning(path, _BEGINNING))
    except files.UnreadableError as error:
        return str(error)


def unwise(gathered: Gathered, settings: Settings) -> Iterator[str]:
    """Sentences about what is accepted, but probably not meant."""
    intervals: dict[Key, Duration] = {("polling", "interval"): settings.polling.interval}
    intervals |= {("lines", name, "interval"): settings.interval_of(name) for name in settings.lines}
    for key, interval in intervals.items():
        if interval < BRISK and key in gathered.found:
            words = f"is below {spelled(BRISK)}, and every poll is a login at the operator"
            yield gathered.objection(key, words).sentence
    yield from _unwise_web(gathered, settings)
    for name, line in settings.lines.items():
        if line.channels == ():
            yield gathered.objection(("lines", name, "channels"), "is empty: nobody will be told").sentence
    yield from unwise_groups(gathered, settings)
    for name, channel in settings.channels.items():
        if not channel.events:
            yield gathered.objection(("channels", name, "events"), "is empty: it will get test alerts only").sentence


def _unwise_web(gathered: Gathered, settings: Settings) -> Iterator[str]:
    if settings.web.public_url and not settings.web.listen:
        yield gathered.objection(("web", "public_url"), 'is of no use while web.listen is ""').sentence
    if settings.web.is_open_to_strangers:
        words = "leads to the whole page, not to links alone, if the proxy lets everything pass: set web.token"
        yield gathered.objection(("web", "public_url"), words).sentence
