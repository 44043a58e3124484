"""The schema, as an ordered list of steps. A step that was released is never edited: a new one is added.

Every column is commented where it is defined. `{serial}` is the engine's way to number rows by itself.
"""

from __future__ import annotations

import re

from vmwatch.ledger.engine import Transaction, UnreadableStoreError

_FIRST = (
    """
    CREATE TABLE meta (
        key TEXT PRIMARY KEY,              -- 'salt': the key of the PIN tags, in hex; 'reload': the last one, as JSON
        value TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE daemon (
        id TEXT PRIMARY KEY,               -- names the process in claims
        version TEXT NOT NULL,             -- vmwatch's own
        started_at BIGINT NOT NULL
    )
    """,
    """
    CREATE TABLE operator (
        id TEXT PRIMARY KEY,               -- 'telecomx'
        blocked_until BIGINT,              -- no line is polled before (403 blacklisted)
        blocked_since BIGINT,
        failures INTEGER NOT NULL,         -- times in a row that the block was met
        version INTEGER NOT NULL           -- decides who won when two change the row
    )
    """,
    """
    CREATE TABLE line (
        number TEXT PRIMARY KEY,           -- E.164: what is known belongs to the number, whatever the line is called
        name TEXT NOT NULL,
        label TEXT NOT NULL,
        enabled INTEGER NOT NULL,
        configured INTEGER NOT NULL,       -- 0: no longer in the configuration; remembered all the same
        pin_tag INTEGER NOT NULL,          -- one byte of a keyed hash, to notice that the PIN was changed
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        detail TEXT NOT NULL,
        since BIGINT NOT NULL,             -- when the state began
        next_poll_at BIGINT,               -- NULL: not before a person or a changed PIN says so
        paused_until BIGINT,
        paused_at BIGINT,
        trusted INTEGER NOT NULL,          -- a well-formed 200 was seen with this PIN
        doubts INTEGER NOT NULL,           -- logins that may have failed without our reading so
        failures INTEGER NOT NULL,         -- polls in a row that brought no mailbox
        failing_since BIGINT,
        locked_until BIGINT,               -- of a rejected line that was locked: not before, even with a changed PIN
        alerted TEXT,                      -- the trouble that people were told of and that is not over
        attempt_at BIGINT,                 -- the attempt whose verdict is not written down; it names the claim
        asked_at BIGINT,                   -- since when a person waits for the next answer
        claimed_until BIGINT,              -- a claim is a promise with an end
        claimed_by TEXT,                   -- the process that holds it
        last_poll_at BIGINT,
        last_success_at BIGINT,
        first_read_at BIGINT,
        new INTEGER,                       -- the operator's counts, of the whole mailbox
        old INTEGER,
        saved INTEGER,
        version INTEGER NOT NULL           -- decides who won when two change the row
    )
    """,
    # Lines last read well and the others are asked for apart: neither look passes over thousands of the other kind.
    "CREATE INDEX line_due ON line ((state = 'ok'), next_poll_at)",
    """
    CREATE TABLE alert (
        id {serial},
        kind TEXT NOT NULL,
        number TEXT,                       -- the line it is about; NULL: about a channel, or about all lines
        facts TEXT NOT NULL,               -- JSON; the words are chosen when it is sent
        created_at BIGINT NOT NULL
    )
    """,
    """
    CREATE TABLE message (
        number TEXT NOT NULL,              -- the line's
        id TEXT NOT NULL,                  -- the operator's, opaque
        caller TEXT,
        caller_name TEXT,
        called TEXT,
        call_id TEXT,
        received_at BIGINT,
        length INTEGER,                    -- seconds
        box TEXT,                          -- the operator's word: INBOX, SAVED
        played INTEGER,
        voice_account TEXT,
        customer TEXT,
        first_seen_at BIGINT NOT NULL,
        missed INTEGER NOT NULL,           -- agreeing answers in a row that did not list it
        left_new_at BIGINT,                -- NULL: still in the NEW box
        alert_id BIGINT,                   -- the alert that announces it; NULL: none was owed
        PRIMARY KEY (number, id)
    )
    """,
    "CREATE INDEX message_alert ON message (alert_id)",
    """
    CREATE TABLE channel (
        name TEXT PRIMARY KEY,
        configured INTEGER NOT NULL,
        state TEXT NOT NULL,
        since BIGINT NOT NULL,             -- when the state began
        failures INTEGER NOT NULL,         -- failed attempts in a row
        alerted INTEGER NOT NULL,          -- the other channels were told
        last_sent_at BIGINT,
        last_error TEXT,                   -- our own words; never what a channel answered
        version INTEGER NOT NULL           -- decides who won when two change the row
    )
    """,
    """
    CREATE TABLE delivery (
        id {serial},
        alert_id BIGINT NOT NULL,
        channel TEXT NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        next_attempt_at BIGINT,            -- NULL: none is owed
        attempt_at BIGINT,                 -- the attempt whose outcome is not written down
        claimed_until BIGINT,
        claimed_by TEXT,
        maybe_repeat INTEGER NOT NULL,     -- an earlier attempt may have arrived
        sent_at BIGINT,
        last_error TEXT,                   -- our own words; never what a channel answered
        version INTEGER NOT NULL,          -- decides who won when two change the row
        UNIQUE (alert_id, channel)
    )
    """,
    "CREATE INDEX delivery_due ON delivery (state, channel, next_attempt_at)",
)

