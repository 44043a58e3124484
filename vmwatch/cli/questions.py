"""Asking the person at the terminal, on standard error, so that what a verb tells can go elsewhere."""

from __future__ import annotations

import getpass
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from vmwatch.cli import desk
from vmwatch.errors import UsageError

Objection = Callable[[str], str | None]


def can_ask() -> bool:
    return sys.stdin.isatty()


def ask(words: str, *, default: str = "", hidden: bool = False, against: Objection = lambda _: None) -> str:
    """Ask until there is nothing against the answer; a `hidden` one is not echoed. Raises UsageError."""
    prompt = f"{words} [{default}]: " if default else f"{words}: "
    while True:
        answer = _answer(prompt, hidden=hidden).strip() or default
        objection = against(answer)
        if objection is None:
            return answer
        desk.say(f"  {objection}")


def ask_choice(words: str, choices: Sequence[str]) -> int:
    """Which of the choices is meant, counted from 0; the first is Enter's."""
    desk.say(words)
    for place, choice in enumerate(choices, 1):
        desk.say(f"  {place}  {choice}")
    numbers = [str(place) for place in range(1, len(choices) + 1)]
    against = f"a number from 1 to {len(choices)}"
    return numbers.index(ask("Number", default="1", against=lambda answer: None if answer in numbers else against))


def _answer(prompt: str, *, hidden: bool) -> str:
    try:
        with _interruptible():
            if hidden:
                return getpass.getpass(prompt)
            sys.stderr.write(prompt)
            sys.stderr.flush()
            return input()
    except EOFError:
        raise UsageError("\nthe questions were not answered to their end; nothing was written") from None


@contextmanager
def _interruptible() -> Iterator[None]:
    """asyncio's own way with Ctrl-C waits for the loop, which waits for the answer."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
