"""The three places that values come from, each made into a tree of the same form, and the tree they make together.

pydantic-settings merges them. Its own sources are not used: they read os.environ, make numbers of PINs
("0123" too), forget where a value came from, and drop what they do not know without a word.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from vmwatch.config import files, shape
from vmwatch.config.objections import Found, Key, Objection, Origin, Place, did_you_mean
from vmwatch.config.places import locate

PREFIX = "vmwatch_"
_ASIDE = "vmwatch_test_"
_NAMES_THE_FILE = "VMWATCH_CONFIG"


@dataclass(frozen=True, slots=True)
class FromFile:
    """The name of a file that holds the value: read only if no source of a higher rank sets the value."""

    name: str


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source says: `tree` has a `Found` for each value, `tables` says where each table begins."""

    tree: dict[str, Any] = field(default_factory=dict)
    tables: dict[Key, Place] = field(default_factory=dict)
    objections: list[Objection] = field(default_factory=list)

    def add(self, key: Key, found: Found) -> None:
        """Takes a value in, or objects to it. A table comes as an empty dict, before what is in it."""
        if not shape.is_known(key):
            self._object(shape.first_unknown(key), found.place, _unknown(found))
        elif shape.is_table(key):
            self._add_table(key, found)
        elif shape.content_key(key):
            self._add_file(key, found)
        else:
            self._put(key, found)

    def only(self, top: str) -> Layer:
        """The layer as it would be if nothing but this table were in it."""
        tree = {name: branch for name, branch in self.tree.items() if name == top}
        tables = {key: place for key, place in self.tables.items() if key[0] == top}
        return Layer(tree, tables, [objection for objection in self.objections if objection.key[:1] == (top,)])

    def _add_table(self, key: Key, found: Found) -> None:
        self.tables.setdefault(key, found.place)
        if found.value == {}:
            self._table(key, found.place)
        elif found.place.origin is Origin.FILE:
            self._object(key, found.place, "must be a table")
        else:
            self._object(key, found.place, "is a table: set its keys one by one")

    def _add_file(self, key: Key, found: Found) -> None:
        content = shape.content_key(key) or key
        if isinstance(found.value, str) and found.value:
            self._put(content, Found(FromFile(found.value), found.place))
        else:
            self._object(content, found.place, "must be the name of a file, in quotes")

    def _put(self, key: Key, found: Found) -> None:
        table = self._table(key[:-1], found.place)
        other = table.setdefault(key[-1], found)
        if other is found:
            return
        if other.place.key == found.place.key:
            self._object(key, found.place, "is set twice")
        else:
            self._object(key, found.place, f"set either {key[-1]} or {key[-1]}_file, not both")

    def _table(self, key: Key, place: Place) -> dict[str, Any]:
        table = self.tree
        for depth, part in enumerate(key, 1):
            self.tables.setdefault(key[:depth], place)
            table = table.setdefault(part, {})
        return table

    def _object(self, key: Key, place: Place, words: str) -> None:
        self.objections.append(Objection(key, place, place.key, words))


def _unknown(found: Found) -> str:
    """Names and guesses only: what is unknown may be a PIN under a misspelt key."""
    key = found.place.key
    if found.place.origin is Origin.FILE:
        kind = "table" if isinstance(found.value, dict) else "key"
        return f"unknown {kind}{did_you_mean(shape.nearest(key[-1], shape.keys_of(key[:-1])))}"
    names = ["__".join(choice) for choice in shape.every_key(key[1] if key[2:] else "name")]
    if found.place.origin is Origin.CREDENTIAL:
        return f"names no key{did_you_mean(shape.nearest('__'.join(key), names))}"
    near = shape.nearest("__".join(key), [*names, "config"])
    return f"names no key{did_you_mean(near and (PREFIX + near).upper())}"