# Several processes may share a ledger: which of them live, what each carries, and whether they agree.
_PROCESSES = (
    "ALTER TABLE daemon ADD COLUMN name TEXT",  # HOST/PID, for people
    "ALTER TABLE daemon ADD COLUMN seen_at BIGINT",  # when it last wrote what follows
    "ALTER TABLE daemon ADD COLUMN polls BIGINT",  # begun within the minute before
    "ALTER TABLE daemon ADD COLUMN deliveries BIGINT",
    "ALTER TABLE daemon ADD COLUMN digest TEXT",  # of its setup
    "ALTER TABLE daemon ADD COLUMN setup TEXT",  # JSON: what it is configured to do, without a secret
    # Tags of earlier PINs that had their tries: what another configuration brings back is not tried again.
    "ALTER TABLE line ADD COLUMN spent_tags TEXT NOT NULL DEFAULT ''",
)

# The page shows the last day of each line. What a line was before this is not known, only how it stands.
_PAGE = (
    """
    CREATE TABLE history (
        id {serial},
        number TEXT NOT NULL,              -- the line's; empty: of all lines at once
        at BIGINT NOT NULL,                -- since when; later than now: when a pause will end
        state TEXT NOT NULL                -- the line's state; of all lines: running, stopped, blocked
    )
    """,
    "CREATE INDEX history_of_line ON history (number, at)",
    "CREATE INDEX message_seen ON message (first_seen_at)",
    "INSERT INTO history (number, at, state) SELECT number, since, state FROM line",
    # Where the daemon's page is, for `vmwatch status`; NULL: nowhere.
    "ALTER TABLE daemon ADD COLUMN page TEXT",
)

# Alerts about a message go on until it is heard; what was announced before this is not followed.
_FOLLOWING = (
    """
    CREATE TABLE follow_up (
        number TEXT NOT NULL,              -- the line's
        message TEXT NOT NULL,             -- its id: announced, and not heard by anybody
        alerted_at BIGINT NOT NULL,        -- what the steps' waits count from
        done_until BIGINT NOT NULL,        -- steps up to this instant are done
        at BIGINT NOT NULL,                -- when it is looked at again
        due TEXT NOT NULL,                 -- what for: step, second_look, snooze
        PRIMARY KEY (number, message)
    )
    """,
    "CREATE INDEX follow_up_due ON follow_up (at)",
    # Of alerts that tell again of messages which another alert announced (message.alert_id).
    """
    CREATE TABLE mention (
        alert_id BIGINT NOT NULL,
        number TEXT NOT NULL,
        message TEXT NOT NULL,
        PRIMARY KEY (alert_id, number, message)
    )
    """,
    "CREATE INDEX mention_of_message ON mention (number, message)",
    "ALTER TABLE message ADD COLUMN acked_at BIGINT",  # when a person said that it is seen to
    "ALTER TABLE message ADD COLUMN snoozed_until BIGINT",  # when a person wants to hear of it again
    "ALTER TABLE delivery ADD COLUMN waits TEXT",  # why it is held until next_attempt_at; NULL: it is not
    "ALTER TABLE delivery ADD COLUMN held_until BIGINT",  # the end of the last time that it was held
)

# What a channel shows of a message is replaced and cleared by this name; NULL: nothing is, or it can't be.
_SHOWN = (
    "ALTER TABLE delivery ADD COLUMN shown_as TEXT",
    "CREATE INDEX delivery_shown ON delivery (channel, shown_as) WHERE shown_as IS NOT NULL",
    "CREATE INDEX delivery_sent ON delivery (channel, sent_at) WHERE sent_at IS NOT NULL",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _PROCESSES, _PAGE, _FOLLOWING, _SHOWN)

NUMBERED = ("alert", "delivery", "history")
"""Tables whose rows the database numbers by itself."""
_KEYS = {
    "meta": "key",
    "operator": "id",
    "line": "number",
    "alert": "id",
    "message": "number, id",
    "channel": "name",
    "delivery": "id",
    "history": "id",
    "follow_up": "number, message",
    "mention": "alert_id, number, message",
}
_COLUMN = re.compile(r"^\s+([a-z_]+) (?:TEXT|INTEGER|BIGINT|\{serial\})", re.MULTILINE)


def _columns(table: str) -> tuple[str, ...]:
    statements = [sql for step in MIGRATIONS for sql in step]
    made = next(sql for sql in statements if f"CREATE TABLE {table} (" in sql)
    added = (sql.split() for sql in statements if sql.startswith(f"ALTER TABLE {table} ADD COLUMN "))
    return (*_COLUMN.findall(made), *(words[5] for words in added))


TABLES = {table: (_columns(table), key) for table, key in _KEYS.items()}
"""Of every table that is worth keeping its columns, and by what its rows are put in order."""


async def migrate(transaction: Transaction) -> None:
    """Bring the schema to this version's, in one transaction. Raises LedgerError if it is newer than that."""
    await transaction.alone()
    await transaction.run("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
    rows = await transaction.all("SELECT version FROM schema_version")
    version = rows[0][0] if rows else 0
    if version > len(MIGRATIONS):
        raise UnreadableStoreError(
            f"the store was written by a newer vmwatch (schema {version}, this one knows {len(MIGRATIONS)}): upgrade"
        )
    if version == len(MIGRATIONS):
        return
    for step in MIGRATIONS[version:]:
        for statement in step:
            await transaction.run(statement.format(serial=transaction.serial))
    await transaction.run("DELETE FROM schema_version")
    await transaction.run("INSERT INTO schema_version (version) VALUES (:version)", version=len(MIGRATIONS))
