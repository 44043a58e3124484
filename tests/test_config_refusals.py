"""Wrong configurations, tiny ones, and the sentences with which they are refused."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from vmwatch import config
from vmwatch.errors import ConfigError
from vmwatch.settings import Settings

LINE = '[lines.home]\nnumber = "+4571919998"\npin = "8352"\n'
CHANNEL = '[channels.phone]\nurl = "ntfys://hidden-topic"\n'
GOOD = LINE + CHANNEL
DURATION = 'must be a duration such as "90s", "5m" or "1h30m", or a number of seconds'
EVENTS = (
    "must be one of channel, channel.failing, channel.recovered, line, line.locked, line.not_enabled, line.recovered, "
    "line.rejected, line.stale, line.unknown_number, line.unreachable, store, store.failing, store.recovered, "
    "test, voicemail, voicemail.digest, voicemail.escalated, voicemail.heard, voicemail.new, voicemail.reminder, "
    "voicemail.summary"
)
NAME = "a name is made of a-z, 0-9 and _ (never two _ in a row)"
HTTPS = "must be https, for the PIN travels in the URL (http only for 127.0.0.1, ::1 or localhost)"
E164 = 'must be a number in E.164 form, like "+4571919998"'
IMPOSSIBLE = "is not a possible phone number: check its country code and its length"
PIN = "must be 4 to 10 digits, in quotes"
ADDRESS = 'must be an address and a port, like "127.0.0.1:8480" or "[::1]:8480" ("" turns it off)'
NO_TOKEN = (
    "is missing (or give token_file): who is let in from other machines must know one; "
    "make it with: openssl rand -hex 16"
)
TOKEN = "must be 16 to 200 letters, digits or signs, without blanks"
HOST = 'must be a host\'s name without a port, like "vmwatch.example.com"'
PUBLIC = 'must be the URL by which others reach vmwatch, like "https://vm.example.com"'
PLAIN = "must have nothing but letters without accents, digits and . _ - / in its host and path"
DOTS = "must not have two dots together, nor a dot at the end of its host or of a part of its path"
ORDERED = 'must be in order: first waits such as "30m", "2h", then times such as "next 08:00"'
NO_LINE = "lines: there is no line: add a table such as [lines.home]"
NO_CHANNEL = "channels: there is no channel: add a table such as [channels.phone]"


def object_to_url(url: str) -> str | None:
    if "://" not in url:
        return "is not a URL that Apprise understands"
    return "stands for several targets" if "," in url else None


def objections(folder: Path, text: str | bytes, environ: Mapping[str, str] | None = None) -> list[str]:
    """The sentences, with the file's name alone where its path was."""
    file = folder / "config.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        config.load(file, environ or {}, object_to_url)
    sentences = [sentence.replace(f"{folder}/", "") for sentence in caught.value.objections]
    assert not [s for s in sentences for secret in ("8352", "4477", "hidden") if secret in s]
    return sentences


def in_operator(line: str) -> str:
    return f"{GOOD}[operator]\n{line}\n"


def in_polling(line: str) -> str:
    return f"{GOOD}[polling]\n{line}\n"


def in_web(line: str) -> str:
    return f"{GOOD}[web]\n{line}\n"


def in_line(line: str) -> str:
    return f"{CHANNEL}{LINE}{line}\n"


def with_number(number: str) -> str:
    return f'{CHANNEL}[lines.a]\npin = "8352"\nnumber = {number}\n'


def with_pin(pin: str) -> str:
    return f'{CHANNEL}[lines.a]\nnumber = "+4571919998"\npin = {pin}\n'


def with_url(url: str) -> str:
    return in_operator(f"base_url = {url}")


def in_channel(line: str) -> str:
    return f"{LINE}{CHANNEL}{line}\n"


def in_template(kind: str, line: str) -> str:
    return f"{GOOD}[channels.phone.templates.{kind}]\n{line}\n"


