"""The ledger: what vmwatch knows and owes, on disk. Real in every test.

`lines` has the schedule, the claims and what polls came to; `outbox` the deliveries; `messages` what was seen;
`processes` the daemons, `history` how the lines stood during the last day, `follow_ups` when a message is told again.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from vmwatch.decide.setup import Setup
from vmwatch.errors import LedgerError
from vmwatch.ledger import lines as _lines
from vmwatch.ledger import outbox as _outbox
from vmwatch.ledger import processes as _processes
from vmwatch.ledger.alerts import owe
from vmwatch.ledger.clock import shift
from vmwatch.ledger.engine import Engine, Transaction
from vmwatch.ledger.following import FollowUps
from vmwatch.ledger.history import Entry, History, Overall, Past, enter_standstill
from vmwatch.ledger.holding import Holding
from vmwatch.ledger.keys import Keys
from vmwatch.ledger.lines import Choose, Lines, QuietNote
from vmwatch.ledger.messages import Messages, MessageView, Told
from vmwatch.ledger.migrations import migrate
from vmwatch.ledger.notes import KEEP_NOTE, NOTE, RELOAD
from vmwatch.ledger.outbox import ChannelView, Outbox, Owed
from vmwatch.ledger.processes import Carried, DaemonView, Processes, ProcessView
from vmwatch.ledger.sqlite import SqliteEngine, lock_is_held
from vmwatch.models import Alert, Duration, Instant, Standing
from vmwatch.settings import is_shared

if TYPE_CHECKING:
    from vmwatch.ledger.postgres import PostgresEngine

__all__ = [
    "Carried",
    "ChannelView",
    "Choose",
    "DaemonView",
    "Entry",
    "Kept",
    "Ledger",
    "MessageView",
    "Others",
    "Overall",
    "Owed",
    "Past",
    "ProcessView",
    "QuietNote",
    "Told",
    "daemon_runs",
    "path_of",
]

_SQLITE = "sqlite:///"

Others: TypeAlias = tuple[tuple[str, Setup], ...]
"""By name the other daemons that live and are configured otherwise."""

_SALT = "SELECT value FROM meta WHERE key = 'salt'"
_KEEP_SALT = "INSERT INTO meta (key, value) VALUES ('salt', :salt)"
_TIME = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
_LATEST = """
SELECT MAX(instant) FROM (
    SELECT MAX(last_poll_at) AS instant FROM line UNION ALL SELECT MAX(started_at) FROM daemon
) AS instants
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """Every line as it stood, the configured ones as they stand now, and what others are configured to do."""

    before: Mapping[str, Standing]
    after: Mapping[str, Standing]
    others: Others


