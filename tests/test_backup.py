"""`vmwatch backup` and `vmwatch restore`: whole or not at all, nothing that tells of a PIN, no PIN safety lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from receivers import Webhook, closed_port
from values import NOW, NUMBER, standing
from world import PIN, WRONG_PIN, World, until, world_in

from vmwatch import decide, pins
from vmwatch.ledger import Ledger, copies, place
from vmwatch.models import MINUTE, LineState, Reason, Standing

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
async def world(tmp_path: Path, hook: Webhook) -> AsyncIterator[World]:
    async with world_in(tmp_path) as found:
        found.channel("phone", hook.url)
        yield found


def rows(file: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def messages(file: Path) -> int:
    return len(rows(file, "SELECT id FROM message"))


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(("out-", "err-", "said-"))}


async def done(world: World, *arguments: str) -> str:
    ran = await world.vmwatch(*arguments)
    assert ran.status == 0, ran.err + ran.out
    return ran.out


# ---- backup ----


async def test_a_backup_beside_a_running_daemon_is_whole_private_and_without_a_trace_of_a_pin(world: World) -> None:
    world.operator.leave(world.line("home"))
    world.config["polling"]["interval"] = "1h"
    async with world.running() as daemon:
        await until(world.state_is("home", "ok"))
        world.sql("UPDATE line SET spent_tags = '3 256'")
        before = os.umask(0)
        try:
            await done(world, "backup", "copy")
        finally:
            os.umask(before)
        ((salt,),) = world.sql("SELECT value FROM meta WHERE key = 'salt'")
        assert daemon.process.returncode is None
    copy = world.folder / "copy"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
    assert messages(copy) == 1
    assert rows(copy, "SELECT pin_tag, trusted, claimed_by FROM line") == [(pins.UNKNOWN, 0, None)]
    assert rows(copy, "SELECT spent_tags FROM line") == [("",)]
    assert rows(copy, "SELECT * FROM daemon") == []
    assert rows(copy, "SELECT value FROM meta WHERE key = 'salt'") == []
    assert str(salt).encode() not in copy.read_bytes()
    assert not {name for name in left_in(world.folder) if name.startswith("copy") and name != "copy"}


async def test_a_backup_never_overwrites_and_leaves_nothing_where_it_fails(world: World) -> None:
    world.line("home")
    missing = await world.vmwatch("backup", "copy")
    assert (missing.status, missing.err) == (
        75,
        f"{world.store}: there is no store here yet; `vmwatch run` makes one\n",
    )
    assert not (world.folder / "copy").exists()
    await done(world, "poll")
    (world.folder / "copy").write_text("mine")
    before = left_in(world.folder)
    there, nowhere = await world.vmwatch("backup", "copy"), await world.vmwatch("backup", "none/copy")
    assert (there.status, nowhere.status) == (2, 75)
    assert there.err == "copy: is there already; a backup never overwrites: name a new file\n"
    assert nowhere.err == "none/copy: No such file or directory\n"
    assert (world.folder / "copy").read_text() == "mine"
    assert left_in(world.folder) == before


async def test_a_backup_needs_no_secret(world: World) -> None:
    world.line("home")
    await done(world, "poll")
    del world.config["lines.home"]["pin"]
    world.config["lines.home"]["pin_file"] = "/nowhere/home.pin"
    await done(world, "backup", "copy")
    await done(world, "restore", "copy")


async def test_a_backup_amid_writing_is_of_one_moment(tmp_path: Path) -> None:
    """Each transaction writes two rows that belong together: a backup has both or neither."""
    url = f"sqlite:///{tmp_path / 'vmwatch.db'}"
    ledger = await Ledger.open(url, create=True)
    stop = asyncio.Event()

    async def write() -> int:
        count = 0
        while not stop.is_set():
            await ledger.configure(lambda *_: {NUMBER: standing()}, [f"c{count}", f"d{count}"], NOW)
            count += 1
        return count

    writing = asyncio.create_task(write())
    try:
        for place in range(5):
            await copies.backup(url, tmp_path / f"copy{place}")
    finally:
        stop.set()
        await writing
        await ledger.close()
    for place in range(5):
        (count,) = rows(tmp_path / f"copy{place}", "SELECT COUNT(*) FROM channel")[0]
        assert isinstance(count, int)
        assert count % 2 == 0


async def test_two_restores_in_one_second_keep_two_stores(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'vmwatch.db'}"
    await (await Ledger.open(url, create=True)).close()
    await copies.backup(url, tmp_path / "copy")
    asides = {(await copies.restore(url, tmp_path / "copy", NOW)).aside for _ in range(3)}
    assert len(asides) == 3
    assert all(aside is not None and aside.is_file() for aside in asides)


# ---- restore: what is refused ----


async def test_a_running_store_is_not_restored(world: World) -> None:
    world.line("home")
    async with world.running():
        await until(world.state_is("home", "ok"))
        await done(world, "backup", "copy")
        before = left_in(world.folder)
        ran = await world.vmwatch("restore", "copy")
        assert (ran.status, ran.err) == (75, f"{world.store}: a vmwatch daemon runs on this store; stop it first\n")
        assert left_in(world.folder) == before


async def test_a_store_that_another_command_has_open_is_not_restored(world: World) -> None:
    world.line("home")
    await done(world, "poll")
    await done(world, "backup", "copy")
    with closing(sqlite3.connect(world.store)) as other:
        other.execute("SELECT * FROM line").fetchall()
        ran = await world.vmwatch("restore", "copy")
    assert (ran.status, "another vmwatch command uses the store" in ran.err) == (75, True)
    assert not list(world.folder.glob("vmwatch.db.*restor*"))


def text(file: Path) -> None:
    file.write_text("a text that is long enough not to be taken for anything else, and no database")


def another_program_s(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE song (title TEXT)")


def newer(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("UPDATE schema_version SET version = 999")


def damaged(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    file.write_bytes(content)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5000])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def replaced_by(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def replace_it(file: Path) -> None:
        file.unlink()
        make(file)

    return replace_it


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (text, "is no backup of vmwatch's store"),
        (emptied, "is no backup of vmwatch's store"),
        (replaced_by(another_program_s), "is no backup of vmwatch's store"),
        (newer, "written by a newer vmwatch"),
        (damaged, "damaged"),
        (cut_short, "damaged"),
    ],
)
async def test_what_is_no_backup_is_refused_and_the_store_stays(
    world: World, spoil: Callable[[Path], None], words: str
) -> None:
    world.line("home")
    await done(world, "poll")
    await done(world, "backup", "copy")
    spoil(world.folder / "copy")
    before, content = left_in(world.folder), world.store.read_bytes()
    ran = await world.vmwatch("restore", "copy")
    assert (ran.status, len(ran.err.splitlines())) == (75, 1)
    assert words in ran.err
    assert ran.err.startswith("copy: ")
    assert left_in(world.folder) - {"vmwatch.db.lock"} == before
    assert world.store.read_bytes() == content


async def test_a_file_that_is_not_there_or_is_the_store_itself_is_wrong_usage(world: World) -> None:
    world.line("home")
    await done(world, "poll")
    for name in ("nowhere", "vmwatch.db"):
        assert (await world.vmwatch("restore", name)).status == 2


# ---- restore: what comes of it ----


async def test_a_restored_store_is_the_backup_and_the_replaced_one_is_kept(world: World, hook: Webhook) -> None:
    number = world.line("home")
    world.operator.leave(number)
    await done(world, "poll")
    await done(world, "backup", "copy")
    world.operator.leave(number)
    await done(world, "poll")
    assert (messages(world.folder / "copy"), messages(world.store), len(hook.record)) == (1, 2, 2)
    said = await done(world, "restore", "copy")
    (aside,) = world.folder.glob("vmwatch.db.before-restore-*")
    assert said.splitlines()[1] == f"The store that was replaced is kept: {aside}"
    assert (messages(world.store), messages(aside)) == (1, 2)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (world.store, aside)} == {0o600}
    assert left_in(world.folder) == {"config.toml", "copy", "vmwatch.db", "vmwatch.db.lock", aside.name}
    await done(world, "poll")
    assert len(hook.record) == 3, (
        "what the backup knows as sent is not sent again; the later one is, for it does not know"
    )
    await done(world, "restore", aside.name)
    assert messages(world.store) == 2


async def test_what_is_pending_in_a_backup_says_that_it_may_be_a_repeat(world: World, hook: Webhook) -> None:
    url = world.config["channels.phone"]["url"]
    world.config["channels.phone"]["url"] = f"json://127.0.0.1:{closed_port()}/"
    world.operator.leave(world.line("home"))
    await world.vmwatch("poll")
    await done(world, "backup", "copy")
    await done(world, "restore", "copy")
    world.config["channels.phone"]["url"] = url
    world.sql("UPDATE delivery SET next_attempt_at = 0")
    await world.vmwatch("poll")
    assert ["repeat" in request.body["message"] for request in hook.record] == [True]


async def test_a_store_is_restored_where_there_is_none_in_a_folder_that_is_made(world: World) -> None:
    world.operator.leave(world.line("home"))
    await done(world, "poll")
    await done(world, "backup", "copy")
    world.config["store"] = {"url": "sqlite:///new/vmwatch.db"}
    said = await done(world, "restore", "copy")
    new = world.folder / "new"
    assert len(said.splitlines()) == 1
    assert (messages(new / "vmwatch.db"), stat.S_IMODE(new.stat().st_mode)) == (1, 0o700)
    assert left_in(new) == {"vmwatch.db", "vmwatch.db.lock"}
    await done(world, "poll")
    assert [login.pin_ok for login in world.logins("home")] == [True, True]


async def test_what_a_killed_daemon_left_beside_its_store_is_not_applied_to_the_backup(world: World) -> None:
    number = world.line("home")
    world.operator.leave(number)
    await done(world, "poll")
    await done(world, "backup", "copy")
    async with world.started() as daemon:
        await daemon.ready()
        world.operator.leave(number)
        await until(lambda: messages(world.store) == 2)
        await daemon.kill()
    assert (world.folder / "vmwatch.db-wal").stat().st_size > 0
    await done(world, "restore", "copy")
    assert messages(world.store) == 1
    (aside,) = world.folder.glob("vmwatch.db.before-restore-*")
    assert messages(aside) == 2


@pytest.mark.parametrize("spoil", [damaged, text, newer])
async def test_a_store_that_cannot_be_read_is_replaced_kept_and_told(
    world: World, spoil: Callable[[Path], None]
) -> None:
    world.operator.leave(world.line("home"))
    await done(world, "poll")
    await done(world, "backup", "copy")
    spoil(world.store)
    content = world.store.read_bytes()
    said = await done(world, "restore", "copy")
    assert "It can't be read (" in said
    assert "correct any wrong PIN before you start vmwatch" in said
    assert messages(world.store) == 1
    assert rows(world.store, "PRAGMA integrity_check") == [("ok",)]
    (aside,) = world.folder.glob("vmwatch.db.before-restore-*")
    assert spoil is newer or aside.read_bytes() == content
    await done(world, "poll")


def test_what_lies_beside_a_replaced_store_goes_with_it(tmp_path: Path) -> None:
    """SQLite would apply a -wal or -journal file to whatever has its database's name."""
    for name in ("fresh", "vmwatch.db", "vmwatch.db-wal", "vmwatch.db-shm", "vmwatch.db-journal"):
        (tmp_path / name).write_text(name)
    assert place.put_in_place(tmp_path / "fresh", tmp_path / "vmwatch.db", tmp_path / "aside")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "vmwatch.db": "fresh",
        "aside": "vmwatch.db",
        "aside-wal": "vmwatch.db-wal",
        "aside-shm": "vmwatch.db-shm",
        "aside-journal": "vmwatch.db-journal",
    }