ZONE = 'is not a time zone that this machine knows; they are called like "Europe/Copenhagen"'
REFUSED: list[tuple[str, str, list[str]]] = [
    # How alerts are said.
    ("no such language", f'{GOOD}[alerts]\nlanguage = "hidden"\n', ["7: alerts.language: must be one of en, da"]),
    ("a language's path", in_channel('language = "../da"'), ["6: channels.phone.language: must be one of en, da"]),
    ("a number for a language", in_channel("language = 1"), ["6: channels.phone.language: must be text, in quotes"]),
    ("no such time zone", f'{GOOD}[alerts]\ntimezone = "Europe/hidden"\n', [f"7: alerts.timezone: {ZONE}"]),
    ("a folder of time zones", in_channel('timezone = "Europe"'), [f"6: channels.phone.timezone: {ZONE}"]),
    ("a path for a time zone", in_channel('timezone = "../etc/hidden"'), [f"6: channels.phone.timezone: {ZONE}"]),
    ("no time zone at all", in_channel('timezone = ""'), [f"6: channels.phone.timezone: {ZONE}"]),
    (
        "no such privacy",
        in_channel('privacy = "hidden"'),
        ['6: channels.phone.privacy: must be "full", "masked" or "minimal"'],
    ),
    (
        "a template of an unknown kind",
        in_template("voicemail.newer", 'title = "x"'),
        ["6: channels.phone.templates.voicemail.newer: unknown table; did you mean new?"],
    ),
    (
        "a template in a table that is not there",
        in_template("voicemails.new", 'title = "x"'),
        ["6: channels.phone.templates.voicemails: unknown table; did you mean voicemail?"],
    ),
    (
        "an unknown part of a template",
        in_template("voicemail.new", 'titel = "x"'),
        ["7: channels.phone.templates.voicemail.new.titel: unknown key; did you mean title?"],
    ),
    (
        "a template without its table",
        in_template("voicemail", 'new = "x"'),
        ["7: channels.phone.templates.voicemail.new: must be a table"],
    ),
    (
        "a template with an unknown variable, and one that loops",
        in_template("line.locked", 'title = "{{ lin }}"\nbody = """\n{% for a in range(9) %}{% endfor %}"""'),
        [
            "7: channels.phone.templates.line.locked.title: there is no variable lin",
            "8: channels.phone.templates.line.locked.body: line 1: a loop can only be over voicemails",
        ],
    ),
    (
        "a template that is none",
        in_template("test", 'body = "{{ hidden"'),
        [
            "7: channels.phone.templates.test.body: is not a template: line 1: unexpected end of template, expected "
            "'end of print statement'"
        ],
    ),
    # What the file is made of.
    ("an empty file", "", [f"1: {NO_CHANNEL}", f"1: {NO_LINE}"]),
    ("no line", CHANNEL, [f"1: {NO_LINE}"]),
    ("no channel", LINE, [f"1: {NO_CHANNEL}"]),
    ("an empty table of lines", f"{CHANNEL}[lines]\n", [f"3: {NO_LINE}"]),
    ("an unknown table", f"{GOOD}[poling]\ninterval = 1\n", ["6: poling: unknown table; did you mean polling?"]),
    ("an unknown table far from any", f"{GOOD}[xyzzy]\n", ["6: xyzzy: unknown table"]),
    ("an unknown key", in_polling('intervall = "8352"'), ["7: polling.intervall: unknown key; did you mean interval?"]),
    ("an unknown key on top", f'pin = "8352"\n{GOOD}', ["1: pin: unknown key"]),
    ("a misspelt pin", in_line('pni = "8352"'), ["6: lines.home.pni: unknown key; did you mean pin?"]),
    (
        "a misspelt file",
        in_channel('url_flie = "8352"'),
        ["6: channels.phone.url_flie: unknown key; did you mean url_file?"],
    ),
    (
        "a key in a backoff",
        in_polling("error_backoff = { maxi = 1 }"),
        ["7: polling.error_backoff.maxi: unknown key; did you mean max?"],
    ),
    ("a very long key", in_line(f'{"k" * 99}8352 = "x"'), [f"6: lines.home.{'k' * 60}: unknown key"]),
    ("a key with control characters", in_line('"a\\u001b[31m\\nb" = 1'), ["6: lines.home.a[31mb: unknown key"]),
    (
        "not TOML",
        f"{GOOD}pin 8352\n",
        ["6: is not valid TOML: Expected '=' after a key in a key/value pair, at column 5"],
    ),
    (
        "a text without end",
        f'{GOOD}events = ["hidden',
        ["6: is not valid TOML: Unterminated string, at the end of the file"],
    ),
    (
        "a table twice",
        f"{GOOD}[lines.home]\n",
        ["6: is not valid TOML: Cannot declare ('lines', 'home') twice, at column 12"],
    ),
    ("a number beyond all bounds", f"{GOOD}a = {'8352' * 1100}", [": is not valid TOML"]),
    # Until it is heard.
    (
        "reminders out of order",
        in_line('remind = ["2h", "30m"]'),
        [f"6: lines.home.remind: {ORDERED}"],
    ),
    ("a wait after a time of day", in_line('remind = ["next 08:00", "30m"]'), [f"6: lines.home.remind: {ORDERED}"]),
    ("a reminder at once", in_line('remind = ["0s"]'), ['6: lines.home.remind: entry 1: must be at least "1m"']),
    (
        "a reminder at no time",
        in_line('remind = ["next 25:00"]'),
        ['6: lines.home.remind: entry 1: must have times such as "08:00", from "00:00" to "24:00"'],
    ),
    (
        "twenty-one reminders",
        in_line(f"remind = {[f'{minute}m' for minute in range(1, 22)]}"),
        ["6: lines.home.remind: has too many entries"],
    ),
    (
        "an escalation to nobody there",
        in_line('escalate = [{ after = "1h", channels = ["boss"] }]'),
        ["6: lines.home.escalate: there is no channel boss"],
    ),
    (
        "escalations out of order",
        in_line('escalate = [{ after = "1h", channels = ["phone"] }, { after = "1h", channels = ["phone"] }]'),
        ["6: lines.home.escalate: must be in order: each one's after is longer than that of the one before"],
    ),
    (
        "a digest at no time",
        in_channel('digest = "8:00"'),
        ['6: channels.phone.digest: must have times such as "08:00", from "00:00" to "24:00"'],
    ),
    (
        "a digest that is a number",
        in_channel("digest = 8"),
        ['6: channels.phone.digest: must be a time such as "08:00"'],
    ),
    *(
        (
            f"a budget of {budget}",
            in_channel(f"budget = {budget}"),
            ['6: channels.phone.budget: must be like "20/1h": at most so many alerts in so long'],
        )
        for budget in ('"20"', '"0/1h"', '"many/1h"', "20")
    ),
    ("a budget in no time", in_channel('budget = "2/0s"'), ['6: channels.phone.budget: must be at least "1m"']),
    (
        "an urgent kind that there is not",
        in_channel('urgent = ["x"]'),
        [f"6: channels.phone.urgent: entry 1: {EVENTS}"],
    ),
    # What a line holds.
    ("a line that is text", f'{CHANNEL}[lines]\nhome = "8352"\n', ["4: lines.home: must be a table"]),
    ("lines as a list", f"{CHANNEL}[[lines]]\nhome = 1\n", ["3: lines: must be a table"]),
    ("a section that is a number", f"polling = 5\n{GOOD}", ["1: polling: must be a table"]),
    (
        "a line with nothing",
        f"{CHANNEL}[lines.home]\n",
        ["3: lines.home.number: is missing", "3: lines.home.pin: is missing (or give pin_file)"],
    ),
    ("no number", f'{CHANNEL}[lines.home]\npin = "8352"\n', ["3: lines.home.number: is missing"]),
    ("a number without a country", with_number('"71919998"'), [f"5: lines.a.number: {E164}"]),
    ("a number with blanks", with_number('"+45 71919998"'), [f"5: lines.a.number: {E164}"]),
    ("a bare number", with_number("+4571919998"), [f"5: lines.a.number: {E164}"]),
    ("an impossible number", with_number('"+4571"'), [f"5: lines.a.number: {E164}"]),
    ("a number too short", with_number('"+457191"'), [f"5: lines.a.number: {IMPOSSIBLE}"]),
    ("a country that is none", with_number('"+99971919998"'), [f"5: lines.a.number: {IMPOSSIBLE}"]),
    (
        "a number of two lines",
        f'{GOOD}[lines.work]\nnumber = "+4571919998"\npin = "8352"\n',
        ["7: lines.work.number: is the number of lines.home too"],
    ),
    ("a pin as a number", with_pin("8352"), [f"5: lines.a.pin: {PIN}"]),
    ("a short pin", with_pin("'835'"), [f"5: lines.a.pin: {PIN}"]),
    ("a long pin", with_pin("'83528352835'"), [f"5: lines.a.pin: {PIN}"]),
    ("a pin with letters", with_pin("'8352a'"), [f"5: lines.a.pin: {PIN}"]),
    ("a pin of other digits", with_pin("'٨٣٥٢'"), [f"5: lines.a.pin: {PIN}"]),
    ("a pin with a line end", with_pin('"8352\\n"'), [f"5: lines.a.pin: {PIN}"]),
    ("a pin that is a table", with_pin("{ a = '8352' }"), [f"5: lines.a.pin: {PIN}"]),
    (
        "a pin and its file",
        in_line('pin_file = "home.pin"'),
        ["6: lines.home.pin_file: set either pin or pin_file, not both"],
    ),
    (
        "a file that is a number",
        f"{CHANNEL}[lines.a]\nnumber = '+4571919998'\npin_file = 8352",
        ["5: lines.a.pin_file: must be the name of a file, in quotes"],
    ),
    (
        "a file without a name",
        f"{CHANNEL}[lines.a]\nnumber = '+4571919998'\npin_file = ''",
        ["5: lines.a.pin_file: must be the name of a file, in quotes"],
    ),
    ("a label that is a number", in_line("label = 8352"), ["6: lines.home.label: must be text, in quotes"]),
    (
        "a label in two lines",
        in_line('label = "a\\nb"'),
        ["6: lines.home.label: must not have control characters or line breaks"],
    ),
    ("a long label", in_line(f'label = "{"a" * 81}"'), ["6: lines.home.label: must be at most 80 characters"]),
    (
        "an interval below a second",
        in_line('interval = "999ms"'),
        ['6: lines.home.interval: must be at least "1s": every poll is a login'],
    ),
    ("a switch that is none", in_line('enabled = "perhaps"'), ["6: lines.home.enabled: must be true or false"]),
    (
        "an absent channel",
        in_line('channels = ["phone", "phnoe"]'),
        ["6: lines.home.channels: there is no channel phnoe; did you mean phone?"],
    ),
    (
        "a URL for a channel's name",
        in_line('channels = ["ntfys://hidden"]'),
        ["6: lines.home.channels: names a channel that does not exist"],
    ),
    (
        "a pin for a channel's name",
        in_line('channels = ["8352"]'),
        ["6: lines.home.channels: names a channel that does not exist"],
    ),
    ("channels that are text", in_line('channels = "phone"'), ["6: lines.home.channels: must be a list"]),
    (
        "a channel that is a number",
        in_line("channels = [\n  8352,\n]"),
        ["6: lines.home.channels: entry 1: must be text, in quotes"],
    ),
    (
        "a line's name in capitals",
        f"{CHANNEL}[lines.Home]\nnumber = '+4571919998'\npin = '8352'",
        [f"3: lines.Home: {NAME}"],
    ),
    (
        "a line's name with a hyphen",
        f"{CHANNEL}[lines.my-home]\nnumber = '+4571919998'\npin = '8352'",
        [f"3: lines.my-home: {NAME}"],
    ),
    (
        "a line's name without letters",
        f"{CHANNEL}[lines.'']\nnumber = '+4571919998'\npin = '8352'",
        [f"3: lines.: {NAME}"],
    ),
    ("two _ in a name", f"{CHANNEL}[lines.a__b]\nnumber = '+4571919998'\npin = '8352'", [f"3: lines.a__b: {NAME}"]),
    # What a channel holds.
    (
        "a channel's name with a blank",
        f"{LINE}[channels.'my phone']\nurl = 'ntfys://hidden'",
        [f"4: channels.my phone: {NAME}"],
    ),
    (
        "a channel that is its URL",
        f"channels.phone = 'ntfys://hidden'\n{LINE}channels = ['phone']\n",
        ["1: channels.phone: must be a table"],
    ),
    ("a channel without a URL", f"{LINE}[channels.phone]\n", ["4: channels.phone.url: is missing (or give url_file)"]),
    ("an empty URL", f"{LINE}[channels.phone]\nurl = ' '\n", ["5: channels.phone.url: must not be empty"]),
    (
        "a URL that is a number",
        f"{LINE}[channels.phone]\nurl = 8352\n",
        ["5: channels.phone.url: must be text, in quotes"],
    ),
    (
        "a URL that can't be built",
        f"{LINE}[channels.phone]\nurl = 'hidden'\n",
        ["5: channels.phone.url: is not a URL that Apprise understands"],
    ),
    (
        "a URL of several targets",
        f"{LINE}[channels.phone]\nurl = 'ntfys://hidden,hidden2'\n",
        ["5: channels.phone.url: stands for several targets"],
    ),
    (
        "an event that is none",
        in_channel('events = ["line", "lines"]'),
        [f"6: channels.phone.events: entry 2: {EVENTS}"],
    ),
    ("an event that is a list", in_channel('events = [["line"]]'), [f"6: channels.phone.events: entry 1: {EVENTS}"]),
    ("events that are a number", in_channel("events = 8352"), ["6: channels.phone.events: must be a list"]),
    # The operator.
    ("http to another machine", with_url('"http://operator.example.com"'), [f"7: operator.base_url: {HTTPS}"]),
    ("http to nearly this machine", with_url('"http://127.0.0.1.example.com"'), [f"7: operator.base_url: {HTTPS}"]),
    ("http to any address", with_url('"http://0.0.0.0"'), [f"7: operator.base_url: {HTTPS}"]),
    (
        "another scheme",
        with_url('"ftp://operator.example.com"'),
        ['7: operator.base_url: must be a URL such as "https://operator.example.com"'],
    ),
    (
        "no host",
        with_url('"https:///path"'),
        ['7: operator.base_url: must be a URL such as "https://operator.example.com"'],
    ),
    (
        "a password",
        with_url('"https://u:hidden@operator.example.com"'),
        ["7: operator.base_url: must not have a user name or a password"],
    ),
    (
        "a query",
        with_url('"https://operator.example.com/?key=hidden"'),
        ["7: operator.base_url: must not have a query or a fragment"],
    ),
    (
        "an empty query",
        with_url('"https://operator.example.com?"'),
        ["7: operator.base_url: must not have a query or a fragment"],
    ),
    (
        "a fragment",
        with_url('"https://operator.example.com#hidden"'),
        ["7: operator.base_url: must not have a query or a fragment"],
    ),
    (
        "a port beyond all ports",
        with_url('"https://operator.example.com:83520"'),
        ["7: operator.base_url: has an impossible host or port"],
    ),
    ("half an address", with_url('"https://[::1"'), ["7: operator.base_url: has an impossible host or port"]),
    (
        "a blank in an address",
        with_url('"https://operator.example.com/ hidden"'),
        ["7: operator.base_url: must not have blanks, backslashes or control characters"],
    ),
    (
        "a backslash in an address",
        with_url("'https://operator.example.com\\hidden'"),
        ["7: operator.base_url: must not have blanks, backslashes or control characters"],
    ),
    ("a URL that is a list", with_url("[]"), ["7: operator.base_url: must be text, in quotes"]),
    ("no request at once", in_operator("concurrency = 0"), ["7: operator.concurrency: must be at least 1"]),
    ("too many requests at once", in_operator("concurrency = 8352"), ["7: operator.concurrency: must be at most 1000"]),
    ("half a request at once", in_operator("concurrency = 1.5"), ["7: operator.concurrency: must be a whole number"]),
    ("many requests at once", in_operator('concurrency = "many"'), ["7: operator.concurrency: must be a whole number"]),
    ("true requests at once", in_operator("concurrency = true"), ["7: operator.concurrency: must be a number"]),
    ("no time for a request", in_operator("timeout = 0"), ["7: operator.timeout: must be at least 1ms"]),
    # Polling, delivery, store.
    (
        "an interval of zero",
        in_polling("interval = 0"),
        ['7: polling.interval: must be at least "1s": every poll is a login'],
    ),
    (
        "a negative duration",
        in_polling("interval = -8352"),
        ["7: polling.interval: must be a duration from 0 to 100 years"],
    ),
    (
        "an endless duration",
        in_polling("interval = inf"),
        ["7: polling.interval: must be a duration from 0 to 100 years"],
    ),
    (
        "a duration that is no number",
        in_polling("interval = nan"),
        ["7: polling.interval: must be a duration from 0 to 100 years"],
    ),
    (
        "a duration beyond floats",
        in_polling(f"interval = 1{'0' * 400}"),
        ["7: polling.interval: must be a duration from 0 to 100 years"],
    ),
    ("a duration in weeks", in_polling('unreachable_after = "2w"'), [f"7: polling.unreachable_after: {DURATION}"]),
    ("a duration with a blank", in_polling('interval = "1h 30m"'), [f"7: polling.interval: {DURATION}"]),
    ("an empty duration", in_polling('interval = ""'), [f"7: polling.interval: {DURATION}"]),
    ("a duration that is true", in_polling("interval = true"), [f"7: polling.interval: {DURATION}"]),
    ("a duration that is a date", in_polling("interval = 2024-01-01"), [f"7: polling.interval: {DURATION}"]),
    ("a duration that is a list", in_polling('interval = ["1m"]'), [f"7: polling.interval: {DURATION}"]),
    ("too much jitter", in_polling("jitter = 0.6"), ["7: polling.jitter: must be at most 0.5"]),
    ("jitter in words", in_polling('jitter = "some"'), ["7: polling.jitter: must be a number"]),
    ("jitter that is no number", in_polling("jitter = nan"), ["7: polling.jitter: must be at least 0"]),
    (
        "a first poll unheard of",
        in_polling('first_poll = "all"'),
        ['7: polling.first_poll: must be "summary", "each" or "silent"'],
    ),
    (
        "a backoff that shrinks",
        in_polling('\nerror_backoff = { initial = "2h", max = "1h" }'),
        ["8: polling.error_backoff: max must not be shorter than initial"],
    ),
    ("a backoff that is a duration", in_polling('error_backoff = "1h"'), ["7: polling.error_backoff: must be a table"]),
    (
        "no time to give up",
        f"{GOOD}[delivery.retry]\ngive_up_after = 0",
        ["7: delivery.retry.give_up_after: must be at least 1ms"],
    ),
    (
        "PostgreSQL without a database",
        f'{GOOD}[store]\nurl = "postgresql://u:hidden@db.example.com"',
        ['7: store.url: must name a database, like "postgresql://db.example.com/vmwatch"'],
    ),
    (
        "a bare @ in PostgreSQL's password",
        f'{GOOD}[store]\nurl = "postgresql://u:hid@den@db.example.com/vmwatch"',
        ['7: store.url: has special characters in its password: write "@" as %40, "/" as %2F, "?" as %3F, "#" as %23'],
    ),
    (
        "a bare / in PostgreSQL's password",
        f'{GOOD}[store]\nurl = "postgresql://u:hid/den@db.example.com/vmwatch"',
        ['7: store.url: has special characters in its password: write "@" as %40, "/" as %2F, "?" as %3F, "#" as %23'],
    ),
    (
        "another kind of database",
        f'{GOOD}[store]\nurl = "mysql://u:hidden@db.example.com/vmwatch"',
        ['7: store.url: must be like "sqlite:///vmwatch.db" or "postgresql://db.example.com/vmwatch"'],
    ),
    (
        "a path for a store",
        f'{GOOD}[store]\nurl = "vmwatch.db"',
        ['7: store.url: must be like "sqlite:///vmwatch.db" or "postgresql://db.example.com/vmwatch"'],
    ),
    (
        "two slashes",
        f'{GOOD}[store]\nurl = "sqlite://vmwatch.db"',
        ['7: store.url: must be like "sqlite:///vmwatch.db" or "postgresql://db.example.com/vmwatch"'],
    ),
    ("a store without a file", f'{GOOD}[store]\nurl = "sqlite:///"', ["7: store.url: must name a file"]),
    ("a store in a folder", f'{GOOD}[store]\nurl = "sqlite:////var/lib/"', ["7: store.url: must name a file"]),
    ("a store in memory", f'{GOOD}[store]\nurl = "sqlite:///:memory:"', ["7: store.url: must name a file"]),
    (
        "a store with options",
        f'{GOOD}[store]\nurl = "sqlite:///a.db?mode=ro"',
        ['7: store.url: takes no options after "?"'],
    ),
    # The address that is listened on.
    *(
        (f"an address like {listen}", in_web(f"listen = '{listen}'"), [f"7: web.listen: {ADDRESS}"])
        for listen in (
            "8480",
            ":8480",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:x",
            "127.0.0.1:65536",
            "::1:8480",
            "[::1]",
            "[]:8480",
            "http://127.0.0.1:8480",
            "example.com:8480",
            "127.0.0.1:8480/hidden",
            "127.0.0.256:8480",
            "LOCALHOST:8480",
        )
    ),
    ("a port for an address", in_web("listen = 8480"), ["7: web.listen: must be text, in quotes"]),
    *(
        (f"no token for {listen}", in_web(f"listen = '{listen}'"), [f"6: web.token: {NO_TOKEN}"])
        for listen in (
            "0.0.0.0:8480",
            "[::]:8480",
            "192.0.2.7:8480",
            "[2001:db8::7]:0",
            "128.0.0.1:8480",
        )
    ),
    ("a short token", in_web('token = "hidden-8352"'), [f"7: web.token: {TOKEN}"]),
    ("a token with a blank", in_web('token = "hidden and long enough"'), [f"7: web.token: {TOKEN}"]),
    ("a token of other letters", in_web('token = "hidden-æøå-hidden"'), [f"7: web.token: {TOKEN}"]),
    ("a token that is a number", in_web("token = 8352835283528352"), ["7: web.token: must be text, in quotes"]),
    (
        "a token and its file",
        in_web('token = "hidden-but-long-enough"\ntoken_file = "web.token"'),
        ["8: web.token_file: set either token or token_file, not both"],
    ),
    (
        "a token's file that is not there",
        in_web('listen = "0.0.0.0:8480"\ntoken_file = "nowhere"'),
        ["8: web.token_file: nowhere cannot be read: No such file or directory"],
    ),
    ("a host with a port", in_web('hosts = ["a.example.com:8480"]'), [f"7: web.hosts: entry 1: {HOST}"]),
    ("a host that is a URL", in_web('hosts = ["a", "http://a"]'), [f"7: web.hosts: entry 2: {HOST}"]),
    *(
        (f"a public URL: {url[:40]}", in_web(f'public_url = "{url}"'), [f"7: web.public_url: {words}"])
        for url, words in {
            "vm.example.com": PUBLIC,
            "ftp://vm.example.com": PUBLIC,
            "https://": PUBLIC,
            "/vm": PUBLIC,
            "https://vm.example.com:83520": "has an impossible host or port",
            "https://[::1": "has an impossible host or port",
            "https://me:hidden@vm.example.com": "must not have a user name or a password",
            "https://hidden@vm.example.com": "must not have a user name or a password",
            "https://vm.example.com/?": "must not have a query or a fragment",
            "https://vm.example.com/#x": "must not have a query or a fragment",
            "https://vm.example.com/a b": "must not have blanks, backslashes or control characters",
            "https://vm.example.com/<b>": PLAIN,
            "https://vm.example.com/a*b": PLAIN,
            "https://vm.example.com/%61": PLAIN,
            "https://vm.example.com//a": PLAIN,
            "https://vm.exämple.com": PLAIN,
            "https://vm.example.com.": DOTS,
            "https://vm.example.com.:8480/vm": DOTS,
            "https://vm..example.com": DOTS,
            "https://vm.example.com/../vm": DOTS,
            "https://vm.example.com/vm/./a": DOTS,
            "https://vm.example.com/vm/..": DOTS,
            "https://vm.example.com/" + "x" * 80: "must be at most 80 characters, for it stands in every alert",
        }.items()
    ),
    ("a host without letters", in_web('hosts = [""]'), [f"7: web.hosts: entry 1: {HOST}"]),
    (
        "a heartbeat to nowhere",
        f'{GOOD}[heartbeat]\nurl = "ftp://hc.example.com/hidden"\n',
        ['7: heartbeat.url: must be a URL such as "https://hc-ping.com/your-uuid"'],
    ),
    (
        "a heartbeat to a port beyond all ports",
        f'{GOOD}[heartbeat]\nurl = "https://hc.example.com:83520/hidden"\n',
        ["7: heartbeat.url: has an impossible host or port"],
    ),
    (
        "a heartbeat with a blank",
        f'{GOOD}[heartbeat]\nurl = "https://hc.example.com/ hidden"\n',
        ["7: heartbeat.url: must not have blanks, backslashes or control characters"],
    ),
    ("an unknown key of the page", in_web("port = 8480"), ["7: web.port: unknown key"]),
]