class Ledger:
    def __init__(self, engine: Engine, me: str, salt: bytes) -> None:
        self._engine = engine
        self._me = me
        self.salt = salt
        """The key of the PIN tags."""
        self.lines = Lines(engine, me)
        self.outbox = Outbox(engine, me)
        self.messages = Messages(engine)
        self.processes = Processes(engine, me)
        self.history = History(engine)
        self.follow_ups = FollowUps(engine)
        self.holding = Holding(engine)
        self.keys = Keys(engine)

    @classmethod
    async def open(cls, url: str, *, create: bool, role: str = "verb") -> Ledger:
        """Open `sqlite:////absolute/path` or `postgresql://…` and bring its schema up to date.

        `role` begins the name this process claims rows under. Raises LedgerError with a sentence.
        """
        engine = await engine_of(url, create=create)
        me = f"{role}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            return cls(engine, me, await engine.write(prepare))
        except LedgerError as error:
            await engine.close()
            raise _with_place(error, engine.place) from None
        except BaseException:
            await engine.close()
            raise

    @classmethod
    async def look(cls, url: str) -> Ledger:
        """Open a store that is there only to be read: not a byte of it is written. Raises LedgerError."""
        return cls(await engine_of(url, create=None), "nobody", b"")

    def measure(self, on_commit: Callable[[float], None]) -> None:
        """Have every committed transaction's duration (ms) told."""
        self._engine.on_commit = on_commit

    def hurry(self) -> None:
        """From here on nothing waits for another process that holds the store: it fails at once instead."""
        self._engine.hurry()

    async def close(self) -> None:
        await self._engine.close()

    @property
    def trouble(self) -> LedgerError | None:
        """What the last transaction failed with; None once another one was committed."""
        return self._engine.trouble

    @property
    def shared(self) -> bool:
        """Whether other daemons may poll the same lines."""
        return self._engine.shared

    async def become_daemon(self, version: str, now: Instant) -> None:
        """Be the store's daemon until `close`. Raises LedgerError if another one is, on a store that takes but one.

        Where there may be others, the claims of one that died end with their leases: whose session is broken may
        be alive.
        """
        await self._engine.become_daemon(self._me)

        async def work(transaction: Transaction) -> None:
            await transaction.alone()
            if not self.shared:
                await _lines.drop_dead_claims(transaction)
                await _outbox.drop_dead_claims(transaction)
            await enter_standstill(transaction, now)
            await _processes.arrive(transaction, self._me, version, now)

        await self._engine.write(work)

    async def note_page(self, address: str | None) -> None:
        """Tell the verbs where this daemon's page is."""

        async def work(transaction: Transaction) -> None:
            await _processes.place_page(transaction, self._me, address)

        await self._engine.write(work)

    async def daemon(self) -> DaemonView:
        """The one that began last, of several."""
        return await self.processes.latest()

    async def note_reload(self, refusal: str) -> None:
        """Write down that the configuration was read again, and why it was refused, if it was."""

        async def work(transaction: Transaction) -> None:
            await transaction.alone()
            rows = await transaction.all(NOTE, key=RELOAD)
            noted = {"count": (json.loads(rows[0][0])["count"] if rows else 0) + 1, "refusal": refusal}
            await transaction.run(KEEP_NOTE, key=RELOAD, value=json.dumps(noted))

        await self._engine.write(work)

    async def last_reload(self) -> tuple[int, str]:
        """How many reloads there were, and why the last one was refused, if it was."""
        rows = await self._engine.read(NOTE, key=RELOAD)
        if not rows:
            return 0, ""
        noted = json.loads(rows[0][0])
        return int(noted["count"]), str(noted["refusal"])

    async def configure(
        self,
        merge: Callable[[Mapping[str, Standing], Others], Mapping[str, Standing]],
        channels: Iterable[str],
        now: Instant,
        renamed: Mapping[str, str] = MappingProxyType({}),
        setup: Setup | None = None,
        owed: Callable[[Kept], Iterable[Alert]] = lambda _: (),
    ) -> Kept:
        """Keep lines and channels as configured now. `merge`, which is pure, is given every line there is.

        `renamed` are channels, from the old to the new name. Where several share the store, `setup` is what this
        process is configured to do; what others that live are configured to do and differs is given to `merge` too,
        and what only they know stays configured. `owed` are alerts about what that comes to.
        """

        async def work(transaction: Transaction) -> Kept:
            await transaction.alone()
            others = await self._others(transaction, setup)
            stored = {standing.number: standing for standing in await _lines.stored(transaction)}
            kept = Kept(stored, merge(stored, others), others)
            theirs = frozenset(number for _, other in others for number in other.lines)
            await _lines.configure(transaction, kept.before, kept.after, now, theirs)
            names = dict.fromkeys([*channels, *(name for _, other in others for name in other.channels)])
            await _outbox.configure(transaction, names, now, renamed)
            for alert in owed(kept):
                await owe(transaction, alert, now)
            return kept

        return await self._engine.write(work)

    async def _others(self, transaction: Transaction, setup: Setup | None) -> Others:
        if setup is None or not self.shared:
            return ()
        return await _processes.exchange(transaction, self._me, setup)

    async def time(self) -> Instant | None:
        """What the store's own clock says, by which all that share it go; None where it has none of its own."""
        if not self.shared:
            return None
        told: Instant = (await self._engine.read(_TIME))[0][0]
        return told

    async def latest(self) -> Instant | None:
        """The latest instant that the ledger knows to have passed."""
        latest: Instant | None = (await self._engine.read(_LATEST))[0][0]
        return latest

    async def shift(self, by: Duration, after: Instant = 0) -> bool:
        """The clock was set: move what is still to come by as much, so that every wait stays as long as it was.

        What was written down no later than `after` was written by the clock as it is now, and stays. So does
        everything while other daemons share the store (False): each would move it.
        """

        async def work(transaction: Transaction) -> bool:
            await transaction.alone()
            is_ours = await _processes.is_alone(transaction, self._me)
            if is_ours:
                await shift(transaction, by, after)
            return is_ours

        return await self._engine.write(work)


async def prepare(transaction: Transaction) -> bytes:
    """Bring the schema up to date; returns the key of the PIN tags, made if need be. Raises LedgerError."""
    await migrate(transaction)
    rows = await transaction.all(_SALT)
    if rows:
        return bytes.fromhex(rows[0][0])
    salt = secrets.token_bytes(16)
    await transaction.run(_KEEP_SALT, salt=salt.hex())
    return salt


async def daemon_runs(url: str) -> bool:
    """Whether a daemon holds the store, without opening it where that can be told so. Raises LedgerError."""
    if not is_shared(url):
        return lock_is_held(path_of(url))
    engine = await engine_of(url, create=None)
    try:
        return await engine.daemon_runs()
    finally:
        await engine.close()


def path_of(url: str) -> Path:
    """The file that `sqlite:////absolute/path` names. Raises LedgerError, without the URL: it may hold a password."""
    if is_shared(url):
        raise LedgerError("the store is a PostgreSQL database: this is for SQLite's files; use pg_dump and pg_restore")
    if not url.startswith(_SQLITE + "/"):
        raise LedgerError("store.url: must be like sqlite:///FILE or postgresql://HOST/DATABASE")
    return Path(url.removeprefix(_SQLITE))


async def engine_of(url: str, *, create: bool | None) -> Engine:
    """The engine for a store; `create` None: only to be read."""
    if is_shared(url):
        engine = _postgres()
        return await (engine.look(url) if create is None else engine.open(url, create=create))
    path = path_of(url)
    return await (SqliteEngine.look(path) if create is None else SqliteEngine.open(path, create=create))


def _postgres() -> type[PostgresEngine]:
    """Imported by those only who have such a store: its driver is an extra."""
    try:
        from vmwatch.ledger.postgres import PostgresEngine
    except ModuleNotFoundError:
        raise LedgerError(
            "store.url: PostgreSQL's driver is not installed; install it: pip install 'vmwatch[postgres]'"
        ) from None
    return PostgresEngine


def _with_place(error: LedgerError, place: str) -> LedgerError:
    text = str(error)
    return error if text.startswith(place) else LedgerError(f"{place}: {text}", passing=error.passing)
