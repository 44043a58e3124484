"""A task group whose one failure comes out as itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vmwatch.errors import VmwatchError


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