@pytest.mark.parametrize(("text", "sentences"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_wrong_configuration_is_refused_in_a_sentence(tmp_path: Path, text: str, sentences: list[str]) -> None:
    expected = [f"config.toml{'' if sentence.startswith(':') else ':'}{sentence}" for sentence in sentences]
    assert objections(tmp_path, text) == expected


ENVIRONMENT: list[tuple[str, str, str]] = [
    ("VMWATCH_POLING__INTERVAL", "hidden", "names no key; did you mean VMWATCH_POLLING__INTERVAL?"),
    ("VMWATCH_POLLING_INTERVAL", "hidden", "names no key; did you mean VMWATCH_POLLING__INTERVAL?"),
    ("VMWATCH_LINES_HOME_PIN", "4477", "names no key; did you mean VMWATCH_LINES__NAME__PIN?"),
    ("VMWATCH_LINES__HOME__PNI", "4477", "names no key; did you mean VMWATCH_LINES__HOME__PIN?"),
    ("vmwatch_config", "hidden", "names no key; did you mean VMWATCH_CONFIG?"),
    ("VMWATCH_TESTING", "hidden", "names no key"),
    ("VMWATCH_", "hidden", "names no key"),
    ("VMWATCH_STORE__URL__X", "hidden", "names no key; did you mean VMWATCH_STORE__URL?"),
    ("VMWATCH_LINES", "hidden", "is a table: set its keys one by one"),
    ("VMWATCH_LINES__HOME", "4477", "is a table: set its keys one by one"),
    ("VMWATCH_POLLING__ERROR_BACKOFF", "hidden", "is a table: set its keys one by one"),
    ("VMWATCH_LINES__HOME__PIN", "447", "must be 4 to 10 digits"),
    ("VMWATCH_LINES__HOME__PIN", "", "must be 4 to 10 digits"),
    ("VMWATCH_LINES__WORK__PIN", "4477", "lines.work.number: is missing"),
    ("VMWATCH_LINES__HOME__ENABLED", "hidden", "must be true or false"),
    ("VMWATCH_LINES__HOME__CHANNELS", "phone,phnoe", "there is no channel phnoe; did you mean phone?"),
    (
        "VMWATCH_LINES__HOME__CHANNELS",
        '["hidden',
        'must be names with commas between them, or a list like ["phone", "mail"]',
    ),
    ("VMWATCH_LINES__HOME__CHANNELS", "[8352]", "entry 1: must be text"),
    ("VMWATCH_LINES__HOME__PIN_FILE", "", "must be the name of a file"),
    ("VMWATCH_LINES__HOME__LABEL", "\udcff", "is not UTF-8 text"),
    ("VMWATCH_CHANNELS__PHONE__URL", "hidden", "is not a URL that Apprise understands"),
    ("VMWATCH_POLLING__INTERVAL", "hidden", DURATION),
    ("VMWATCH_OPERATOR__CONCURRENCY", "hidden", "must be a whole number"),
]


@pytest.mark.parametrize(("name", "value", "words"), ENVIRONMENT)
def test_a_wrong_variable_is_refused_in_a_sentence(tmp_path: Path, name: str, value: str, words: str) -> None:
    expected = f"environment variable {name}: {words}"
    assert objections(tmp_path, GOOD, {name: value})[0] == expected


def test_a_variable_set_in_two_spellings_is_refused(tmp_path: Path) -> None:
    environ = {"VMWATCH_STORE__KEEP": "1d", "vmwatch_store__keep": "2d"}
    assert objections(tmp_path, GOOD, environ) == ["environment variable vmwatch_store__keep: is set twice"]


def test_a_pin_and_its_file_in_the_environment_are_refused(tmp_path: Path) -> None:
    environ = {"VMWATCH_LINES__HOME__PIN": "4477", "VMWATCH_LINES__HOME__PIN_FILE": "home.pin"}
    sentence = "environment variable VMWATCH_LINES__HOME__PIN_FILE: set either pin or pin_file, not both"
    assert objections(tmp_path, GOOD, environ) == [sentence]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("lines__home__pin", b"447\n", "must be 4 to 10 digits"),
        ("vmwatch_lines__home__pin", b"4477\n\n", "must be 4 to 10 digits"),
        ("lines__home__pin", b"", "is empty"),
        ("lines__home__pin", b"\xff4477", "is not UTF-8 text"),
        ("lines__home__pin", b"4477" * 20_000, "is larger than 64 KiB"),
        ("lines__home__pni", b"4477", "names no key; did you mean lines__home__pin?"),
        ("vmwatch_thing", b"4477", "names no key"),
        ("lines__home", b"4477", "is a table: set its keys one by one"),
        ("lines__work__pin", b"4477", "lines.work.number: is missing"),
    ],
)
def test_a_wrong_credential_is_refused_in_a_sentence(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / name).write_bytes(content)
    assert objections(tmp_path, GOOD, {"CREDENTIALS_DIRECTORY": str(folder)})[0] == f"credential {name}: {words}"