async def test_another_program_s_database_is_not_replaced(world: World) -> None:
    world.line("home")
    await done(world, "poll")
    await done(world, "backup", "copy")
    world.store.unlink()
    another_program_s(world.store)
    content = world.store.read_bytes()
    ran = await world.vmwatch("restore", "copy")
    assert (ran.status, "is not a vmwatch store" in ran.err) == (75, True)
    assert world.store.read_bytes() == content


# ---- restore: PIN safety ----


async def test_a_rejected_pin_is_not_forgotten_for_an_older_backup(world: World) -> None:
    number = world.line("home")
    await done(world, "poll")
    await done(world, "backup", "copy")
    world.operator.set_pin(number, WRONG_PIN)
    world.let_time_pass("home")
    assert (await world.vmwatch("poll")).status == 1
    assert len(world.logins("home")) == 2
    await done(world, "restore", "copy")
    async with world.running():
        await until(world.state_is("home", "rejected", "pin_rejected"))
        assert (await world.vmwatch("poll", "home")).status == 1
    assert len(world.logins("home")) == 2
    world.operator.set_pin(number, PIN)
    await done(world, "resume", "home")
    await done(world, "poll")
    assert len(world.logins("home")) == 3


async def test_a_line_that_waits_in_the_backup_waits_for_a_person_wherever_it_is_restored(world: World) -> None:
    world.line("home", told=WRONG_PIN)
    assert (await world.vmwatch("poll")).status == 1
    await done(world, "backup", "copy")
    world.store.unlink()
    await done(world, "restore", "copy")
    for pin in (WRONG_PIN, PIN):
        world.config["lines.home"]["pin"] = pin if pin == WRONG_PIN else WRONG_PIN
        assert (await world.vmwatch("poll")).status == 1
    assert len(world.logins("home")) == 1
    world.config["lines.home"]["pin"] = PIN
    await world.vmwatch("resume", "home")
    await done(world, "poll")
    assert [login.pin_ok for login in world.logins("home")] == [False, True]