def from_toml(text: str, source: str) -> Layer:
    """Raises ValueError (tomllib's) or RecursionError."""
    document = tomllib.loads(text)
    lines = locate(text)
    layer = Layer()

    def add(table: Mapping[str, Any], at: Key) -> None:
        for name, value in table.items():
            key = (*at, name)
            place = Place(Origin.FILE, source, line_of(lines, key), key)
            descend = isinstance(value, dict) and shape.is_table(key)
            layer.add(key, Found({} if descend else value, place))
            if descend:
                add(value, key)

    add(document, ())
    return layer


def line_of(lines: Mapping[Key, int], key: Key) -> int:
    """The line of a key, or of the nearest table around it."""
    return next((lines[key[:size]] for size in range(len(key), 0, -1) if key[:size] in lines), 1)


def from_environment(environ: Mapping[str, str]) -> Layer:
    layer = Layer()
    for name, value in sorted(environ.items()):
        low = name.lower()
        if low.startswith(PREFIX) and not low.startswith(_ASIDE) and name != _NAMES_THE_FILE:
            _add_text(layer, Origin.ENVIRONMENT, name, low.removeprefix(PREFIX), value)
    return layer


def from_credentials(environ: Mapping[str, str]) -> Layer:
    """The files in $CREDENTIALS_DIRECTORY that are named like keys; others there are not ours."""
    layer = Layer()
    variable = "CREDENTIALS_DIRECTORY"
    folder = Path(environ.get(variable) or ".")
    try:
        names = files.names_in(folder) if environ.get(variable) else []
    except files.UnreadableError as error:
        layer.objections.append(Objection((), Place(Origin.ENVIRONMENT, variable, 0, ()), (), str(error)))
        return layer
    for name in names:
        _add_credential(layer, folder / name)
    return layer


def _add_credential(layer: Layer, file: Path) -> None:
    low = file.name.lower()
    if not low.startswith(PREFIX) and "__" not in low:
        return
    key = low.removeprefix(PREFIX)
    try:
        _add_text(layer, Origin.CREDENTIAL, file.name, key, files.read_secret(file))
    except files.UnreadableError as error:
        path = shape.split(key)
        place = Place(Origin.CREDENTIAL, file.name, 0, path)
        layer.objections.append(Objection(path, place, path, str(error)))


def _add_text(layer: Layer, origin: Origin, source: str, name: str, text: str) -> None:
    key = shape.split(name)
    place = Place(origin, source, 0, key)
    try:
        layer.add(key, Found(_listed(text) if shape.is_list(key) else _utf8(text), place))
    except ValueError as error:
        layer.objections.append(Objection(key, place, key, str(error)))


def _utf8(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("is not UTF-8 text")
    return text


def _listed(text: str) -> list[Any]:
    """`phone, mail` or `["phone", "mail"]`."""
    if not text.lstrip().startswith("["):
        return [name.strip() for name in text.split(",") if name.strip()]
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):  # `from None`: the error holds the text
        raise ValueError('must be names with commas between them, or a list like ["phone", "mail"]') from None
    return list(names)


class _Merged(BaseSettings):
    """Where pydantic-settings puts the layers together: of two that set the same value, the first one wins."""

    model_config = SettingsConfigDict(frozen=True, hide_input_in_errors=True)
    tree: dict[str, Any] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        layers: Iterable[Layer] = init_settings()["layers"]
        return tuple(_LayerSource(settings_cls, layer) for layer in layers)


class _LayerSource(PydanticBaseSettingsSource):
    def __init__(self, settings_cls: type[BaseSettings], layer: Layer) -> None:
        super().__init__(settings_cls)
        self._layer = layer

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return getattr(self._layer, field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return {name: self.get_field_value(field, name)[0] for name, field in _Merged.model_fields.items()}


def merge(layers: Iterable[Layer]) -> dict[str, Any]:
    """One tree out of several, the layer of the highest rank first."""
    return _Merged(layers=tuple(layers)).tree  # type: ignore[call-arg]


def values(tree: Mapping[str, Any], at: Key = ()) -> Iterator[tuple[Key, Found]]:
    for name, branch in tree.items():
        if isinstance(branch, Found):
            yield (*at, name), branch
        else:
            yield from values(branch, (*at, name))