def test_a_credential_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lines__home__pin").mkdir()
    sentence = "credential lines__home__pin: cannot be read: Is a directory"
    assert objections(tmp_path, GOOD, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == [sentence]


def test_a_credential_with_and_without_prefix_is_refused(tmp_path: Path) -> None:
    for name in ("lines__home__pin", "vmwatch_lines__home__pin"):
        (tmp_path / name).write_text("4477")
    sentence = "credential vmwatch_lines__home__pin: is set twice"
    assert objections(tmp_path, GOOD, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == [sentence]


def test_a_folder_of_credentials_that_is_not_there_is_refused(tmp_path: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "nowhere")}
    sentence = "environment variable CREDENTIALS_DIRECTORY: cannot be read: No such file or directory"
    assert objections(tmp_path, GOOD, environ) == [sentence]


PIN_IN_FILE = f'{CHANNEL}[lines.home]\nnumber = "+4571919998"\npin_file = "home.pin"\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"835", "must be 4 to 10 digits"),
        (b"8352\n\n", "must be 4 to 10 digits"),
        (b" 8352\n", "must be 4 to 10 digits"),
        (b"\n", "home.pin is empty"),
        (b"\xff8352", "home.pin is not UTF-8 text"),
        (b"8352" * 20_000, "home.pin is larger than 64 KiB"),
        (None, "home.pin cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "home.pin").write_bytes(content)
    assert objections(tmp_path, PIN_IN_FILE) == [f"config.toml:5: lines.home.pin_file: {words}"]


def test_a_directory_in_place_of_a_pin_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home.pin").mkdir()
    sentence = "config.toml:5: lines.home.pin_file: home.pin cannot be read: Is a directory"
    assert objections(tmp_path, PIN_IN_FILE) == [sentence]


@pytest.mark.parametrize("name", ["8352", "ntfys://hidden", "a\\u0000b"])
def test_what_can_be_no_file_is_not_repeated(tmp_path: Path, name: str) -> None:
    text = PIN_IN_FILE.replace("home.pin", name)
    (sentence,) = objections(tmp_path, text)
    assert sentence.startswith("config.toml:5: lines.home.pin_file: the file cannot be read: ")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff" + GOOD.encode(), "config.toml: is not UTF-8 text"),
        (GOOD.encode("utf-16"), "config.toml: is not UTF-8 text"),
        (GOOD.encode() + b"#" * (16 << 20), "config.toml: is larger than 16384 KiB"),
        (b"a = " + b"[" * 100_000, "config.toml: is nested too deeply"),
        (
            GOOD.replace("\n", "\r").encode(),
            "config.toml:1: is not valid TOML: Expected newline or end of document after a statement, at column 13",
        ),
    ],
    ids=["not UTF-8", "UTF-16", "too large", "too deep", "line ends of old"],
)
def test_a_file_that_is_no_toml_is_refused_in_a_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    assert objections(tmp_path, content) == [sentence]


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        config.load(tmp_path, {}, object_to_url)