async def test_a_pin_that_was_right_at_the_backup_and_is_wrong_now_costs_one_login(world: World) -> None:
    number = world.line("home")
    await done(world, "poll")
    await done(world, "backup", "copy")
    world.store.unlink()
    world.operator.set_pin(number, WRONG_PIN)
    await done(world, "restore", "copy")
    for signal_ in (signal.SIGKILL, signal.SIGTERM):
        async with world.started() as daemon:
            await daemon.ready()
            await until(world.state_is("home", "rejected"))
            daemon.send(signal_)
            await daemon.process.wait()
    assert [login.pin_ok for login in world.logins("home")] == [True, False]


READ = standing(state=LineState.OK, reason=Reason.READ, trusted=True, last_poll_at=NOW, first_read_at=NOW, pin_tag=7)
REJECTED = replace(
    READ, state=LineState.REJECTED, reason=Reason.PIN_REJECTED, trusted=False, next_poll_at=None, first_read_at=None
)
LATER = NOW + MINUTE


def unknown(line: Standing) -> Standing:
    return replace(line, pin_tag=pins.UNKNOWN, trusted=False)


@pytest.mark.parametrize(
    ("backup", "replaced", "state", "tag", "first_read_at"),
    [
        (unknown(READ), replace(REJECTED, last_poll_at=LATER), LineState.REJECTED, 7, NOW),
        (unknown(REJECTED), replace(READ, last_poll_at=LATER), LineState.OK, 7, None),
        (unknown(replace(REJECTED, last_poll_at=LATER)), READ, LineState.REJECTED, pins.UNKNOWN, None),
        (unknown(replace(READ, last_poll_at=LATER)), REJECTED, LineState.REJECTED, 7, NOW),
        (None, REJECTED, LineState.REJECTED, 7, None),
        (None, READ, LineState.OK, 7, None),
    ],
    ids=["an older backup", "fixed since", "a newer backup", "never forgotten", "a new line, rejected", "a new line"],
)
def test_what_was_learned_of_logins_last_counts(
    backup: Standing | None, replaced: Standing, state: LineState, tag: int, first_read_at: int | None
) -> None:
    """What was first read when belongs to the messages, which are the backup's."""
    found = decide.restored(backup, replaced)
    assert (found.state, found.pin_tag, found.first_read_at) == (state, tag, first_read_at)


