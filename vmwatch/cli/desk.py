"""What the verbs share: the configuration, the ledger, finding a line, and showing things."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vmwatch import config, logs
from vmwatch.ledger import Ledger
from vmwatch.models import Instant

if TYPE_CHECKING:
    from vmwatch.heartbeat import Clock

_WHOLE_LINES = 1000
"""Columns of what is no terminal: more than any table needs."""


def place(named: str | None) -> Path:
    return config.find(named, os.environ)


def load(named: str | None) -> config.Loaded:
    """The configuration for a verb that ends. It tells its results itself; what it logs is what it could not do."""
    loaded = read(named)
    logs.set_up(redaction(loaded), level="error")
    return loaded


def read(named: str | None) -> config.Loaded:
    """The whole configuration, with the channels' URLs tried. Warnings go to standard error."""
    from vmwatch.channels import objection

    loaded = config.load(place(named), os.environ, objection)
    for warning in loaded.warnings:
        say(logs.marked(f"warning: {warning}", logging.WARNING))
    return loaded


def redaction(loaded: config.Loaded) -> logs.Redaction:
    return logs.Redaction(loaded.secrets, loaded.names)


@asynccontextmanager
async def store(named: str | None) -> AsyncIterator[Ledger]:
    """The ledger that the configuration names; its secrets need not be readable for that."""
    ledger = await Ledger.open(config.load_store(place(named), os.environ), create=False)
    try:
        yield ledger
    finally:
        await ledger.close()


async def now(ledger: Ledger) -> Instant:
    """By the clock that the store's daemons go by."""
    return (await clock(ledger)).now()


async def clock(ledger: Ledger) -> Clock:
    from vmwatch.heartbeat import Clock

    found = Clock()
    await found.go_by(ledger.time)
    return found


def wall() -> Instant:
    """By this machine's own clock, which what is kept outside the ledger goes by."""
    from vmwatch.heartbeat import Clock

    return Clock().wall()


def say(text: str) -> None:
    """A sentence for the person at the terminal, on standard error."""
    print(text, file=sys.stderr)  # noqa: T201 - this is the command line


def out() -> Console:
    """Fitted to a terminal's width; what reads a pipe or a file gets whole lines."""
    to_person = sys.stdout.isatty()
    return _Out(highlight=False, emoji=False, soft_wrap=not to_person, width=None if to_person else _WHOLE_LINES)


class _Out(Console):
    def on_broken_pipe(self) -> None:
        """Who closed our output has read enough; rich itself would end the process as if it had failed."""
        raise BrokenPipeError


def print_json(shape: Any) -> None:
    print(logs.visible(json.dumps(shape, ensure_ascii=False, indent=2)))  # noqa: T201 - this is the command line


def listed(words: Iterable[str]) -> str:
    return ", ".join(words)