def test_all_objections_of_one_run_come_together_by_line_and_then_by_source(tmp_path: Path) -> None:
    (tmp_path / "lines__work__pin").write_text("447")
    work = '[lines.work]\nnumber = "+4571919998"\n'
    text = f'{LINE}labell = "a"\n{work}[channels.mail]\nurl = "hidden"\n[polling]\njitter = 2\n'
    environ = {
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "VMWATCH_OPERATOR__TIMEOUT": "hidden",
        "VMWATCH_FOO": "hidden",
    }
    assert objections(tmp_path, text, environ) == [
        "config.toml:4: lines.home.labell: unknown key; did you mean label?",
        "config.toml:6: lines.work.number: is the number of lines.home too",
        "config.toml:8: channels.mail.url: is not a URL that Apprise understands",
        "config.toml:10: polling.jitter: must be at most 0.5",
        "environment variable VMWATCH_FOO: names no key",
        f"environment variable VMWATCH_OPERATOR__TIMEOUT: {DURATION}",
        "credential lines__work__pin: must be 4 to 10 digits",
    ]


def test_a_third_line_of_one_number_is_told_the_first(tmp_path: Path) -> None:
    more = "".join(f'[lines.{name}]\nnumber = "+4571919998"\npin = "8352"\n' for name in ("b", "a"))
    assert objections(tmp_path, GOOD + more) == [
        "config.toml:7: lines.b.number: is the number of lines.home too",
        "config.toml:10: lines.a.number: is the number of lines.home too",
    ]


