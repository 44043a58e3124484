"""Tables and sentences for people: local times, "in 43 s", numbers as one reads them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, tzinfo
from itertools import pairwise

from rich import box
from rich.markup import escape
from rich.table import Table

from vmwatch import wording
from vmwatch.book import Book
from vmwatch.ledger import ChannelView, DaemonView, MessageView, Owed, ProcessView
from vmwatch.models import DAY, HOUR, MINUTE, SECOND, ChannelState, DeliveryState, Instant, LineState, Standing
from vmwatch.shapes import IN_TROUBLE, Seen

SHORTEST_ID = 6
"""Characters of a message's id that are shown."""
_UNITS = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s"))
_COLOURS = {
    DeliveryState.PENDING: "yellow",
    DeliveryState.SENT: "green",
    DeliveryState.DEAD: "red",
    DeliveryState.WITHDRAWN: "dim",
}


def counted(count: int, what: str) -> str:
    """`1 line`, `2 lines`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def span(duration: int) -> str:
    """`43 s`, `12 min`, `3 h`, `2 d`: the largest unit that fits."""
    for size, unit in _UNITS:
        if duration >= size:
            return f"{duration // size} {unit}"
    return "0 s"


def relative(instant: Instant | None, now: Instant) -> str:
    """`in 43 s`, `12 min ago`, `now`, or a dash."""
    if instant is None:
        return "—"
    if abs(instant - now) < SECOND:
        return "now"
    return f"in {span(instant - now)}" if instant > now else f"{span(now - instant)} ago"


def clock(instant: Instant | None, zone: tzinfo) -> str:
    return "—" if instant is None else datetime.fromtimestamp(instant / 1000, zone).strftime("%d %b %H:%M")


def daemon(view: DaemonView, now: Instant) -> str:
    if not view.running:
        return "[yellow]No daemon runs on this store.[/] Start one: vmwatch run"
    since = f" for {span(now - view.since)}" if view.since is not None else ""
    page = f" Its page: {view.page}" if view.page else ""
    return f"The daemon (vmwatch {view.version}) runs{since}.{page}"


def status(seen: Seen, now: Instant) -> Iterable[str | Table]:
    yield daemon(seen.daemon, now)
    if len(seen.processes) > 1:
        yield processes(seen.processes, now)
    yield lines(seen.lines, now)
    yield channels(seen.channels, now)


def processes(views: Iterable[ProcessView], now: Instant) -> Table:
    table = _table("process", "version", "since", "polls a minute", "deliveries a minute")
    for view in views:
        since = relative(view.since, now)
        table.add_row(escape(view.name), escape(view.version), since, str(view.polls), str(view.deliveries))
    return table


def disagreements(sentences: Iterable[str]) -> Iterable[str]:
    """In what the processes are configured differently, and what a person can do."""
    sentences = tuple(sentences)
    yield from sentences
    if sentences:
        yield "The processes must agree: give all of them the same configuration, and reload them."


def lines(standings: Iterable[Standing], now: Instant) -> Table:
    table = _table("line", "number", "state", "since", "last read", "next poll", "new")
    for standing in standings:
        table.add_row(
            escape(standing.label),
            wording.number(standing.number),
            _state(standing),
            relative(standing.since, now),
            relative(standing.last_success_at, now),
            relative(standing.next_poll_at, now),
            "—" if standing.new is None else str(standing.new),
        )
    return table


def why(standing: Standing) -> str:
    """The reason in plain words, and its detail."""
    detail = f" ({standing.detail})" if standing.detail else ""
    return wording.REASONS[standing.reason] + detail


def remarks(standings: Iterable[Standing], stale: Collection[str] = ()) -> Iterable[str]:
    """What the table does not say: why a line is not well, what is odd about it, and what a person can do."""
    for standing in standings:
        if standing.number in stale:
            yield f"{standing.name}: {_STALE}"
        if standing.state is not LineState.OK or standing.detail:
            yield f"{standing.name}: {why(standing)}{advice(standing)}"


def advice(standing: Standing) -> str:
    """What a person can do about a line that waits for one, as a sentence to append."""
    words = _ADVICE.get(standing.state) if standing.enabled else None
    return f". {words}: vmwatch resume {standing.name}" if words else ""


_STALE = (
    "not read for three intervals, though nothing is wrong with it: this is vmwatch's own fault. Start it again, "
    "as with: systemctl restart vmwatch"
)
_ADVICE = {
    LineState.REJECTED: "Correct its PIN in the configuration, or allow one more try",
    LineState.LOCKED: "Once the operator has unlocked it, go on at once",
    LineState.PAUSED: "Go on",
}


def _state(standing: Standing) -> str:
    colour = "red" if standing.state in IN_TROUBLE else "green" if standing.state is LineState.OK else "yellow"
    return f"[{colour}]{standing.state.value}[/]"


def channels(views: Iterable[ChannelView], now: Instant) -> Table:
    table = _table("channel", "state", "pending", "dead", "last sent", "last error")
    for view in views:
        standing = view.standing
        colour = "green" if standing.state is ChannelState.OK else "red"
        table.add_row(
            escape(standing.name),
            f"[{colour}]{standing.state.value}[/]",
            str(view.pending),
            str(view.dead),
            relative(standing.last_sent_at, now),
            escape(standing.last_error or "—"),
        )
    return table


def messages(views: Iterable[MessageView], zone: tzinfo, book: Book, now: Instant) -> Table:
    table = _table("received", "line", "caller", "name", "length", "state", "id")
    views = tuple(views)
    ids = _beginnings({view.voicemail.id for view in views})
    for view in views:
        voicemail = view.voicemail
        table.add_row(
            clock(voicemail.received_at or view.first_seen_at, zone),
            escape(view.line),
            escape(wording.number(voicemail.caller)) if voicemail.caller else "withheld",
            escape(book.name_of(voicemail.caller) or voicemail.caller_name or "—"),
            "—" if voicemail.length is None else wording.length(voicemail.length),
            _standing(view, zone, now),
            escape(wording.one_line(ids[view.voicemail.id])),
        )
    return table


def _beginnings(ids: Iterable[str]) -> dict[str, str]:
    """As much of each id as tells it from the others, to be typed by a person."""
    size = SHORTEST_ID
    while any(one[:size] == other[:size] for one, other in pairwise(sorted(ids))):
        size += 1
    return {id_: id_[:size] for id_ in ids}


def _standing(view: MessageView, zone: tzinfo, now: Instant) -> str:
    if view.left_new_at is not None:
        return f"left {clock(view.left_new_at, zone)}"
    if view.acked_at is not None:
        return "new, acknowledged"
    if (view.snoozed_until or 0) > now:
        return f"snoozed {clock(view.snoozed_until, zone)}"
    return "[green]new[/]"


def outbox(deliveries: Iterable[Owed], now: Instant) -> Table:
    table = _table("id", "alert", "line", "channel", "state", "tries", "when", "waits", "last error")
    for owed in deliveries:
        table.add_row(
            str(owed.id),
            owed.kind.value,
            escape(owed.line or "—"),
            escape(owed.channel),
            f"[{_COLOURS[owed.state]}]{owed.state.value}[/]",
            str(owed.attempts),
            relative(owed.next_attempt_at or owed.sent_at, now),
            owed.waits or "—",
            escape(owed.last_error or "—"),
        )
    return table


def route(rows: Iterable[tuple[str, str, str, str]]) -> Table:
    table = _table("channel", "alert", "when", "why")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _table(*titles: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in titles:
        table.add_column(title, no_wrap=title != "last error")
    return table
