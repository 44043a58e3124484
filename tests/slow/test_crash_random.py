"""vmwatch killed at 200 random instants while 1,000 messages arrive: nothing lost, every repeat explained.

Start-up, watching and shutting down are all killed in. What is random comes from one seed, which is printed;
VMWATCH_TEST_SEED repeats it as far as processes can be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from crash_world import Callers, Ear, alive_until, half_written, note_kill, rows
from receivers import Webhook
from world import WRONG_PIN, Running, World, until, world_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

KILLS = 200
MESSAGES = 1000
CALLS_A_LIFE = MESSAGES // KILLS
LINES = [f"line{place}" for place in range(5)]
TOLD_AGAIN = ("voicemail.digest", "voicemail.escalated")
"""What the paper gets, and the boss."""
LONGEST_LIFE_S = 0.5
SHARE_READY = 0.7
"""Of lives that begin to count when the daemon is ready; the others, from the first moment, mostly end before that."""
SHUTDOWN_S = 0.1
SHARE_SHUTTING_DOWN = 0.2


async def test_killed_at_any_instant_nothing_is_lost_and_every_repeat_is_explained(tmp_path: Path) -> None:
    seed = int(os.environ.get("VMWATCH_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"VMWATCH_TEST_SEED={seed}")
    async with (
        world_in(tmp_path) as world,
        Webhook() as phone,
        Webhook() as desk,
        Webhook() as paper,
        Webhook() as boss,
    ):
        ears, callers = [Ear(phone), Ear(desk)], Callers(world)
        late = [Ear(paper), Ear(boss)]
        _five_lines_and_a_wrong_pin(world, phone, desk)
        _a_paper_and_a_boss(world, paper, boss)
        await _all_are_read(world)
        chance = random.Random(seed)
        for _ in range(KILLS):
            async with world.started() as daemon:
                await _killed(daemon, callers, chance)
            await note_kill([*ears, *late])
        async with world.running(cold=True) as daemon:
            await alive_until(daemon, lambda: _nothing_is_pending(world, callers), within=180)
        repeats = [text.splitlines()[0] for ear in ears for text in ear.repeats()]
        titles = [title for ear in ears for title in ear.titles()]
        summaries = sum("new voicemails" in title for title in titles)
        print(f"{KILLS} kills, {len(callers.names)} messages, {len(titles)} alerts arrived ({summaries} summaries)")
        print(f"sent twice: {len(repeats)}, each in the window between sending and noting")
        assert _unheard(world, ears, callers) == []
        assert _unexpected(ears) == set()
        assert [ear.told_differently() for ear in ears] == [[], []]
        assert half_written(world.store, 3, {"line.rejected": 2, **dict.fromkeys(TOLD_AGAIN, 1)}) == []
        assert [len(ear.titles()) - len(ear.repeats()) for ear in late] == [_sent(world, kind) for kind in TOLD_AGAIN]
        assert [_not_told_once(world, kind) for kind in TOLD_AGAIN] == [[], []]
        assert [len(world.operator.failed_logins(number)) for number in world.numbers.values()] == [0, 0, 0, 0, 0, 1]


def _five_lines_and_a_wrong_pin(world: World, *hooks: Webhook) -> None:
    world.config["polling"] |= {"first_poll": "each", "error_backoff": {"initial": "1s", "max": "1s"}}
    for name in LINES:
        world.line(name)
    world.line("wrong", told=WRONG_PIN)
    for place, hook in enumerate(hooks):
        world.channel(f"hook{place}", hook.url)


def _a_paper_and_a_boss(world: World, paper: Webhook, boss: Webhook) -> None:
    """One that holds everything for a digest, and one who is told when nobody listens: nobody ever does."""
    later = datetime.now(UTC) + timedelta(hours=12)
    world.channel("paper", paper.url, digest=f"{later:%H:%M}", events=["voicemail.new", "voicemail.summary"])
    world.channel("boss", boss.url, events=["voicemail.heard"])
    for name in LINES:
        world.config[f"lines.{name}"]["escalate"] = [{"after": "1m", "channels": ["boss"]}]


async def _all_are_read(world: World) -> None:
    """Before the storm: a PIN that never worked would wait five minutes after a lost verdict."""
    async with world.running():
        await until(lambda: len(rows(world.store, "SELECT 1 FROM line WHERE state IN ('ok', 'rejected')")) == 6)


async def _killed(daemon: Running, callers: Callers, chance: random.Random) -> None:
    """At any instant of a short life, in which some people call."""
    if chance.random() < SHARE_READY:
        await daemon.ready()
    life = chance.uniform(0, LONGEST_LIFE_S)
    for _ in range(CALLS_A_LIFE):
        callers.call(chance.choice(LINES))
        await asyncio.sleep(life / CALLS_A_LIFE)
    if chance.random() < SHARE_SHUTTING_DOWN:
        with contextlib.suppress(ProcessLookupError):
            daemon.send(signal.SIGTERM)
        await asyncio.sleep(chance.uniform(0, SHUTDOWN_S))
    await daemon.kill()


def _nothing_is_pending(world: World, callers: Callers) -> bool:
    counts = (
        "message",
        "delivery WHERE state <> 'sent' AND channel <> 'paper'",
        "delivery WHERE state = 'pending' AND waits IS NULL",
        "follow_up",
    )
    (known,), *unfinished = rows(world.store, " UNION ALL ".join(f"SELECT COUNT(*) FROM {each}" for each in counts))
    if known != len(callers.names) or any(count for (count,) in unfinished):
        return False
    # Only the paper still waits: now its time has come.
    world.sql("UPDATE delivery SET next_attempt_at = 0 WHERE state = 'pending' AND waits = 'digest'")
    return rows(world.store, "SELECT 1 FROM delivery WHERE state = 'pending'") == []


def _sent(world: World, kind: str) -> int:
    return len(rows(world.store, f"SELECT 1 FROM alert WHERE kind = '{kind}'"))


def _not_told_once(world: World, kind: str) -> list[tuple[object, ...]]:
    """Messages that no alert of the kind tells of, or two."""
    return rows(
        world.store,
        "SELECT m.id, (SELECT COUNT(*) FROM mention o JOIN alert a ON a.id = o.alert_id WHERE o.message = m.id "
        f"AND o.number = m.number AND a.kind = '{kind}') AS times FROM message m WHERE times <> 1",
    )


def _unheard(world: World, ears: list[Ear], callers: Callers) -> list[str]:
    """Callers whom some channel did not name, but for those whom a summary of more than ten only counts."""
    counted_only: set[str] = set()
    for facts, id_ in rows(world.store, "SELECT facts, id FROM alert WHERE kind = 'voicemail.summary'"):
        shown = {voicemail["caller_name"] for voicemail in json.loads(str(facts))["voicemails"]}
        announced = rows(world.store, f"SELECT caller_name FROM message WHERE alert_id = {id_}")
        counted_only |= {str(name) for (name,) in announced} - shown
    return [name for ear in ears for name in callers.names if name not in ear.callers() | counted_only]


def _unexpected(ears: list[Ear]) -> set[str]:
    """Titles of alerts that nothing here gives cause for."""
    known = ("Voicemail from Caller ", "wrong: voicemail is no longer watched")
    titles = {title for ear in ears for title in ear.titles()}
    return {title for title in titles if not title.startswith(known) and " new voicemails on line" not in title}