def test_the_file_is_called_what_the_person_called_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.toml").write_text(CHANNEL)
    with pytest.raises(ConfigError) as caught:
        config.load(Path("my.toml"), {}, object_to_url)
    assert caught.value.objections == (f"my.toml:1: {NO_LINE}",)


def test_a_table_that_is_refused_is_not_called_missing_as_well(tmp_path: Path) -> None:
    assert objections(tmp_path, f"lines = 5\n{CHANNEL}") == ["config.toml:1: lines: must be a table"]


def test_a_value_that_is_overridden_may_be_anything_but_its_table_may_not(tmp_path: Path) -> None:
    environ = {"VMWATCH_POLLING__INTERVAL": "1m"}
    assert objections(tmp_path, f"polling = 5\n{GOOD}", environ) == ["config.toml:1: polling: must be a table"]


def test_no_secret_stands_in_pydantics_own_refusal() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"lines": {"home": {"number": "hidden", "pin": 8352}}})
    assert "8352" not in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_no_secret_stands_in_a_refusal_or_in_what_led_to_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "config.toml"
    file.write_text(GOOD + 'x = "hidden"\n[operator]\ntimeout = "hidden"\n')
    with pytest.raises(ConfigError) as caught:
        config.load(file, {"VMWATCH_LINES__HOME__PIN": "4477a"}, object_to_url)
    links = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert not [link for link in links for secret in ("8352", "4477", "hidden") if secret in repr(link)]
    assert links[1:] == [None, None]
    assert "hidden" not in caplog.text


