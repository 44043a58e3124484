"""What a process is configured to do, and in what several that share a ledger do not agree. Pure.

Nothing in it is a secret: of PINs and channels' URLs it has one byte of a keyed hash, as the ledger has of PINs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from vmwatch.pins import tag
from vmwatch.settings import Channel, Settings

OF_LINE = ("name", "PIN", "label", "channels", "interval", "enabled", "remind", "escalate")
OF_CHANNEL = ("URL", "events", "quiet", "digest", "budget", "urgent")
MOST = 10
"""Sentences about two configurations; of what is more than that only how much it is."""

Table = Mapping[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Setup:
    lines: Table
    """By number, in the order of OF_LINE."""
    channels: Table
    """By name, in the order of OF_CHANNEL."""

    @property
    def text(self) -> str:
        return json.dumps([self.lines, self.channels], sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        return blake2b(self.text.encode(), digest_size=16).hexdigest()

    def has_pin(self, number: str, pin_tag: int) -> bool:
        """Whether the line is here with a PIN of this tag."""
        line = self.lines.get(number)
        return line is not None and line[OF_LINE.index("PIN")] == pin_tag


def setup_of(settings: Settings, salt: bytes) -> Setup:
    def pin_tag(number: str, pin: str) -> int:
        return tag(salt, settings.operator.base_url, number, pin)

    return Setup(
        lines={
            line.number: [
                name,
                pin_tag(line.number, line.pin.get_secret_value()),
                settings.label_of(name),
                None if line.channels is None else sorted(line.channels),
                settings.interval_of(name),
                line.enabled,
                [str(step) for step in line.remind],
                [[step.after, *sorted(step.channels)] for step in line.escalate],
            ]
            for name, line in settings.lines.items()
        },
        channels={
            name: [tag(salt, "channel", name, channel.url.get_secret_value()), *_of_channel(channel)]
            for name, channel in settings.channels.items()
        },
    )


def _of_channel(channel: Channel) -> list[Any]:
    waits = (None if wait is None else str(wait) for wait in (channel.digest, channel.budget))
    return [sorted(channel.events), sorted(map(str, channel.quiet)), *waits, sorted(channel.urgent)]


def setup_from(text: str) -> Setup:
    return Setup(*json.loads(text))


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
    return (*found[:MOST], f"{more} more lines or channels differ between {names}") if more > 0 else tuple(found)


def _differing(one: tuple[str, Setup], other: tuple[str, Setup]) -> Iterator[str]:
    names, (here, there) = (one[0], other[0]), (one[1], other[1])
    for number in sorted({*here.lines, *there.lines}):
        either = here.lines.get(number) or there.lines[number]
        yield from _told(str(either[0]), names, here.lines.get(number), there.lines.get(number), OF_LINE)
    for name in sorted({*here.channels, *there.channels}):
        yield from _told(f"channel {name}", names, here.channels.get(name), there.channels.get(name), OF_CHANNEL)


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