def test_a_line_of_a_backup_takes_the_configured_pin_as_untrusted_and_changes_nothing_else() -> None:
    for line in (READ, REJECTED):
        restored = replace(unknown(line), trusted=True)
        found = decide.configured(restored, replace(READ, pin_tag=9), NOW, MINUTE)
        assert found == replace(restored, pin_tag=9, trusted=False, next_poll_at=found.next_poll_at)
        assert (found.next_poll_at is None) is (line.next_poll_at is None)


# ---- restore: interrupted ----

CRASHES = """
import asyncio, os, shutil, sys
from pathlib import Path
from vmwatch.ledger import copies

store, backup, folder = map(Path, sys.argv[1:])

def dying(left):
    def watch(event, _):
        nonlocal left
        if event in ("os.link", "os.rename", "os.remove", "sqlite3.connect"):
            left -= 1
            if left == 0:
                os._exit(9)
    return watch

for step in range(1, 99):
    there = folder / str(step)
    there.mkdir()
    shutil.copy(store, there / "vmwatch.db")
    child = os.fork()
    if child == 0:
        sys.addaudithook(dying(step))
        asyncio.run(copies.restore(f"sqlite:///{there / 'vmwatch.db'}", backup, 1_700_000_000_000))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status)
    if status != 9:
        break
"""


