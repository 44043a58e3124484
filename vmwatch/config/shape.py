"""Which keys there are, read off the models in `settings`, so that no list of them can fall behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import get_args, get_origin

from pydantic import BaseModel

from vmwatch.config.objections import LONGEST, Key
from vmwatch.settings import Settings

ANY = "*"
"""Stands for the name that a person gives a line or a channel."""
_FILE = "_file"
_READ_FROM_FILES = ("pin", "url", "token", "password")
"""Keys that may hold a secret, and so may be named by a file: `pin_file`, `url_file`, `token_file`, `password_file`."""


def _tables(model: type[BaseModel], at: Key) -> Iterator[tuple[Key, type[BaseModel]]]:
    yield at, model
    for name, field in model.model_fields.items():
        kind = field.annotation
        if get_origin(kind) is dict:
            yield from _tables(get_args(kind)[1], (*at, name, ANY))
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _tables(kind, (*at, name))


_TABLES = dict(_tables(Settings, ()))
_NAMED = frozenset(key[0] for key in _TABLES if key[1:] == (ANY,))


def _general(key: Key) -> Key:
    return (key[0], ANY, *key[2:]) if key[1:] and key[0] in _NAMED else key


def is_table(key: Key) -> bool:
    return _general(key) in _TABLES or (len(key) == 1 and key[0] in _NAMED)


def is_list(key: Key) -> bool:
    """Whether the key holds several words, written with commas where there is only text."""
    table = _TABLES.get(_general(key)[:-1])
    if table is None or key[-1] not in table.model_fields:
        return False
    kind = table.model_fields[key[-1]].annotation
    return any(get_origin(choice) is tuple for choice in (kind, *get_args(kind)))


def is_known(key: Key) -> bool:
    return is_table(key) or key[-1] in keys_of(key[:-1])


def first_unknown(key: Key) -> Key:
    """The shortest beginning of an unknown key that is unknown already."""
    return next((key[:size] for size in range(1, len(key)) if not is_known(key[:size])), key)


def keys_of(table: Key) -> tuple[str, ...]:
    """The keys of a table, `pin_file` and its like among them; none for what is no table of fixed keys."""
    model = _TABLES.get(_general(table))
    if model is None:
        return ()
    names = tuple(model.model_fields)
    return names + tuple(name + _FILE for name in names if name in _READ_FROM_FILES)


def content_key(key: Key) -> Key | None:
    """The key whose value the named file holds: `pin` for `pin_file`, None for any other key."""
    bare = key[-1].removesuffix(_FILE)
    return (*key[:-1], bare) if bare != key[-1] and bare in _READ_FROM_FILES else None


def every_key(name: str) -> Iterator[Key]:
    """Every key that holds a value, with `name` for the names that people give."""
    for table in _TABLES:
        for key in keys_of(table):
            if not is_table((*table, key)):
                yield (*(name if part == ANY else part for part in table), key)


def split(text: str) -> Key:
    """`lines__home__pin` as a key. A line's or channel's name may begin or end with a _ of its own."""
    top, _, rest = text.partition("__")
    if top not in _NAMED or "__" not in rest:
        return tuple(text.split("__"))
    name, _, key = rest.rpartition("__")
    return top, name, key


def nearest(written: str, choices: Iterable[str]) -> str | None:
    """Which of the choices was probably meant, if any."""
    return next(iter(get_close_matches(written[:LONGEST], list(choices), n=1, cutoff=0.65)), None)
