"""What a process is configured to do, and in what several that share a ledger do not agree. Pure.

Nothing in it is a secret: of PINs, channels' URLs and templates it has one byte of a keyed hash, as the ledger has of
PINs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from vmwatch.decide.line import pin_tag
from vmwatch.pins import tag
from vmwatch.settings import Callers, Channel, Settings

OF_LINE = ("name", "PIN", "label", "channels", "interval", "enabled", "remind", "escalate")
_SECRETS, _WHEN = ("URL", "templates"), ("events", "quiet", "digest", "budget", "urgent")
_HOW = ("language", "timezone", "privacy", "update_in_place")
OF_CHANNEL = (*_SECRETS, *_WHEN, *_HOW)
OF_CALLERS = ("numbers", "in_contacts", "channels", "urgent", "mute", "min_length")
MOST = 10
"""Sentences about two configurations; of what is more than that only how much it is."""

Table = Mapping[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Setup:
    lines: Table
    """By number, in the order of OF_LINE."""
    channels: Table
    """By name, in the order of OF_CHANNEL."""
    callers: Table
    """By the group's name, in the order of OF_CALLERS."""

    @property
    def text(self) -> str:
        return json.dumps([self.lines, self.channels, self.callers], sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        return blake2b(self.text.encode(), digest_size=16).hexdigest()

    def has_pin(self, number: str, pin_tag: int) -> bool:
        """Whether the line is here with a PIN of this tag."""
        line = self.lines.get(number)
        return line is not None and line[OF_LINE.index("PIN")] == pin_tag


def setup_of(settings: Settings, salt: bytes) -> Setup:
    lines = {line.number: _of_line(settings, name, salt) for name, line in settings.lines.items()}
    channels = {name: _of_channel(settings, name, salt) for name in settings.channels}
    return Setup(lines, channels, {name: _of_group(group) for name, group in settings.callers.items()})


def _of_line(settings: Settings, name: str, salt: bytes) -> list[Any]:
    line = settings.lines[name]
    return [
        name,
        pin_tag(settings, salt, line),
        settings.label_of(name),
        None if line.channels is None else sorted(line.channels),
        settings.interval_of(name),
        line.enabled,
        [str(step) for step in line.remind],
        [[step.after, *sorted(step.channels)] for step in line.escalate],
    ]


def _of_channel(settings: Settings, name: str, salt: bytes) -> list[Any]:
    channel = settings.channels[name]
    url, templates = channel.url.get_secret_value(), channel.model_dump_json(include={"templates"})
    secrets = (tag(salt, "channel", name, url), tag(salt, "templates", name, templates))
    return [*secrets, *_when(channel), *_how(settings, channel)]


def _when(channel: Channel) -> list[Any]:
    waits = (None if wait is None else str(wait) for wait in (channel.digest, channel.budget))
    return [sorted(channel.events), sorted(map(str, channel.quiet)), *waits, sorted(channel.urgent)]


def _how(settings: Settings, channel: Channel) -> list[Any]:
    language, zone = channel.language or settings.alerts.language, channel.timezone or settings.alerts.timezone
    return [language, zone, channel.privacy.value, channel.update_in_place]


def _of_group(group: Callers) -> list[Any]:
    channels = None if group.channels is None else sorted(group.channels)
    return [sorted(group.numbers), group.in_contacts, channels, group.urgent, group.mute, group.min_length]


def setup_from(text: str) -> Setup:
    """What `Setup.text` was; another version of vmwatch may have told less, or more."""
    lines, channels, *rest = json.loads(text)
    return Setup(lines, channels, rest[0] if rest else {})


def disagreements(setups: Iterable[tuple[str, Setup]]) -> tuple[str, ...]:
    """In what the setups of processes, by their names, differ from the first one's, as sentences."""
    first, *others = setups
    told: dict[str, None] = {}
    for other in others:
        told |= dict.fromkeys(_between(first, other))
    return tuple(told)


def _between(one: tuple[str, Setup], other: tuple[str, Setup]) -> tuple[str, ...]:
    found = [*_differing(one, other)]
    more = len(found) - MOST
    names = f"{one[0]} and {other[0]}"
    rest = f"{more} more lines, channels or callers differ between {names}"
    return (*found[:MOST], rest) if more > 0 else tuple(found)


def _differing(one: tuple[str, Setup], other: tuple[str, Setup]) -> Iterator[str]:
    names, (here, there) = (one[0], other[0]), (one[1], other[1])
    for number in sorted({*here.lines, *there.lines}):
        either = here.lines.get(number) or there.lines[number]
        yield from _told(str(either[0]), names, here.lines.get(number), there.lines.get(number), OF_LINE)
    for name in sorted({*here.channels, *there.channels}):
        yield from _told(f"channel {name}", names, here.channels.get(name), there.channels.get(name), OF_CHANNEL)
    for name in sorted({*here.callers, *there.callers}):
        yield from _told(f"callers {name}", names, here.callers.get(name), there.callers.get(name), OF_CALLERS)


def _told(
    what: str, names: tuple[str, str], here: list[Any] | None, there: list[Any] | None, words: tuple[str, ...]
) -> Iterator[str]:
    if here is None or there is None:
        yield f"{what}: only {names[here is None]} has it"
    elif here != there:
        # Another version of vmwatch may tell less.
        differ = [word for word, one, other in zip(words, here, there, strict=False) if one != other]
        if differ:
            yield f"{what}: {names[0]} and {names[1]} differ in {', '.join(differ)}"
