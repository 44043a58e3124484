"""The command line. Everything heavy is imported by the verb that needs it: `vmwatch --version` is at once."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from typing import Any

from vmwatch import signals
from vmwatch.cli.parser import Options, parser
from vmwatch.errors import VmwatchError

INTERRUPTED = 130
_MODULES = {
    "running": ("run", "demo", "simulate"),
    "looking": ("status", "messages", "outbox"),
    "previewing": ("preview",),
    "routing": ("route",),
    "installing": ("systemd-unit",),
    "supervising": ("reload", "tell-failure"),
    "acting": ("check", "poll", "pause", "resume", "test"),
    "seeing": ("ack", "snooze"),
    "beginning": ("init",),
    "keeping": ("backup", "restore", "health", "move-store"),
}

Verb = Callable[[Options], Coroutine[Any, Any, int]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status that CONTRACT promises (0, 1, 2, 75 or 78)."""
    options = parser().parse_args(arguments)
    if options.verb in _MODULES["running"]:
        signals.hold()
    try:
        status = _run(_verb(options.verb), options)
        sys.stdout.flush()
    except VmwatchError as error:
        _complain(str(error))
        return error.status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has read enough (`| head`); Python must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _run(verb: Verb, options: Options) -> int:
    import asyncio

    from vmwatch import logs

    logs.catch_crashes()
    with asyncio.Runner(loop_factory=_fast_loop() if options.verb == "run" else None) as runner:
        return runner.run(verb(options))


def _fast_loop() -> Callable[[], Any] | None:
    """uvloop's event loop where it is installed (the extra `fast`); None: asyncio's own."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop  # type: ignore[no-any-return]


def _complain(sentence: str) -> None:
    from vmwatch.logs import marked

    print(marked(sentence, logging.ERROR), file=sys.stderr)  # noqa: T201 - this is the command line


def _verb(name: str) -> Verb:
    module = next(module for module, verbs in _MODULES.items() if name in verbs)
    verb: Verb = getattr(import_module(f"vmwatch.cli.{module}"), name.replace("-", "_"))
    return verb
