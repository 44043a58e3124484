"""A store that is cut short, full, held, forbidden or damaged: nothing is lost, nothing is asked that can't be noted.

The full disk is a tmpfs in a mount namespace of the daemon's own (`unshare`, root or user namespaces); what root may
not do is tried without the capability to override modes (`setpriv`). Where a machine forbids these, the test is
skipped with what the machine said; in CI (`CI=true`) it fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from crash_world import VMWATCH_RUN, Callers, Ear, begun_by, half_written, rows
from receivers import Webhook
from world import Running, World, until, world_in

from vmwatch.errors import LedgerError
from vmwatch.ledger import Ledger
from vmwatch.ledger.engine import Transaction
from vmwatch.ledger.sqlite import SqliteEngine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

FAILING = "Voicemail is not being watched: vmwatch can't write to its store"
RECOVERED = "Voicemail is being watched again"
MESSAGES = 4
HELD_S = 30.0
IS_ROOT = os.geteuid() == 0
OBEYING_MODES = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if IS_ROOT else ()
"""As root, who stays the owner of the files but may no longer override their modes."""


def with_home(world: World, *hooks: Webhook) -> Callers:
    world.config["polling"]["first_poll"] = "each"
    world.line("home")
    for place, hook in enumerate(hooks):
        world.channel(f"hook{place}", hook.url)
    return Callers(world)


async def all_heard(ears: list[Ear], callers: Callers, within: float = 30) -> None:
    await until(lambda: all(ear.callers() == set(callers.names) for ear in ears), within=within)


# ---- a power cut ----


async def test_after_a_power_cut_that_tears_the_log_an_earlier_state_is_there_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    chance = random.Random(11)
    async with world_in(tmp_path) as world, Webhook() as phone:
        callers, ear = with_home(world, phone), Ear(phone)
        async with world.running() as daemon:
            for _ in range(MESSAGES):
                callers.call("home")
                await all_heard([ear], callers)
            await daemon.kill()
        torn = _copied(tmp_path, tmp_path / "torn")
        whole = (torn / "vmwatch.db-wal").read_bytes()
        lengths = [0, 1, *sorted(chance.randrange(len(whole)) for _ in range(30)), len(whole) - 1]
        known = [await _known_after_tearing(torn, whole, length) for length in lengths]
        assert known == sorted(known)  # each the state of an earlier commit: never less of it from more of the log
        assert known[0] == 0
        assert known[-1] == MESSAGES
        await _watched_on(world, torn, whole, lengths[::11], callers)


def _copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for path in folder.glob("vmwatch.db*"):
        shutil.copy(path, to)
    return to


async def _known_after_tearing(folder: Path, wal: bytes, length: int) -> int:
    """How many messages the ledger knows when its log ends there."""
    tried = folder / str(length)
    tried.mkdir()
    shutil.copy(folder / "vmwatch.db", tried)
    (tried / "vmwatch.db-wal").write_bytes(wal[:length])
    await _opened_and_closed(tried / "vmwatch.db")
    assert half_written(tried / "vmwatch.db", channels=1) == []
    return len(rows(tried / "vmwatch.db", "SELECT id FROM message"))


async def _watched_on(world: World, torn: Path, wal: bytes, lengths: list[int], callers: Callers) -> None:
    """The operator still lists everything: what the ledger lost is told again, what it kept is not."""
    for length in lengths:
        shutil.copy(torn / "vmwatch.db", world.store)
        world.store.with_name("vmwatch.db-wal").write_bytes(wal[:length])
        world.store.with_name("vmwatch.db-shm").unlink(missing_ok=True)
        async with Webhook() as phone:
            world.channel("hook0", phone.url)
            async with world.running():
                await until(lambda: _settled(world))
            told = Ear(phone).callers()
        kept = {str(name) for (name,) in rows(torn / str(length) / "vmwatch.db", _SENT)}
        assert told | kept == set(callers.names)
        assert half_written(world.store, channels=1) == []


_SENT = """
SELECT m.caller_name FROM message m JOIN delivery d ON d.alert_id = m.alert_id WHERE d.state = 'sent'
"""


def _settled(world: World) -> bool:
    """Everything the operator lists was seen and told; a wait that the lost verdict asks for is let pass."""
    world.sql("UPDATE line SET next_poll_at = 0, version = version + 1 WHERE claimed_until IS NULL AND state <> 'ok'")
    sent = rows(world.store, "SELECT COUNT(*) FROM delivery WHERE state = 'sent'")
    return sent == [(MESSAGES,)] and rows(world.store, "SELECT state FROM line") == [("ok",)]


# ---- a full disk ----


async def test_with_a_full_disk_nothing_is_polled_people_are_told_once_and_it_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    async with world_in(tmp_path) as world, Webhook() as phone, Webhook() as desk:
        callers, ears = with_home(world, phone, desk), [Ear(phone), Ear(desk)]
        callers.call("home")
        disk = tmp_path / "disk"
        disk.mkdir()
        world.config["store"] = {"url": f"sqlite:///{disk / 'vmwatch.db'}"}
        on_a_disk_of_its_own = _on_a_disk_of_its_own(disk)
        _is_possible(on_a_disk_of_its_own)
        async with begun_by(world, *on_a_disk_of_its_own, *VMWATCH_RUN) as daemon:
            await daemon.ready()
            await all_heard(ears, callers)
            seen = Path(f"/proc/{daemon.process.pid}/root{disk}")
            assert (seen / "vmwatch.db").exists(), "it is in a mount namespace of its own"
            _fill(seen / "ballast")
            callers.call("home")
            await until(lambda: all(FAILING in ear.titles() for ear in ears))
            await _nothing_is_polled(world, 3)
            assert all(ear.callers() < set(callers.names) for ear in ears)
            (seen / "ballast").unlink()
            await all_heard(ears, callers)
            await until(lambda: all(RECOVERED in ear.titles() for ear in ears), within=60)
            with _kept_open(seen) as kept:
                await daemon.stop()
                shutil.copy(kept / "vmwatch.db", tmp_path)
            assert half_written(world.store, channels=2) == []
            for ear in ears:
                assert [title for title in ear.titles() if title in (FAILING, RECOVERED)] == [FAILING, RECOVERED]
            _said_once(daemon, "the disk is full: make room, nothing is lost; nothing is polled until it can be noted")


def _on_a_disk_of_its_own(place: Path) -> tuple[str, ...]:
    """What a command begins with that alone sees a tmpfs there, of 2 MB, which is gone when it ends."""
    unshare = ("unshare", "--mount") if IS_ROOT else ("unshare", "--map-root-user", "--mount")
    mount_and_run = 'mount -t tmpfs -o size=2m,mode=700 tmpfs "$0" && exec "$@"'
    return (*unshare, "sh", "-c", mount_and_run, str(place))


def _is_possible(surroundings: tuple[str, ...]) -> None:
    """Or the test is over: what can't be tried on this machine is no success in CI, and no failure elsewhere."""
    tried = subprocess.run(["env", *surroundings, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        end = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        end(f"this machine forbids it: {tried.stderr.strip()}")


def _fill(ballast: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        _grow(ballast)


def _grow(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@contextlib.contextmanager
def _kept_open(folder: Path) -> Iterator[Path]:
    """The folder under a name that outlives the namespace it is in."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


async def _nothing_is_polled(world: World, seconds: float) -> None:
    """A poll whose claim was noted before may still come in at first."""
    await asyncio.sleep(1)
    before = len(world.logins("home"))
    await asyncio.sleep(seconds)
    assert len(world.logins("home")) == before


def _said_once(daemon: Running, words: str) -> None:
    assert daemon.said().count(words) == 1, daemon.said()


# ---- a store that another process holds ----


async def test_a_store_held_by_another_process_is_waited_for_without_a_poll_and_without_an_alarm(
    tmp_path: Path,
) -> None:
    async with world_in(tmp_path) as world, Webhook() as phone:
        callers, ear = with_home(world, phone), Ear(phone)
        callers.call("home")
        async with world.running() as daemon:
            await all_heard([ear], callers)
            with _held(world.store):
                callers.call("home")
                await _nothing_is_polled(world, HELD_S)
            await all_heard([ear], callers)
            await daemon.stop()
            _said_once(daemon, "the store is held by another process; it is tried again; nothing is polled until")
        assert FAILING not in ear.titles()
        assert ear.repeats() == []
        assert half_written(world.store, channels=1) == []


@contextlib.contextmanager
def _held(store: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(store, isolation_level=None, timeout=5)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


async def test_a_daemon_that_starts_while_the_store_is_held_ends_with_a_sentence(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world, Webhook() as phone:
        with_home(world, phone)
        await _opened_and_closed(world.store)
        with _held(world.store):
            said = await _refused(world)
        assert said == f"{world.store}: the store is held by another process; it is tried again"


# ---- a store that must not be written, or that is no store ----


async def _refused(world: World, prefix: tuple[str, ...] = ()) -> str:
    """What `vmwatch run` says on its last line as it ends with 75, without a single login."""
    async with begun_by(world, *prefix, *VMWATCH_RUN) as daemon:
        status = await asyncio.wait_for(daemon.process.wait(), 30)
        assert status == 75, daemon.said()
        assert "Traceback" not in daemon.said()
    assert world.logins("home") == []
    return daemon.said().splitlines()[-1]


@contextlib.contextmanager
def _left_as_it_is(folder: Path) -> Iterator[None]:
    before = _content(folder)
    yield
    assert _content(folder) == before


def _content(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


async def _store_in(folder: Path) -> Path:
    """A store that a vmwatch has closed, alone in its folder."""
    os.mkdir(folder)
    store = folder / "vmwatch.db"
    await _opened_and_closed(store)
    return store


async def _opened_and_closed(store: Path) -> None:
    ledger = await Ledger.open(f"sqlite:///{store}", create=True)
    await ledger.close()


def _forbid_file(store: Path) -> None:
    store.chmod(0o400)


def _forbid_folder(store: Path) -> None:
    store.parent.chmod(0o500)


def _forbid_new_file(store: Path) -> None:
    store.unlink()
    store.parent.chmod(0o500)


def _spoil_head(store: Path) -> None:
    _overwrite(store, 0, random.Random(1).randbytes(100))


def _spoil_middle(store: Path) -> None:
    size = store.stat().st_size
    _overwrite(store, size // 2, random.Random(2).randbytes(size // 4))


def _cut_in_half(store: Path) -> None:
    os.truncate(store, store.stat().st_size // 2)


def _put_a_letter_there(store: Path) -> None:
    store.write_text("Dear Donald,\n" * 1000)


def _upgrade(store: Path) -> None:
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("UPDATE schema_version SET version = 999")


def _overwrite(store: Path, at: int, garbage: bytes) -> None:
    with store.open("r+b") as file:
        file.seek(at)
        file.write(garbage)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_forbid_file, "the store can't be opened: Permission denied"),
        (_forbid_folder, "the store can't be written: check the owner and the mode of the file and of its folder"),
        (_forbid_new_file, "the store can't be opened: Permission denied"),
        (_spoil_head, "is not a vmwatch store; it was left as it is: name another file in store.url"),
        (_spoil_middle, "the store is damaged; it was left as it is: restore a backup or move it away"),
        (_cut_in_half, "the store is damaged; it was left as it is: restore a backup or move it away"),
        (_put_a_letter_there, "is not a vmwatch store; it was left as it is: name another file in store.url"),
        (_upgrade, "the store was written by a newer vmwatch"),
    ],
)
async def test_a_store_that_can_not_be_used_is_refused_in_a_sentence_and_left_as_it_is(
    spoil: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    async with world_in(tmp_path) as world, Webhook() as phone:
        with_home(world, phone)
        store = await _store_in(tmp_path / "store")
        world.config["store"] = {"url": f"sqlite:///{store}"}
        _is_possible(OBEYING_MODES)
        spoil(store)
        with _left_as_it_is(store.parent):
            said = await _refused(world, OBEYING_MODES)
        assert said.startswith(f"{store}: ")
        assert words in said


async def test_garbage_on_any_page_of_the_store_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    store = await _store_in(tmp_path / "store")
    whole, page = store.read_bytes(), 4096
    for start in range(0, len(whole), page):
        _overwrite(store, start, random.Random(start).randbytes(page))
        with _left_as_it_is(store.parent), pytest.raises(LedgerError, match="it was left as it is"):
            await _opened_and_closed(store)
        store.write_bytes(whole)
    await _opened_and_closed(store)


# ---- transactions side by side ----


async def test_transactions_side_by_side_never_publish_each_others_halves(tmp_path: Path) -> None:
    """Each writes two rows with a pause between them; every third fails after the first, every fifth is cancelled."""
    store = tmp_path / "vmwatch.db"
    engine = await SqliteEngine.open(store, create=True)
    await engine.write(lambda transaction: transaction.run("CREATE TABLE half (work INTEGER)"))
    tasks = [asyncio.create_task(engine.hold(_two_halves(number))) for number in range(60)]
    await asyncio.sleep(0)
    for task in tasks[::5]:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    await engine.close()
    assert [number for number, end in enumerate(ended) if isinstance(end, LedgerError)] == []
    halves = rows(store, "SELECT work, COUNT(*) FROM half GROUP BY work")
    assert halves == [(number, 2) for number in range(60) if number % 3]


def _two_halves(number: int) -> Callable[[Transaction], Awaitable[None]]:
    async def work(transaction: Transaction) -> None:
        await transaction.run("INSERT INTO half VALUES (:number)", number=number)
        await asyncio.sleep(0.001)
        if number % 3 == 0:
            raise ValueError(number)
        await transaction.run("INSERT INTO half VALUES (:number)", number=number)

    return work
