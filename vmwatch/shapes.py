"""What people and their scripts see of the ledger: the JSON shapes of `status`, `messages` and `outbox`.

Times are UTC, ISO 8601 with `Z`; keys are promised.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vmwatch import decide
from vmwatch.book import Book
from vmwatch.ledger import ChannelView, DaemonView, Ledger, MessageView, Owed, ProcessView
from vmwatch.models import ChannelState, Instant, LineState, OperatorStanding, Standing
from vmwatch.tasks import in_turns

IN_TROUBLE = frozenset(
    {
        LineState.FAILING,
        LineState.LOCKED,
        LineState.REJECTED,
        LineState.NOT_ENABLED,
        LineState.UNKNOWN_NUMBER,
    }
)

Shape = dict[str, Any]


def iso(instant: Instant | None) -> str | None:
    if instant is None:
        return None
    return datetime.fromtimestamp(instant / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def lines_shown(ledger: Ledger, now: Instant) -> tuple[Standing, ...]:
    """Every configured line as people see it: with a pause or the operator's block over its own state."""
    operator: OperatorStanding = await ledger.lines.operator()
    standings = await ledger.lines.standings()
    return tuple(await in_turns(decide.shown(standing, operator, now) for standing in standings))


@dataclass(frozen=True, slots=True)
class Seen:
    """How things stand, as `status` tells it."""

    daemon: DaemonView
    processes: tuple[ProcessView, ...]
    lines: tuple[Standing, ...]
    channels: tuple[ChannelView, ...]
    disagreements: tuple[str, ...]


async def seen(ledger: Ledger, now: Instant) -> Seen:
    return Seen(
        daemon=await ledger.daemon(),
        processes=await ledger.processes.living(now),
        lines=await lines_shown(ledger, now),
        channels=await ledger.outbox.channels(),
        disagreements=await ledger.processes.disagreements(now),
    )


def is_troubled(seen: Seen) -> bool:
    failing = any(view.standing.state is ChannelState.FAILING for view in seen.channels)
    amiss = bool(seen.disagreements or seen.daemon.stale)
    return failing or amiss or any(line.state in IN_TROUBLE for line in seen.lines)


async def status(seen: Seen) -> Shape:
    daemon = seen.daemon
    lines = (line(standing) | {"stale": standing.number in daemon.stale} for standing in seen.lines)
    return {
        "daemon": {"running": daemon.running, "since": iso(daemon.since), "version": daemon.version},
        "processes": [process(view) for view in seen.processes],
        "disagreements": list(seen.disagreements),
        "lines": await in_turns(lines),
        "channels": [channel(view) for view in seen.channels],
    }


def process(view: ProcessView) -> Shape:
    return {
        "name": view.name,
        "version": view.version,
        "since": iso(view.since),
        "seen_at": iso(view.seen_at),
        "polls": view.polls,
        "deliveries": view.deliveries,
    }


def line(standing: Standing) -> Shape:
    return {
        "name": standing.name,
        "label": standing.label,
        "number": standing.number,
        "state": standing.state.value,
        "reason": standing.reason.value,
        "detail": standing.detail or None,
        "since": iso(standing.since),
        "last_poll_at": iso(standing.last_poll_at),
        "last_success_at": iso(standing.last_success_at),
        "next_poll_at": iso(standing.next_poll_at),
        "failures": standing.failures,
        "new": standing.new,
        "old": standing.old,
        "saved": standing.saved,
    }


def channel(view: ChannelView) -> Shape:
    return {
        "name": view.standing.name,
        "state": view.standing.state.value,
        "pending": view.pending,
        "dead": view.dead,
        "last_sent_at": iso(view.standing.last_sent_at),
        "last_error": view.standing.last_error,
    }


def message(view: MessageView, book: Book) -> Shape:
    voicemail = view.voicemail
    return {
        "line": view.line,
        "id": voicemail.id,
        "caller": voicemail.caller,
        "caller_name": voicemail.caller_name,
        "contact": book.name_of(voicemail.caller),
        "called": voicemail.called,
        "call_id": voicemail.call_id,
        "received_at": iso(voicemail.received_at),
        "length": voicemail.length,
        "first_seen_at": iso(view.first_seen_at),
        "left_new_at": iso(view.left_new_at),
        "box": voicemail.box,
        "played": voicemail.played,
        "acked_at": iso(view.acked_at),
        "snoozed_until": iso(view.snoozed_until),
    }


def delivery(owed: Owed) -> Shape:
    return {
        "id": owed.id,
        "kind": owed.kind.value,
        "line": owed.line,
        "message": owed.message,
        "channel": owed.channel,
        "state": owed.state.value,
        "attempts": owed.attempts,
        "next_attempt_at": iso(owed.next_attempt_at),
        "sent_at": iso(owed.sent_at),
        "last_error": owed.last_error,
        "waits": owed.waits,
    }
