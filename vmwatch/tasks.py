"""Doing several things at once: a task group whose one failure comes out as itself, and long work in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import islice
from typing import TypeVar

from vmwatch.errors import VmwatchError

AT_ONCE = 500
T = TypeVar("T")


async def in_turns(making: Iterable[T]) -> list[T]:
    """All that it makes, with everything else getting its turn in between: for 50,000 lines some take seconds.

    Not in a thread: there it would have the interpreter for 5 ms after each thing that the loop waits for.
    """
    coming, made = iter(making), list[T]()
    while piece := list(islice(coming, AT_ONCE)):
        made += piece
        if len(piece) == AT_ONCE:
            await asyncio.sleep(0)
    return made


@asynccontextmanager
async def group() -> AsyncIterator[asyncio.TaskGroup]:
    """An asyncio.TaskGroup; where all that failed is ours, the first failure is raised bare, as a sentence."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as failures:
        ours, others = failures.split(VmwatchError)
        if ours is None or others is not None:
            raise
        failure: BaseException = ours
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        raise failure from None