async def test_a_restore_that_dies_at_any_step_leaves_the_old_store_or_the_new_one(world: World) -> None:
    number = world.line("home")
    world.operator.leave(number)
    await done(world, "poll")
    await done(world, "backup", "copy")
    world.operator.leave(number)
    await done(world, "poll")
    died = world.folder / "died"
    died.mkdir()
    arguments = [sys.executable, "-c", CRASHES, str(world.store), str(world.folder / "copy"), str(died)]
    ended = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, env=world._environment({}))
    statuses = ended.stdout.split()
    assert (statuses[-1], set(statuses[:-1])) == (b"0", {b"9"}), ended.stderr
    stores = [died / str(step) / "vmwatch.db" for step in range(1, len(statuses) + 1)]
    assert {rows(store, "PRAGMA integrity_check")[0] for store in stores} == {("ok",)}
    held = [messages(store) for store in stores]
    assert (held[0], held[-1]) == (2, 1)
    assert held == sorted(held, reverse=True), "from some step on it is the new one"


# ---- whose files they are ----


async def test_what_root_makes_in_a_daemon_s_folder_belongs_to_the_daemon(world: World) -> None:
    """Without it, root's first `poll` or `restore` would keep the service out of its own store."""
    world.line("home")
    state = world.folder / "state"
    state.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(state, 12345, 12345)
    world.config["store"] = {"url": "sqlite:///state/vmwatch.db"}
    await done(world, "poll")
    await done(world, "backup", "copy")
    await done(world, "restore", "copy")
    owner = state.stat().st_uid
    assert {path.name.partition("-")[0]: path.stat().st_uid for path in state.iterdir()} == {
        "vmwatch.db": owner,
        "vmwatch.db.lock": owner,
        "vmwatch.db.before": owner,
    }
