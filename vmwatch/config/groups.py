"""What only shows between keys of `[callers]`, `remind` and `escalate`: exactly one group may have a caller."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vmwatch.config.gather import Gathered
from vmwatch.config.objections import Key, Objection, dotted
from vmwatch.settings import UNKNOWN, Settings

_NO_CONTACTS = "there are no contacts: set contacts.vcards or contacts.carddav.url"
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1", "1.0"})
"""What pydantic takes for true: the environment has nothing but words."""


def between_groups(gathered: Gathered) -> Iterator[Objection]:
    groups = {name: group for name, group in gathered.tree.get("callers", {}).items() if isinstance(group, dict)}
    yield from _shared_callers(gathered, groups)
    yield from _several_for_contacts(gathered, groups)


def _shared_callers(gathered: Gathered, groups: dict[str, dict[str, Any]]) -> Iterator[Objection]:
    first: dict[str, str] = {}
    for name, group in groups.items():
        numbers = group.get("numbers")
        for place, number in enumerate(numbers if isinstance(numbers, list) else (), 1):
            other = first.setdefault(number, name) if isinstance(number, str) else name
            if other != name:
                words = f"entry {place}: belongs to {dotted(('callers', other))} too"
                yield gathered.objection(("callers", name, "numbers"), words)


def _several_for_contacts(gathered: Gathered, groups: dict[str, dict[str, Any]]) -> Iterator[Objection]:
    names = [name for name, group in groups.items() if str(group.get("in_contacts")).lower() in _TRUE]
    for name in names[1:]:
        words = f"{dotted(('callers', names[0]))} has it too: who is in the contacts can belong to one group only"
        yield gathered.objection(("callers", name, "in_contacts"), words)
    contacts = gathered.tree.get("contacts", {})
    if names and not contacts.get("vcards") and not contacts.get("carddav", {}).get("url"):
        yield gathered.objection(("callers", names[0], "in_contacts"), _NO_CONTACTS)


def unwise_groups(gathered: Gathered, settings: Settings) -> Iterator[str]:
    """Sentences about groups that are accepted, but probably not meant so."""
    for name, group in settings.callers.items():
        if group.channels == ():
            words = "is empty: nobody will be told; mute = true says so too"
            yield gathered.objection(("callers", name, "channels"), words).sentence
        if UNKNOWN in group.numbers and not settings.contacts.are_there:
            words = f"every number is unknown: {_NO_CONTACTS}"
            yield gathered.objection(("callers", name, "numbers"), words).sentence


def named_channels(gathered: Gathered) -> Iterator[tuple[Key, str]]:
    """Every channel that is named somewhere, with the key that names it."""
    for top in ("lines", "callers"):
        for name, table in gathered.tree.get(top, {}).items():
            yield from (((top, name, "channels"), channel) for channel in _texts(table.get("channels")))
            for step in _list(table.get("escalate")):
                channels = _texts(step.get("channels")) if isinstance(step, dict) else ()
                yield from (((top, name, "escalate"), channel) for channel in channels)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> Iterator[str]:
    return (one for one in _list(value) if isinstance(one, str))
