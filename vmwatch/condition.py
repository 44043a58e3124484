"""How things stand, in the one line that `systemctl status` shows: what needs a person, and nothing that is well.

`2 of 3 lines ok; home: the operator rejected the PIN; channel phone: failing (HTTP 500)`
"""

from __future__ import annotations

from collections.abc import Iterable

from vmwatch.models import ChannelStanding, ChannelState, LineState, Standing
from vmwatch.wording import REASONS

_NOT_WORTH_TELLING = frozenset({LineState.OK, LineState.WAITING})


class Condition:
    """Told whenever something changes; `str()` is the line."""

    def __init__(self) -> None:
        self._numbers: frozenset[str] = frozenset()
        self._names: set[str] = set()
        self._lines: dict[str, str] = {}
        self._channels: dict[str, str] = {}
        self.store = ""
        """What keeps the store from being written."""
        self.stale: tuple[str, ...] = ()
        """Lines that are not read though nothing is wrong with them; alerts tell them, `str()` does not."""
        self.refusal = ""
        """Why the configuration that is in the file is not the one that vmwatch goes by."""

    def watch(self, numbers: Iterable[str], lines: Iterable[Standing], channels: Iterable[ChannelStanding]) -> None:
        """From here on it is about the lines of these numbers and these channels, and no others.

        `lines` are those that may need a person; the rest, and there may be 50,000 of them, are well.
        """
        channels = tuple(channels)
        self._numbers, self._names = frozenset(numbers), {channel.name for channel in channels}
        self._lines, self._channels = {}, {}
        for line in lines:
            self.line(line)
        for channel in channels:
            self.channel(channel)

    def line(self, standing: Standing) -> None:
        self._lines.pop(standing.number, None)
        if standing.number in self._numbers and standing.enabled and standing.state not in _NOT_WORTH_TELLING:
            self._lines[standing.number] = f"{standing.name}: {REASONS[standing.reason]}"

    def channel(self, standing: ChannelStanding) -> None:
        self._channels.pop(standing.name, None)
        if standing.name in self._names and standing.state is not ChannelState.OK:
            detail = f" ({standing.last_error})" if standing.last_error else ""
            self._channels[standing.name] = f"channel {standing.name}: {standing.state}{detail}"

    def __str__(self) -> str:
        count = len(self._numbers)
        refused = f"the new configuration is refused, the old one stays: {self.refusal}" if self.refusal else ""
        whole = (refused, self.store, *self._lines.values(), *self._channels.values())
        return "; ".join((f"{count - len(self._lines)} of {count} lines ok", *filter(None, whole)))
