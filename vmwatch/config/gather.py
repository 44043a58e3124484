"""All sources of a configuration, read and put together: what is set, where it was written, what is wrong already."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmwatch.config import files, layers
from vmwatch.config.layers import FromFile, Layer
from vmwatch.config.objections import HIDDEN, QUOTED, Found, Key, Objection, Origin, Place
from vmwatch.errors import ConfigError

_NAME = re.compile(r"[A-Za-z_-][\w-]*", re.ASCII)
_LONGEST = 200
"""Characters of tomllib's words, which can hold a key of any length."""
_A_PATH = re.compile(r"[\w./~-]*[^\W\d][\w./~-]*")
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_WHERE = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Gathered:
    source: str
    tree: dict[str, Any] = field(repr=False)
    """Plain values, secrets among them."""
    found: dict[Key, Place]
    """Where each value that counts was written."""
    tables: dict[Key, Place]
    objections: list[Objection]

    def place_of(self, key: Key) -> Place:
        """Where a key was written; for one that is missing, what it would stand in."""
        if key in self.found:
            return self.found[key]
        around = (key[:size] for size in range(len(key), 0, -1))
        start = Place(Origin.FILE, self.source, 1, ())
        written = (self.found.get(part) or self.tables.get(part) for part in around)
        return next(filter(None, written), start)

    def objection(self, key: Key, words: str) -> Objection:
        place = self.place_of(key)
        written = place.key if key in self.found else key
        if written != key:  # the value stands in a file of its own, where nothing is quoted
            words = words.removesuffix(QUOTED)
        return Objection(key, place, written, words)


def gather(path: Path, environ: Mapping[str, str], only: str | None = None) -> Gathered:
    """Everything, or the one table `only`. Raises ConfigError where the file can't be read as TOML."""
    stack = [layers.from_environment(environ), layers.from_credentials(environ), _file_layer(path)]
    if only is not None:
        stack = [layer.only(only) for layer in stack]
    objections = [objection for layer in stack for objection in layer.objections]
    tables = {key: place for layer in stack for key, place in layer.tables.items()}  # the file's word counts
    merged = layers.merge(stack)
    found = {key: one.place for key, one in layers.values(merged)}
    return Gathered(str(path), _plain(merged, path.parent, objections), found, tables, objections)


def _plain(tree: Mapping[str, Any], folder: Path, objections: list[Objection]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, branch in tree.items():
        try:
            plain[name] = _value(branch, folder) if isinstance(branch, Found) else _plain(branch, folder, objections)
        except files.UnreadableError as error:
            key = branch.place.key
            objections.append(Objection((*key[:-1], name), branch.place, key, str(error)))
    return plain


def _value(found: Found, folder: Path) -> Any:
    if not isinstance(found.value, FromFile):
        return found.value
    path = folder / found.value.name
    try:
        return files.read_secret(path)
    except files.UnreadableError as error:
        raise files.UnreadableError(f"{shown(found.value.name, path)} {error}") from None


def shown(name: str, path: Path) -> str:
    """A path as a sentence may repeat it, unless the secret itself was written where its file belongs."""
    return str(path) if _A_PATH.fullmatch(name) and not name.isdigit() else "the file"


def _file_layer(path: Path) -> Layer:
    try:
        text = files.read_text(path, files.LARGEST_CONFIG)
    except files.UnreadableError as error:
        raise ConfigError((f"{path}: {error}",)) from None
    try:
        return layers.from_toml(text, str(path))
    except RecursionError:
        raise ConfigError((f"{path}: is nested too deeply",)) from None
    except ValueError as error:
        raise ConfigError((_not_toml(path, text, str(error)),)) from None


def _named(quoted: re.Match[str]) -> str:
    name = quoted[1] or quoted[2] or ""
    return quoted[0] if len(name) == 1 or _NAME.fullmatch(name) else HIDDEN


def _not_toml(path: Path, text: str, words: str) -> str:
    """tomllib's own words, which name keys and single characters, but no values; a key may be a stray secret."""
    where = _WHERE.search(words)
    if where is None:
        return f"{path}: is not valid TOML"
    words = _QUOTED.sub(_named, words[: where.start()])[:_LONGEST]
    if where["line"] is None:
        return f"{path}:{text.count(chr(10)) + 1}: is not valid TOML: {words}, at the end of the file"
    return f"{path}:{where['line']}: is not valid TOML: {words}, at column {where['column']}"