def in_contacts(line: str) -> str:
    return f"{GOOD}[contacts]\n{line}\n"


def in_carddav(*lines: str) -> str:
    return "\n".join((f"{GOOD}[contacts.carddav]", *lines, ""))


DAV = 'url = "https://dav.example.com/me/"'
LOGIN = 'user = "me"\npassword = "hidden"'
DAV_HTTPS = "must be https, for the password travels with it (http only for 127.0.0.1, ::1 or localhost)"
DAV_URL = 'must be an address book\'s URL, like "https://cloud.example.com/dav/addressbooks/me/contacts/"'
REGION = 'must be a country in two letters, like "DK"'
BOTH = "set both user and password (or password_file), or neither"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (in_contacts('vcards = "a.vcf"'), "7: contacts.vcards: must be a list"),
        (in_contacts('vcards = [""]'), "7: contacts.vcards: entry 1: must be the name of a file, in quotes"),
        (in_contacts("vcards = [4]"), "7: contacts.vcards: entry 1: must be the name of a file, in quotes"),
        (in_contacts('vcard = ["a.vcf"]'), "7: contacts.vcard: unknown key; did you mean vcards?"),
        (
            in_contacts('default_region = "Denmark"'),
            '7: contacts.default_region: must be a country in two letters, like "DK"',
        ),
        (
            in_contacts('default_region = "XX"'),
            '7: contacts.default_region: must be a country in two letters, like "DK"',
        ),
        (in_contacts("default_region = 45"), '7: contacts.default_region: must be a country in two letters, like "DK"'),
        (in_contacts("carddav = 4"), "7: contacts.carddav: must be a table"),
        (in_carddav('url = "http://dav.example.com/me/"'), f"7: contacts.carddav.url: {DAV_HTTPS}"),
        (in_carddav('url = "ftp://dav.example.com/"'), f"7: contacts.carddav.url: {DAV_URL}"),
        (in_carddav('url = "dav.example.com"'), f"7: contacts.carddav.url: {DAV_URL}"),
        (
            in_carddav('url = "https://me:hidden@dav.example.com/"'),
            "7: contacts.carddav.url: must not have a user name or a password: set user and password",
        ),
        (
            in_carddav('url = "https://dav.example.com/?a=b"'),
            "7: contacts.carddav.url: must not have a query or a fragment",
        ),
        (in_carddav(LOGIN), "6: contacts.carddav: url is missing: set the address book's URL"),
        (in_carddav(DAV, 'user = "me"'), f"6: contacts.carddav: {BOTH}"),
        (in_carddav(DAV, 'password = "hidden"'), f"6: contacts.carddav: {BOTH}"),
        (in_carddav(DAV, LOGIN.replace("me", "m:e")), '6: contacts.carddav: user must not have a ":"'),
        (in_carddav(DAV, LOGIN, 'interval = "59s"'), '10: contacts.carddav.interval: must be at least "1m"'),
        (
            in_carddav(DAV, LOGIN, 'password_file = "p"'),
            "10: contacts.carddav.password_file: set either password or password_file, not both",
        ),
        (
            in_carddav(DAV, 'user = "me"', 'password_file = "gone"'),
            "9: contacts.carddav.password_file: gone cannot be read: No such file or directory",
        ),
    ],
)
def test_what_is_wrong_with_the_contacts(tmp_path: Path, text: str, sentence: str) -> None:
    assert objections(tmp_path, text) == [f"config.toml:{sentence}"]


