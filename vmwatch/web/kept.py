"""Answers kept for a moment and made one at a time: however often one is asked for, polling is not held up by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

FRESH_S = 0.5

T = TypeVar("T")


class Kept(Generic[T]):
    def __init__(self, fresh_s: float = FRESH_S) -> None:
        self._fresh_s = fresh_s
        self._one_at_a_time = asyncio.Lock()
        self._kept: dict[Hashable, tuple[float, T]] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """What `make` makes, or made a moment ago under the same key."""
        found = self._fresh(key) or await self._next(key, make)
        return found[1]

    def forget(self) -> None:
        """What is asked for next is made anew: something was changed."""
        self._kept.clear()

    async def _next(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> tuple[float, T]:
        async with self._one_at_a_time:
            return self._fresh(key) or await self._made(key, make)

    async def _made(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> tuple[float, T]:
        """The others wait for as long again as it took, so that at least half of the time is left to the daemon."""
        began = time.monotonic()
        answer = await make()
        made = time.monotonic()
        self._kept[key] = made, answer
        await asyncio.sleep(made - began)
        return made, answer

    def _fresh(self, key: Hashable) -> tuple[float, T] | None:
        oldest = time.monotonic() - self._fresh_s
        self._kept = {key: kept for key, kept in self._kept.items() if kept[0] >= oldest}
        return self._kept.get(key)
