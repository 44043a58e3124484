"""Everything at once: the simulated operator, two lines, the daemon, and two channels that end on this terminal.

Callers leave messages. The office's PIN is wrong, so it costs one login and then waits for a person. The pager
is broken at first; its alerts wait for it. A simulated phone lies beside the status page: whoever touches it has the
story in hand from then on. Nothing outside a temporary folder is touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, tzinfo
from pathlib import Path
from random import Random
from socket import SO_REUSEADDR, SOL_SOCKET, socket
from tempfile import TemporaryDirectory
from textwrap import wrap

from rich.console import Console
from rich.markup import escape

from vmwatch import wording
from vmwatch.config import Loaded
from vmwatch.daemon import Daemon
from vmwatch.demo.hand import HOME, HOME_PIN, OFFICE, Hand
from vmwatch.demo.phone import Phone
from vmwatch.models import Decision
from vmwatch.settings import Settings, Web
from vmwatch.simulator import Simulator
from vmwatch.terminal import Terminal
from vmwatch.web import Beside

PAGER_MENDED_AFTER_S = 9.0
BETWEEN_CALLS_S = (2.0, 5.0)
HEARD_EVERY = 3
"""Every third message is listened to, so that it is no longer new."""
_MARGIN = " " * 17 + "│ "


class Demo:
    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._console = Console(highlight=False, soft_wrap=True)
        self._random = Random()  # noqa: S311 - who calls next is no secret
        self._simulator = Simulator()
        self._hand = Hand(self._simulator, self._random, self._whisper)
        self._shown = 0

    async def run(self, seconds: int | None) -> None:
        """Until Ctrl-C, or for so many seconds."""
        with TemporaryDirectory(prefix="vmwatch-demo-") as folder, _bound() as page:
            phone = Phone(self._hand.acts, self._hand.look, page.getsockname()[1])
            async with self._simulator, Terminal(self._show) as terminal, phone:
                self._prepare(phone.url)
                terminal.broken.add("pager")

                def load() -> Loaded:
                    return Loaded(self._settings(terminal), None, f"sqlite:///{Path(folder) / 'vmwatch.db'}")

                daemon = Daemon(load(), load, self._zone, self._narrate, beside=Beside(phone.origins, page))
                self._hand.reread = daemon.reload
                async with self._story(terminal, daemon, seconds):
                    await daemon.run()
        self._sum_up()

    def _prepare(self, address: str) -> None:
        self._simulator.add_line(HOME, HOME_PIN)
        self._simulator.add_line(OFFICE, "4321")
        self._say("[bold]vmwatch demo[/]: a simulated operator, two lines, two channels. Ctrl-C ends it.")
        self._say(f"Open [bold]{address}[/] to see it: a phone to leave messages with, beside vmwatch's page.")
        for _ in range(2):
            self._call()

    def _settings(self, terminal: Terminal) -> Settings:
        configuration = {
            "operator": {"base_url": self._simulator.base_url},
            "polling": {
                "interval": "1s",
                "error_backoff": {"initial": "2s", "max": "4s"},
                "unreachable_after": "6s",
            },
            "delivery": {"retry": {"initial": "1s", "max": "4s"}},
            "lines": {
                "home": {"number": HOME, "pin": self._hand.pin, "label": "Home"},
                "office": {"number": OFFICE, "pin": "0000", "label": "Office"},
            },
            "channels": {"phone": {"url": terminal.url("phone")}, "pager": {"url": terminal.url("pager")}},
        }
        return Settings.model_validate(configuration)

    # ---- what happens meanwhile ----

    @asynccontextmanager
    async def _story(self, terminal: Terminal, daemon: Daemon, seconds: int | None) -> AsyncIterator[None]:
        acts = [self._calls(), self._mend(terminal)] + ([self._end(daemon, seconds)] if seconds else [])
        tasks = [asyncio.create_task(act) for act in acts]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _calls(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(*BETWEEN_CALLS_S))
            if self._hand.has_touched:
                return
            self._call()
            if len(self._hand.left) % HEARD_EVERY == 0:
                self._simulator.hear(HOME, self._hand.left[-2])
                self._whisper("somebody listens to a message")

    def _call(self) -> None:
        self._whisper(self._hand.call())

    async def _mend(self, terminal: Terminal) -> None:
        await asyncio.sleep(PAGER_MENDED_AFTER_S)
        terminal.broken.discard("pager")
        self._whisper("the pager works again: what was owed to it goes out now")

    async def _end(self, daemon: Daemon, seconds: int) -> None:
        await asyncio.sleep(seconds)
        daemon.stop()

    # ---- what is shown ----

    def _narrate(self, decision: Decision) -> None:
        after = decision.after
        if decision.before.state is not after.state:
            self._say(f"  [cyan]{after.label}: {decision.before.state} → {after.state}[/], {_why(decision)}")
        if decision.left:
            self._say(f"  [cyan]{after.label}: {len(decision.left)} no longer new[/]")

    def _show(self, channel: str, title: str, body: str) -> None:
        self._shown += 1
        self._say(f"[bold green]{channel:>6}[/] │ [bold]{escape(title)}[/]")
        width = max(40, self._console.width - len(_MARGIN))
        for line in body.splitlines():
            for part in wrap(line, width):
                self._console.print(f"{_MARGIN}{escape(part)}")

    def _whisper(self, text: str) -> None:
        """What happens outside vmwatch."""
        self._say(f"  [dim]…{escape(text)}[/]")

    def _say(self, text: str) -> None:
        self._console.print(f"{datetime.now(self._zone):%H:%M:%S} {text}")

    def _sum_up(self) -> None:
        spent = len(self._simulator.logins(OFFICE))
        self._say(f"{len(self._hand.left)} voicemails left, {self._shown} alerts shown.")
        self._say(f"The office's wrong PIN cost {spent} login; the operator would lock the line after three.")


def _why(decision: Decision) -> str:
    return wording.REASONS[decision.after.reason]


def _bound() -> socket:
    """The page's usual address, or one that is free where another vmwatch has its page there."""
    host, port = Web().address
    try:
        return _bound_to(host, port)
    except OSError:
        return _bound_to(host, 0)


def _bound_to(host: str, port: int) -> socket:
    found = socket()
    found.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen()
    except OSError:
        found.close()
        raise
    return found