NO_VCARD = "has no vCard in it: export the address book as vCard (.vcf)"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", NO_VCARD),
        (b"Name,Phone\nMette,20305071\n", NO_VCARD),
        (
            b"<?xml version='1.0'?><phonebooks><phonebook/></phonebooks>",
            "is a FRITZ!Box phonebook and no vCard: bring it into an address book that exports vCards",
        ),
        (None, "does not exist"),
    ],
)
def test_a_file_without_contacts_is_refused_in_a_sentence(tmp_path: Path, content: bytes | None, words: str) -> None:
    (tmp_path / "good.vcf").write_text("BEGIN:VCARD\nEND:VCARD\n")
    if content is not None:
        (tmp_path / "bad.vcf").write_bytes(content)
    text = in_contacts('vcards = ["good.vcf", "bad.vcf"]')
    assert objections(tmp_path, text) == [f"config.toml:7: contacts.vcards: entry 2: bad.vcf {words}"]


def test_a_folder_or_a_pipe_in_place_of_contacts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.vcf").mkdir()
    os.mkfifo(tmp_path / "pipe.vcf")
    text = in_contacts('vcards = ["folder.vcf", "pipe.vcf"]')
    sentences = [
        f"config.toml:7: contacts.vcards: entry {n}: {name}.vcf is no file" for n, name in ((1, "folder"), (2, "pipe"))
    ]
    assert objections(tmp_path, text) == sentences


def in_channel(line: str) -> str:
    return f"{LINE}{CHANNEL}{line}\n"


def in_callers(*tables: str) -> str:
    """Each group has its own line 7, 9, …, and its keys in the line after."""
    return GOOD + "".join(f"[callers.g{place}]\n{table}\n" for place, table in enumerate(tables, 1))


CALLERS = 'must be a number like "+4571919998", a beginning like "+4570*", "withheld" or "unknown"'
ORDER = 'must be in order: first waits such as "30m", "2h", then times such as "next 08:00"'
ONLY_ONE = "callers.g1 has it too: who is in the contacts can belong to one group only"
NO_CONTACTS = "there are no contacts: set contacts.vcards or contacts.carddav.url"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (in_channel('quiet = "22:00-07:00"'), "6: channels.phone.quiet: must be a list"),
        (in_channel("quiet = [7]"), '6: channels.phone.quiet: entry 1: must be text such as "22:00-07:00"'),
        (
            in_channel('quiet = ["22:00-07:00", "at night"]'),
            '6: channels.phone.quiet: entry 2: must be a time such as "22:00-07:00" or "sat,sun 00:00-10:00"',
        ),
        (
            in_channel('quiet = ["22:00-25:00"]'),
            '6: channels.phone.quiet: entry 1: must have times such as "08:00", from "00:00" to "24:00"',
        ),
        (
            in_channel('quiet = ["00:00-12:00", "12:00-24:00"]'),
            "6: channels.phone.quiet: covers the whole week: no alert would ever be sent",
        ),
        (in_line('remind = ["soon"]'), f"6: lines.home.remind: entry 1: {DURATION}"),
        (in_line('remind = ["30s"]'), '6: lines.home.remind: entry 1: must be at least "1m"'),
        (
            in_line('remind = ["next noon"]'),
            '6: lines.home.remind: entry 1: must have times such as "08:00", from "00:00" to "24:00"',
        ),
        (in_line('remind = ["2h", "30m"]'), f"6: lines.home.remind: {ORDER}"),
        (in_line('remind = ["2h", "2h"]'), f"6: lines.home.remind: {ORDER}"),
        (in_line('remind = ["next 08:00", "2h"]'), f"6: lines.home.remind: {ORDER}"),
        (in_line('escalate = [{ after = "1h" }]'), "6: lines.home.escalate.channels: entry 1: is missing"),
        (
            in_line('escalate = [{ after = "1h", channels = [] }]'),
            "6: lines.home.escalate.channels: entry 1: must not be empty",
        ),
        (
            in_line('escalate = [{ after = 1, channels = ["phone"] }]'),
            '6: lines.home.escalate.after: entry 1: must be at least "1m"',
        ),
        (
            in_line('escalate = [{ after = "1h", channels = ["phoen"] }]'),
            "6: lines.home.escalate: there is no channel phoen; did you mean phone?",
        ),
        (in_callers("mute = true"), "6: callers.g1: has no callers: set numbers, or in_contacts = true"),
        (in_callers('numbers = ["+4570*"]\nmute = true\nurgent = true'), "6: callers.g1: set mute or urgent, not both"),
        (in_callers('numbers = ["70*"]'), f"7: callers.g1.numbers: entry 1: {CALLERS}"),
        (in_callers('numbers = ["withheld", 7]'), f"7: callers.g1.numbers: entry 2: {CALLERS}"),
        (in_callers('numbers = ["+45*70"]'), f"7: callers.g1.numbers: entry 1: {E164}"),
        (in_callers('numbers = ["+451"]'), f"7: callers.g1.numbers: entry 1: {E164}"),
        (in_callers('numbers = ["+4570*"]\nmin_length = "long"'), f"8: callers.g1.min_length: {DURATION}"),
        (
            in_callers('numbers = ["+4570*"]\nchannels = ["mail"]'),
            "8: callers.g1.channels: there is no channel mail",
        ),
        (
            in_callers('numbers = ["+4570*", "withheld"]', 'numbers = ["unknown", "withheld"]'),
            "9: callers.g2.numbers: entry 2: belongs to callers.g1 too",
        ),
        (in_callers("in_contacts = true"), f"7: callers.g1.in_contacts: {NO_CONTACTS}"),
    ],
)
def test_what_is_wrong_with_quiet_hours_reminders_and_groups(tmp_path: Path, text: str, sentence: str) -> None:
    assert objections(tmp_path, text) == [f"config.toml:{sentence}"]


@pytest.mark.parametrize("yes", ["true", "1", '"on"'])
def test_only_one_group_can_have_who_is_in_the_contacts(tmp_path: Path, yes: str) -> None:
    (tmp_path / "a.vcf").write_text("BEGIN:VCARD\nEND:VCARD\n")
    text = in_callers("in_contacts = true", f"in_contacts = {yes}") + '[contacts]\nvcards = ["a.vcf"]\n'
    assert objections(tmp_path, text) == [f"config.toml:9: callers.g2.in_contacts: {ONLY_ONE}"]
