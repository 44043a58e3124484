"""The verb that tells who would be told of a message, when, and why: route. It sends nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from tzlocal import get_localzone

from vmwatch import config, decide, languages, shapes, wishes, wording
from vmwatch.book import Book, key
from vmwatch.cli import desk, tables
from vmwatch.cli.parser import Options
from vmwatch.contacts import Contacts
from vmwatch.decide import Route, Telling, Why
from vmwatch.errors import UsageError
from vmwatch.models import SECOND, Held, Instant, Voicemail
from vmwatch.settings import WITHHELD, Settings, duration

_MATCHES = {
    "number": "by its number",
    "prefix": "by the beginning of its number",
    "in_contacts": "for it is in the contacts",
    "unknown": "for it is in no address book",
    "withheld": "for its number is withheld",
}
_WHYS = {
    Why.LINE: "a channel of the line",
    Why.GROUP: "a channel of the group",
    Why.REMINDED: "remind: if nobody has heard it",
    Why.ESCALATED: "escalate: if nobody has heard it",
    Why.NOT_ASKED: "neither of the line nor of the group",
    Why.EVENTS: "asks for other alerts (events)",
    Why.MUTED: "muted by the group",
    Why.TOO_SHORT: "shorter than the group's min_length",
}
_HELD = {Held.QUIET: "held by its quiet hours", Held.DIGEST: "held for its digest"}


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Call:
    voicemail: Voicemail
    line: str
    """Its name."""
    at: Instant


async def route(options: Options) -> int:
    loaded = desk.load(options.config)
    settings, here = loaded.settings, get_localzone()
    zone = languages.zone_of(settings.alerts.timezone, here)
    call = await _call(options, loaded, zone)
    book = Contacts(desk.wall).read(loaded.contacts)
    voices = languages.voices(settings, here)
    patience = {name: decide.patience_of(one, voices[name].zone) for name, one in settings.channels.items()}
    found = decide.route(call.voicemail, decide.ways_of(settings, call.line, patience, zone), book, call.at)
    if options.json:
        desk.print_json(_shape(found, call, book))
    else:
        _show(found, call, settings, book, zone)
    return 0


async def _call(options: Options, loaded: config.Loaded, zone: tzinfo) -> _Call:
    """Who called, which line, and when. Raises UsageError."""
    if (options.message is None) == (options.caller is None):
        raise UsageError("name a MESSAGE (`vmwatch messages` has them), or --from NUMBER and --line LINE")
    at = desk.wall() if options.at is None else _instant(options.at, zone)
    if options.message is not None:
        if options.line is not None or options.length is not None:
            raise UsageError("--line and --length go with --from: of a message both are known")
        return await _stored(options, loaded.settings, at)
    if options.line is None:
        raise UsageError("--line is missing: which line was called?")
    length = None if options.length is None else _seconds(options.length)
    caller = _caller(options.caller, loaded.contacts.region)
    return _Call(Voicemail("sample", caller=caller, length=length), _line(loaded.settings, options.line), at)


async def _stored(options: Options, settings: Settings, at: Instant) -> _Call:
    async with desk.store(options.config) as ledger:
        view = await wishes.find_message(ledger, options.message)
    return _Call(view.voicemail, _line(settings, view.number), at)


def _line(settings: Settings, wanted: str) -> str:
    for name, line in settings.lines.items():
        if wanted in (name, line.number):
            return name
    raise UsageError(f"{wanted}: there is no such line; the lines are {desk.listed(settings.lines)}")


def _caller(written: str, region: str) -> str | None:
    if written == WITHHELD:
        return None
    found = key(written, region)
    if found is None:
        raise UsageError(f'--from: {written}: must be a number like "+4571919998", or "withheld"')
    return found


def _seconds(written: str) -> int:
    try:
        return duration(written) // SECOND
    except ValueError as error:
        raise UsageError(f"--length: {error}") from None


def _instant(written: str, zone: tzinfo) -> Instant:
    """A time of day is today's; a time without a zone is the configuration's."""
    today = datetime.now(zone).date()
    try:
        when = datetime.fromisoformat(f"{today} {written}" if len(written) <= len("23:30:00") else written)
    except ValueError:
        raise UsageError('--at: must be a time such as 23:30 or "2026-12-24 23:30"') from None
    placed = when if when.tzinfo is not None else when.replace(tzinfo=zone)
    return int((placed - _EPOCH).total_seconds()) * SECOND


def _show(found: Route, call: _Call, settings: Settings, book: Book, zone: tzinfo) -> None:
    out, caller = desk.out(), call.voicemail.caller
    name = book.name_of(caller) or call.voicemail.caller_name
    who = f"{wording.number(caller)}{f' ({wording.one_line(name)})' if name else ''}" if caller else "a withheld number"
    when = tables.clock(call.at, zone)
    out.print(f"{who} on {settings.label_of(call.line)}, {when}: {_group(found)}", markup=False)
    if caller and book.knows(caller) is None:
        out.print("Not all contacts could be read yet, so nobody is taken for unknown; see `vmwatch check`.")
    out.print(tables.route(_row(telling, zone) for telling in found.tellings))


def _row(telling: Telling, zone: tzinfo) -> tuple[str, str, str, str]:
    at = "never" if telling.at is None else tables.clock(telling.at, zone)
    return telling.channel, telling.kind.value, at, _why(telling)


def _group(found: Route) -> str:
    treated = found.treatment
    if treated.group is None:
        return "in no group of callers"
    urgent = ", urgent: never held" if treated.urgent else ""
    return f"in callers.{treated.group}, {_MATCHES[treated.match.value]}{urgent}"


def _why(telling: Telling) -> str:
    held = "" if telling.held is None else f"; {_HELD[telling.held]} until then"
    return f"{_WHYS[telling.why]}{held}"


def _shape(found: Route, call: _Call, book: Book) -> shapes.Shape:
    treated, voicemail = found.treatment, call.voicemail
    return {
        "line": call.line,
        "caller": voicemail.caller,
        "contact": book.name_of(voicemail.caller),
        "in_contacts": book.knows(voicemail.caller),
        "length": voicemail.length,
        "at": shapes.iso(call.at),
        "group": treated.group,
        "match": treated.match.value,
        "fate": treated.fate.value,
        "urgent": treated.urgent,
        "tellings": [
            {
                "channel": telling.channel,
                "kind": telling.kind.value,
                "why": telling.why.value,
                "at": shapes.iso(telling.at),
                "held": None if telling.held is None else telling.held.value,
            }
            for telling in found.tellings
        ],
    }
