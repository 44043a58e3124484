"""`vmwatch demo` as people start it: what it shows, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from world import until

from vmwatch.demo import PAGER_MENDED_AFTER_S

SOON_S = 10.0
"""How long an end may take on a machine that does other things too; nothing is under way that would keep it."""
ROOT = Path(__file__).parents[1]


@dataclass
class Demo:
    process: Process
    output: Path

    def shown(self) -> str:
        return self.output.read_text()

    def has_shown(self, *words: str) -> Callable[[], bool]:
        return lambda: all(one in self.shown() for one in words)


@contextlib.asynccontextmanager
async def demo(folder: Path, *arguments: str) -> AsyncIterator[Demo]:
    """In a home and a folder of its own, its output in a file; at its end nothing may be left in any of them."""
    places = {name: folder / name for name in ("HOME", "TMPDIR", "PWD")}
    for place in places.values():
        place.mkdir(parents=True)
    own = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | {name: str(at) for name, at in places.items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VMWATCH_", "NOTIFY_", "XDG_"))}
    with (folder / "shown").open("w") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "vmwatch", "demo", *arguments),
            cwd=places["PWD"],
            env=kept | own,
            stdout=output,
            stderr=output,
        )
    try:
        yield Demo(process, folder / "shown")
        assert [str(left) for place in places.values() for left in place.rglob("*")] == []
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_alerts_appear_a_wrong_pin_costs_one_login_and_a_channel_comes_back(tmp_path: Path) -> None:
    async with demo(tmp_path) as run:
        everything = ("phone │ Voicemail from", "phone │ Channel pager works again", "pager │ Office: ")
        await until(run.has_shown(*everything), within=PAGER_MENDED_AFTER_S + 30)
        run.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(run.process.wait(), 20) == 0
        shown = run.shown()
    assert re.search(r"Open http://127\.0\.0\.1:\d+/ to see it", shown)
    assert "Office: waiting → rejected, the operator rejected the PIN" in shown
    assert re.search(r"phone │ .*waiting on Home", shown), "what waited when the line was first read"
    assert "phone │ Office: voicemail is no longer watched" in shown
    assert "phone │ Channel pager: alerts do not get through" in shown
    assert "phone │ Channel pager works again" in shown
    mended = shown.index("the pager works again")
    assert "pager │ " not in shown[:mended]
    assert "pager │ Office: voicemail is no longer watched" in shown[mended:], "what was owed to it goes out"
    assert "The office's wrong PIN cost 1 login;" in shown
    assert re.search(r"\d+ voicemails left, \d+ alerts shown\.\n", shown)
    assert "\x1b" not in shown, "a file gets plain text"
    assert "Traceback" not in shown


async def test_ctrl_c_sigterm_and_the_end_of_its_time_end_it_well_and_at_once(tmp_path: Path) -> None:
    """Side by side, to save time: while it still starts, and once alerts were shown."""
    started, alerted = ("vmwatch demo",), ("phone │ ", "Office: waiting → rejected")

    async def ended(number: signal.Signals, when: tuple[str, ...]) -> float:
        async with demo(tmp_path / f"{number.name}-{len(when)}") as run:
            await until(run.has_shown(*when), within=30)
            began = time.monotonic()
            run.process.send_signal(number)
            await well(run)
            assert when is started or "The office's wrong PIN cost 1 login;" in run.shown()
            return time.monotonic() - began

    async def timed() -> None:
        async with demo(tmp_path / "timed", "--seconds", "2") as run:
            await well(run)

    ends = [ended(number, when) for number in (signal.SIGINT, signal.SIGTERM) for when in (started, alerted)]
    *took, _ = await asyncio.gather(*ends, timed())
    assert max(filter(None, took)) < SOON_S


async def well(run: Demo) -> None:
    assert await asyncio.wait_for(run.process.wait(), 30) == 0, run.shown()
    assert "voicemails left" in run.shown()
    assert "Traceback" not in run.shown()
