"""The verbs about the store as a whole: backup, restore, health."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from vmwatch import config, decide, shapes
from vmwatch.cli import desk, tables
from vmwatch.cli.parser import Options
from vmwatch.config.files import UnreadableError, read_secret
from vmwatch.errors import LedgerError, UsageError
from vmwatch.heartbeat import Clock
from vmwatch.ledger import DaemonView, Ledger, copies, daemon_runs, moving, path_of
from vmwatch.models import MINUTE, Duration, Instant, OperatorStanding, Standing
from vmwatch.settings import Store, is_shared, passwords_of

LATE: Duration = 2 * MINUTE
"""How long a line may be due while no line at all is polled, before the daemon is taken to stand still."""


async def backup(options: Options) -> int:
    file = _absent(options.file)
    await copies.backup(_store(options), file)
    desk.out().print(f"{file}: the store as it is now, without anything that tells of a PIN.", markup=False)
    return 0


async def restore(options: Options) -> int:
    url = _store(options)
    restored = await copies.restore(url, _backup_of(url, options.file), Clock().now())
    for sentence in _outcome(restored):
        desk.out().print(sentence, markup=False)
    return 0


def _absent(file: str) -> Path:
    if os.path.lexists(file):
        raise UsageError(f"{file}: is there already; a backup never overwrites: name a new file")
    return Path(file)


def _backup_of(url: str, file: str) -> Path:
    if not os.path.exists(file):
        raise UsageError(f"{file}: there is no such file")
    if not is_shared(url) and os.path.realpath(file) == os.path.realpath(path_of(url)):
        raise UsageError(f"{file}: is the store itself; name a backup of it")
    return Path(file)


def _outcome(restored: copies.Restored) -> list[str]:
    sentences = ["The store was restored. Start vmwatch, and see how things stand: vmwatch status"]
    if restored.aside is not None:
        sentences.append(f"The store that was replaced is kept: {restored.aside}")
    if restored.forgotten is not None:
        sentences.append(f"It can't be read ({restored.forgotten}).")
        sentences.append(
            "What it knew of rejected PINs is lost with it: correct any wrong PIN before you start vmwatch."
        )
    return sentences


def _store(options: Options) -> str:
    return config.load_store(desk.place(options.config), os.environ)


async def move_store(options: Options) -> int:
    old, new = _store(options), _new_store(options)
    moved = await moving.move(old, new)
    for table, count in moved.rows.items():
        desk.out().print(f"{table}: {count}", markup=False)
    for sentence in (
        "The store was moved, and every row compared with what it was made of.",
        "Now name the new one in store.url, then start vmwatch. The old one stays as it is: never start vmwatch on it "
        "again, or everybody is alerted twice.",
    ):
        desk.out().print(sentence, markup=False)
    return 0


def _new_store(options: Options) -> str:
    """The URL as the configuration would take it. Raises UsageError, without the URL in it."""
    if (options.url is None) == (options.url_file is None):
        raise UsageError("name the new store: either NEW_URL or --url-file FILE")
    if options.url is not None and passwords_of(options.url):
        raise UsageError("everybody on this machine may see a command's words: put the URL in a file, see --url-file")
    url = options.url or _content(options.url_file)
    try:
        Store.model_validate({"url": url})
    except ValidationError as error:
        raise UsageError(f"NEW_URL: {error.errors(include_input=False)[0]['ctx']['error']}") from None
    return config.absolute(url, desk.place(options.config), os.environ)


def _content(file: str) -> str:
    try:
        return read_secret(Path(file))
    except UnreadableError as error:
        raise UsageError(f"{file} {error}") from None


# ---- health ----


@dataclass(frozen=True, slots=True)
class _Health:
    daemon: DaemonView
    sentence: str
    late: tuple[str, ...] = ()
    """Names of the lines that are due for too long."""
    well: bool = False


async def health(options: Options) -> int:
    """Whether a daemon runs on the store and its rounds come to their ends; what they come to is `status`' matter."""
    url = _store(options)
    try:
        found = await _health(url)
    except LedgerError as error:
        found = _Health(DaemonView(running=False), str(error))
    if options.json:
        desk.print_json(_shape(found))
    else:
        desk.out().print(found.sentence, markup=False)
    return int(not found.well)


async def _health(url: str) -> _Health:
    if not await daemon_runs(url):
        return _Health(DaemonView(running=False), "no daemon runs on this store; start one: vmwatch run")
    ledger = await Ledger.look(url)
    try:
        daemon, operator = await ledger.daemon(), await ledger.lines.operator()
        lines, now = await ledger.lines.standings(), await desk.now(ledger)
        return _judged(daemon, _late(lines, operator, now), _busy_until(lines), now)
    finally:
        await ledger.close()


def _judged(daemon: DaemonView, late: tuple[Standing, ...], busy_until: Instant, now: Instant) -> _Health:
    """A line that is due for long waits for room, as in an operator's outage, as long as others are polled."""
    idle = now - max(busy_until, daemon.since or 0)
    if not late or idle < LATE:
        return _Health(daemon, "healthy: the daemon runs, and its rounds come to their ends", well=True)
    names = tuple(line.name for line in late)
    sentence = f"the daemon stands still: {names[0]} is due, but nothing was polled for {tables.span(idle)}; restart it"
    return _Health(daemon, sentence, names)


def _late(lines: tuple[Standing, ...], operator: OperatorStanding, now: Instant) -> tuple[Standing, ...]:
    shown = [decide.shown(line, operator, now) for line in lines]
    return tuple(line for line in shown if line.next_poll_at is not None and line.next_poll_at < now - LATE)


def _busy_until(lines: tuple[Standing, ...]) -> Instant:
    """Until when it is known that the daemon was at work: an attempt under way is part of it until its claim ends."""
    return max((at for line in lines for at in (line.last_poll_at, line.claimed_until) if at is not None), default=0)


def _shape(found: _Health) -> shapes.Shape:
    daemon = found.daemon
    return {
        "healthy": found.well,
        "sentence": found.sentence,
        "daemon": {"running": daemon.running, "since": shapes.iso(daemon.since), "version": daemon.version},
        "late": list(found.late),
    }
