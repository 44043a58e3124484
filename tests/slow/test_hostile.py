"""A hostile operator, and hostile callers: whatever is answered, the reader says a mailbox or a Trouble, soon and in
little room; whatever a caller is called, it arrives short and does nothing.

The figures (`pytest -s` shows them) are of a seeded mutation fuzzer in plain Python: VMWATCH_TEST_FUZZ sets how many
answers it reads, VMWATCH_TEST_SEED repeats a run. atheris was left out: its coverage guides through C-like parsers,
while the parsing here is json's, and it would add a compiler to what the tests need.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import pty
import random
import re
import select
import subprocess
import sys
import time
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import apprise
import markdown  # type: ignore[import-untyped] # Apprise's own, without types
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from receivers import MailServer, Webhook
from world import World, until, world_in

from vmwatch import reading, wording
from vmwatch.channels import asset, attempt, harmless, prepare
from vmwatch.errors import Trouble
from vmwatch.models import MINUTE, SECOND, Alert, Box, Kind, Mailbox, Voicemail
from vmwatch.reading import LONGEST_ID, LONGEST_TEXT, LONGEST_WAIT, MOST_MESSAGES
from vmwatch.simulator import Simulator
from vmwatch.telecomx import MAX_BODY, Telecomx

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]

ANSWERS = int(os.environ.get("VMWATCH_TEST_FUZZ", "1000000"))
SEED = int(os.environ.get("VMWATCH_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
LONGEST_CALL_S = 0.050
MOST_MEMORY = 32 * 10**6
"""Bytes."""
LARGEST_FUZZED = 2**16
"""Bytes of a fuzzed answer; answers up to the cap have a test of their own."""
NOW = 1_704_067_200_000

# ---- the reader: what holds of every answer ----


def read(body: bytes) -> Mailbox | Trouble:
    try:
        return reading.mailbox(body)
    except Trouble as trouble:
        return trouble


def refused(status: int, body: bytes, retry_after: str | None) -> Trouble:
    return reading.refusal(status, body, retry_after, NOW)


def sound(found: Mailbox | Trouble) -> None:
    """What everything above the reader relies on."""
    if isinstance(found, Trouble):
        assert found.detail.isprintable()
        assert len(found.detail) < LONGEST_TEXT
        assert found.wait is None or 0 <= found.wait <= LONGEST_WAIT
        return
    assert len({message.id for message in found.messages}) == len(found.messages)
    for message in found.messages:
        sound_message(message)


def sound_message(message: Voicemail) -> None:
    assert 0 < len(message.id) <= LONGEST_ID
    for text in (message.caller, message.caller_name, message.called, message.box):
        assert text is None or (0 < len(text) <= LONGEST_TEXT and harmless_line(text)), ascii(text)
    for identifier in (message.id, message.call_id, message.voice_account, message.customer):
        assert identifier is None or "\0" not in identifier.encode().decode()
    assert message.length is None or 0 <= message.length < 2**53
    told = wording.text(Alert(Kind.VOICEMAIL_NEW, ("phone",), voicemails=(message,), count=1), UTC)
    assert len(told.title) + len(told.body) < 6 * LONGEST_TEXT
    assert "\n" not in told.title


def harmless_line(text: str) -> bool:
    """No line break, no control, no direction mark, nothing that can't be encoded."""
    return not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text) and not any(
        character in "\u200b\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
        for character in text
    )


ODD_TEXT = st.text(max_size=300) | st.text(
    st.sampled_from("\0\x1b\r\n\u202e\u2028\ud800\u200b\u0301🦆a<>&*_[](){}$%`|~#@:/\\\"'+-=0"), max_size=60
)
ODD_NUMBER = st.integers() | st.floats() | st.integers(min_value=2**50, max_value=10**400)
DATES = st.datetimes().map(lambda date: f"{date.isoformat()}Z") | st.sampled_from(
    ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2024-02-30", "2024-W01-1", "T", "2024-01-01T24:00:00Z"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | ODD_NUMBER | ODD_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD_TEXT, inner, max_size=4),
    max_leaves=8,
)
FIELDS: dict[str, Any] = {
    "_id": st.from_regex(r"[0-9a-f]{24}", fullmatch=True) | ODD_TEXT,
    "voiceAccount": ODD_TEXT,
    "customer": ODD_TEXT,
    "from": st.from_regex(r"\+[0-9]{5,15}", fullmatch=True) | ODD_TEXT,
    "fromName": ODD_TEXT,
    "to": ODD_TEXT,
    "callId": ODD_TEXT,
    "date": DATES | ODD_TEXT,
    "length": ODD_NUMBER,
    "box": st.sampled_from(["INBOX", "SAVED"]) | ODD_TEXT,
    "played": st.booleans(),
}
ENTRY = st.fixed_dictionaries({}, optional={name: field | ANYTHING for name, field in FIELDS.items()})
COUNTS = dict.fromkeys(("newCount", "oldCount", "savedCount"), ODD_NUMBER | ANYTHING)
ANSWER = st.fixed_dictionaries(
    {}, optional={**COUNTS, "voicemails": st.lists(ENTRY | ANYTHING, max_size=6) | ANYTHING}
).map(lambda answer: json.dumps(answer, allow_nan=True).encode("utf-8", "surrogatepass"))
ERROR = st.fixed_dictionaries({}, optional=dict.fromkeys(("message", "code", "status", "path"), ANYTHING))
REFUSAL = st.fixed_dictionaries({}, optional={"error": ERROR | ANYTHING, "errors": st.lists(ERROR) | ANYTHING}).map(
    lambda answer: json.dumps(answer).encode()
)
THOROUGH = settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))


@THOROUGH
@given(ANSWER | st.binary())
def test_every_answer_of_the_documented_shape_and_beside_it_is_read_or_refused(body: bytes) -> None:
    sound(read(body))


@THOROUGH
@given(st.integers(100, 599), REFUSAL | st.binary(), st.none() | st.text() | ODD_TEXT)
def test_every_refusal_is_a_trouble(status: int, body: bytes, retry_after: str | None) -> None:
    sound(refused(status, body, retry_after))


# ---- a million answers ----


def honest() -> bytes:
    message = {
        "_id": "12345678901234567890BBBB",
        "voiceAccount": "123457890123457890AAAA",
        "customer": "12345678901234567890ABCD",
        "from": "+4599778822",
        "fromName": "Donald Duck",
        "to": "+4571919998",
        "callId": "cu3848vi34jf03hf9ejhfnihw3ihfnnefu93h9r9tg",
        "date": "2024-01-01T00:00:00.000Z",
        "length": 37,
        "box": "INBOX",
        "played": False,
    }
    others = [message | {"_id": f"{place:024x}", "fromName": "Åse Kjær 🦆"} for place in range(2)]
    return json.dumps({"newCount": 3, "oldCount": 0, "savedCount": 10, "voicemails": [message, *others]}).encode()


SEEDS = (
    honest(),
    b'{"newCount": 0, "voicemails": []}',
    b'{"error": {"message": "Pin code is invalid", "code": "pin", "status": 422}}',
    b'{"errors": [{"message": "Not found", "code": "id"}, "IP address is blacklisted"]}',
    honest().decode().encode("utf-16"),
    b'"pin"',
)
WAITS = (None, "120", "-1", "9" * 40, "Mon, 01 Jan 2024 00:02:00 GMT", "Mon, 01 Jan 2024 00:00:00 +99999999999999")
TOKENS = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"1E400"),
    *(b"\\u0000", b"\\ud800", b"\\udfff\\ud800", b"\\u202e", b"\xed\xa0\x80", b"\xff\xfe", b"\0", b"\x1b[2J", b"\r\n"),
    *(
        "🦆".encode(),
        "\u202e".encode(),
        "\ufeff".encode(),
        "\u0301".encode() * 50,
        b'"_id":',
        b'"voicemails":',
        b"9" * 30,
    ),
    *(b'"date":"9999-12-31T23:59:59-23:59"', b'"fromName":"' + b"x" * 5000, b"[" * 3000, b'{"a":' * 500, b"9" * 4301),
)


ODD_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        37.5,
        2**53,
        10**400,
        float("nan"),
        float("inf"),
        "",
        " ",
        "a",
        [],
        {},
        [[]],
        {"_id": "b"},
    ),
    *(
        "\0",
        "\ud800",
        "\u202e",
        "\u2028",
        "\x1b[2J",
        "\u0301" * 400,
        "🦆" * 300,
        "x" * 20_000,
        "\r\nBcc: x",
        "%s{0}${x}",
    ),
    *("2024-02-30T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2024-01-01T00:00:00.1234567Z"),
    *("+4599778822", "anonymous", "INBOX", ["a", 1, None], {"a": {"b": {"c": []}}}),
)
NAMES_OF_FIELDS = ("_id", "fromName", "from", "to", "callId", "date", "length", "box", "played", "voiceAccount", "odd")
MESSAGE = json.loads(honest())["voicemails"][0]


def answered(rng: random.Random) -> bytes:
    """An answer of the documented shape, or so, with odd values in it."""
    entries: list[Any] = []
    for place in range(rng.randrange(4)):
        entry = dict(MESSAGE, _id=f"{place}")
        for _ in range(rng.randrange(4)):
            entry[rng.choice(NAMES_OF_FIELDS)] = rng.choice(ODD_VALUES)
        entries.append(entry if rng.random() < 0.9 else rng.choice(ODD_VALUES))
    answer = {"newCount": len(entries), "oldCount": rng.choice(ODD_VALUES), "voicemails": entries}
    if rng.random() < 0.1:
        answer[rng.choice(("newCount", "voicemails"))] = rng.choice(ODD_VALUES)
    return json.dumps(answer).encode()


def mutated(rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return answered(rng)
    body = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randrange(1, 5)):
        _MUTATIONS[rng.randrange(len(_MUTATIONS))](body, rng)
    return bytes(body[:LARGEST_FUZZED])


def _flip(body: bytearray, rng: random.Random) -> None:
    if body:
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)


def _insert(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body) + 1)
    body[at:at] = rng.choice(TOKENS)


def _replace(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body) + 1)
    body[at : at + rng.randrange(1, 30)] = rng.choice(TOKENS)


def _drop(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body) + 1)
    del body[at : at + rng.randrange(1, 60)]


def _double(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body) + 1)
    piece = bytes(body[at : at + rng.randrange(1, 200)])
    body[at:at] = piece * rng.randrange(1, 20)


def _swap(body: bytearray, rng: random.Random) -> None:
    here, there = rng.randrange(len(body) + 1), rng.randrange(len(body) + 1)
    body[here : here + 20], body[there : there + 20] = body[there : there + 20], body[here : here + 20]


def _cut(body: bytearray, rng: random.Random) -> None:
    del body[rng.randrange(len(body) + 1) :]


_MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flip, _flip, _insert, _insert, _replace, _replace),
    *(_drop, _double, _swap, _cut),
)


class Figures(NamedTuple):
    answers: int
    mailboxes: int
    longest_s: float
    memory: int


def fuzz(task: tuple[int, int]) -> Figures:
    """Reads so many mutated answers, each as a mailbox or as a refusal, in a process of its own."""
    seed, count = task
    rng = random.Random(seed)
    mailboxes, longest = 0, 0.0
    read(honest())
    gc.freeze()  # else a collection now and then walks through all that pytest has imported
    before = most_memory(anew=True)
    for place in range(count):
        body = mutated(rng)
        call = _a_call(rng, body)
        began = time.thread_time()
        found = call()
        took = time.thread_time() - began
        longest = max(longest, took if took < LONGEST_CALL_S else again(call))
        mailboxes += isinstance(found, Mailbox)
        if place % 50 == 0:
            sound(found)
    return Figures(count, mailboxes, longest, most_memory() - before)


def most_memory(anew: bool = False) -> int:
    """The most memory that this process ever had, in bytes; `anew`: from now on."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _a_call(rng: random.Random, body: bytes) -> Callable[[], Mailbox | Trouble]:
    if rng.random() < 0.8:
        return lambda: read(body)
    status, wait = rng.choice((403, 404, 418, 422, 429, 500, 503)), rng.choice(WAITS)
    if wait and rng.random() < 0.5:
        at = rng.randrange(len(wait))
        wait = wait[:at] + chr(rng.randrange(1, 300)) + wait[at + rng.randrange(3) :]
    return lambda: refused(status, body, wait)


def again(call: Callable[[], object]) -> float:
    """The CPU time of a call at its best of three: what a noisy machine adds is not the reader's."""
    found = []
    for _ in range(3):
        began = time.thread_time()
        call()
        found.append(time.thread_time() - began)
    return min(found)


def test_a_million_answers_bring_no_exception_no_delay_and_no_great_memory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pieces = min(4, os.cpu_count() or 1)
    began = time.monotonic()
    tasks = [(SEED + place, ANSWERS // pieces) for place in range(pieces)]
    with get_context("spawn").Pool(pieces) as pool:
        found = pool.map(fuzz, tasks, chunksize=1)
    took = time.monotonic() - began
    answers, mailboxes = sum(one.answers for one in found), sum(one.mailboxes for one in found)
    longest, memory = max(one.longest_s for one in found), max(one.memory for one in found)
    with capsys.disabled():
        print(
            f"\n{answers} answers, seed {SEED}, {took:.0f} s: {mailboxes} mailboxes, the others Troubles; "
            f"longest call {longest * 1000:.1f} ms of CPU, at most {memory / 10**6:.1f} MB more memory"
        )
    assert answers == ANSWERS // pieces * pieces
    assert answers / 5 < mailboxes < answers
    assert longest < LONGEST_CALL_S
    assert memory < MOST_MEMORY


# ---- the largest answers ----


def filled(unit: bytes) -> bytes:
    """As large as an answer may be."""
    start, end = b'{"voicemails":[', b"0]}"
    return start + unit * ((MAX_BODY - len(start) - len(end)) // len(unit)) + end


def crowded(unit: bytes, marks: int) -> bytes:
    """With as many entries as the reader takes, each with so many commas and brackets."""
    return b'{"voicemails":[' + unit * (199_000 // marks) + b"0]}"


LARGE = {
    "brackets": filled(b"[],"),
    "objects": filled(b"{},"),
    "nested": filled(b'{"a":{}},'),
    "ids": filled(b'{"_id":1},'),
    "numbers": filled(b"1.5,"),
    "strings": filled(b'"ab",'),
    "opening brackets": b"[" * MAX_BODY,
    "blanks": filled(b" "),
    "one string": b'{"newCount":0,"x":"' + b"a" * (MAX_BODY - 30) + b'"}',
    "one number": b'{"newCount":' + b"9" * (MAX_BODY - 30) + b"}",
    "one name": b'{"voicemails":[{"_id":"a","fromName":"' + b"\xcc\x81\xcc\xa3" * (MAX_BODY // 4 - 50) + b'"}]}',
    "one id": b'{"voicemails":[{"_id":"' + b" " * (MAX_BODY - 50) + b'"}]}',
    "one escape": b'{"newCount":0,"x":"' + b"\\u00e6" * (MAX_BODY // 6 - 10) + b'"}',
    "no UTF-8": b"\xff" * MAX_BODY,
    "too many messages": b'{"voicemails":[' + b",".join(b'{"_id":"%d"}' % place for place in range(99_000)) + b"]}",
    "as many objects as are read": crowded(b"{},", 2),
    "as many numbers as are read": crowded(b"1.5,", 1),
}


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
def test_the_largest_answers_are_read_or_refused_in_bounded_room_and_time(body: bytes) -> None:
    """No 50 ms here: 10,000 honest messages take 0.2 s. What counts is that no answer costs seconds or 300 MB."""
    tracemalloc.start()
    try:
        sound(read(body))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * MOST_MEMORY
    assert again(lambda: read(body)) < 1.0
    assert again(lambda: refused(403, body, None)) < LONGEST_CALL_S


@pytest.mark.parametrize(("count", "enough"), [(10_000, True), (MOST_MESSAGES, True), (MOST_MESSAGES + 1, False)])
def test_a_mailbox_of_fifteen_thousand_messages_is_still_read(count: int, enough: bool) -> None:
    one = json.loads(honest())["voicemails"][0]
    entries = [one | {"_id": f"{place:024}", "fromName": "Duck, Donald"} for place in range(count)]
    found = read(json.dumps({"newCount": count, "voicemails": entries}).encode())
    if enough:
        assert isinstance(found, Mailbox)
        assert (len(found.messages), found.complete) == (count, True)
    else:
        assert isinstance(found, Trouble)
        assert found.detail == "the answer is too large"


def test_a_crowd_of_small_messages_is_refused_before_it_is_read() -> None:
    found = read(b'{"voicemails":[' + b",".join(b'{"_id":"%d"}' % place for place in range(MOST_MESSAGES + 1)) + b"]}")
    assert isinstance(found, Trouble)


# ---- what callers are called, from the operator to the channel ----

ESCAPES = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b31m \x00\x08\x7f"
NAMES = {
    "control characters": f"Eve {ESCAPES}",
    "right-to-left marks": "Eve \u202eevE\u202c \u2066\u200f\u061c",
    "a hundred kilobytes": "Eve " + "x" * 100_000,
    "HTML": "Eve <script>alert(1)</script><b>&amp;</b><img src=x onerror=alert(1)>",
    "Markdown": "Eve *b* _i_ `c` ~s~ [a](http://evil.example.com) ![i](http://evil.example.com/i.png) # h | t",
    "line breaks": "Eve\r\nBcc: eve@example.com\r\n\r\nLine: forged\u2028Line: forged\u2029\x85\x0b\x0c",
    "templates": "Eve {{7*7}} ${7*7} %s %d %(x)s {0} {x} #{7*7} <%= 7*7 %> {% raw %} \\x41 \\u0041",
    "rich markup": "Eve [red]x[/] [bold]y[/bold] [link=http://evil.example.com]z[/link] :pile_of_poo: [/]",
    "calls": "Eve @everyone @here <!channel> <@U123> (met)all(met) @all",
    "lists and headings": "- Eve",
    "a heading's line": "=====",
    "a numbered list": "1. Eve",
    "format arguments of logging": "Eve %(message)s %s %r %n",
}
AT_ONCE = 5
"""So many new messages are told one by one."""
NEVER = ("\x1b", "\x9b", "\0", "\u202e", "\u2066", "\u200f", "\u2028", "\u2029", "\x85", "\r")


async def listed(names: Any) -> tuple[Voicemail, ...]:
    """The messages of callers with these names, as a poll would have read them from the operator."""
    async with Simulator() as operator:
        operator.add_line("+4571919998", "1234")
        for name in names:
            operator.leave("+4571919998", name=name)
        async with Telecomx(operator.base_url, 10 * SECOND, 1, lambda: NOW) as client:
            return (await client.read("+4571919998", "1234", Box.NEW)).messages


def told(*voicemails: Voicemail) -> wording.Text:
    kind = Kind.VOICEMAIL_NEW if len(voicemails) == 1 else Kind.VOICEMAIL_SUMMARY
    return wording.text(Alert(kind, ("phone",), "Home", voicemails=voicemails, count=len(voicemails)), UTC)


async def leave_messages(world: World, names: Iterable[str] = NAMES.values()) -> None:
    for name in names:
        world.operator.leave(world.numbers["home"], name=name, callId=f"c{ESCAPES}")


async def test_hostile_names_reach_a_webhook_and_a_mailbox_as_short_lines(tmp_path: Path) -> None:
    async with Webhook() as hook, MailServer() as mail, world_in(tmp_path) as world:
        world.config["polling"]["first_poll"] = "each"
        world.channel("hook", hook.url)
        world.channel("mail", mail.url)
        world.line("home")
        for start in range(0, len(NAMES), AT_ONCE):
            await leave_messages(world, list(NAMES.values())[start : start + AT_ONCE])
            polled = await world.vmwatch("poll")
            assert polled.status == 0, polled.err
        alerts = [request.body for request in await hook.heard(len(NAMES))]
        letters = [letter.message for letter in await mail.heard(len(NAMES))]
    for alert in alerts:
        lines = alert["message"].split("\n")
        assert [line.partition(":")[0] for line in lines] == ["From", "Line", "Length", "Received", "Call back"]
        assert len(alert["title"]) + len(alert["message"]) < 4 * LONGEST_TEXT
        assert [mark for mark in NEVER if mark in alert["title"] + alert["message"]] == []
    for letter in letters:
        assert letter.get_all("To") == ["donald@example.com"]
        assert letter["Bcc"] is None
        assert "\n" not in letter["Subject"]
        assert len(letter.get_content().strip().splitlines()) == 5
    plain = {alert["title"] for alert in alerts}
    assert f"Voicemail from {NAMES['templates']}" in plain, "a template was filled in"
    assert f"Voicemail from {NAMES['HTML']}" in plain, "a webhook and a letter of text get the characters"
    assert {letter["Subject"] for letter in letters} == plain


SERVICES = {
    "slack": ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7", "webhook_url", "attachments"),
    "discord": ("discord://123/abc", "notify_url", "content"),
    "telegram": ("tgram://123456789:abcdefg_hijklmnop/42", "notify_url", "text"),
    "mattermost": ("mmost://127.0.0.1:{port}/token", "", "text"),
    "Google Chat": ("gchat://space/key/token", "notify_url", "text"),
    "Rocket.Chat": ("rocket://{token}@127.0.0.1:{port}/%23general", "", "text"),
    "ntfy with Markdown": ("ntfy://127.0.0.1:{port}/topic?format=markdown", "", "message"),
    "gotify with Markdown": ("gotify://127.0.0.1:{port}/token?format=markdown", "", "message"),
}
CALLS = ("@everyone", "@here", "<!channel", "<@U", "@all", "://evil", "<script", "<b>&", "<img")
MARKUP = ("*b*", "_i_", "`c`", "~s~", "[a](", "\n- ", "\n1. ", "\\(", "\\+", "\\.", "\\*")
HTML = ("telegram",)
"""Services that are sent HTML: there, Markdown is but characters."""


async def posted(hook: Webhook, url: str, address: str, text: wording.Text) -> Any:
    """What a service's plug-in posts, its address turned to this machine."""
    before = len(hook.record)
    token = f"{'a' * 24}/{'b' * 24}"
    plugin = apprise.Apprise.instantiate(url.format(port=hook.port, token=token), asset=asset())
    assert plugin is not None
    if address:
        setattr(plugin, address, hook.http)
    await asyncio.to_thread(attempt, plugin, text, MINUTE)
    return (await hook.heard(before + 1))[before].body


@pytest.mark.parametrize("service", SERVICES)
async def test_no_hostile_name_is_active_where_markup_is_drawn(service: str) -> None:
    prepare()
    url, address, key = SERVICES[service]
    voicemails = await listed(NAMES.values())
    async with Webhook() as hook:
        for text in (*map(told, voicemails), told(*voicemails)):
            found = (await posted(hook, url, address, text))[key]
            said = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False).replace("\\n", "\n")
            signs = CALLS if service in HTML else CALLS + MARKUP
            assert [sign for sign in (*signs, *NEVER[:-1]) if sign in said] == [], said
            assert not re.search(r"\n(=+|-+) *\n", said)
            assert "4599778822" in said or "+45 99 77 88 22" in said
            assert len(said) < 40 * LONGEST_TEXT


def test_nobody_is_called_in_the_way_of_one_service() -> None:
    plugin = apprise.Apprise.instantiate("kook://bottoken/1234567890", asset=asset())
    assert plugin is not None
    said = harmless(wording.Text(NAMES["calls"], NAMES["calls"]), plugin)
    assert "(met)" not in said.title + said.body


MARKDOWN = [key for key, (url, _, _) in SERVICES.items() if "Markdown" in key or key == "Rocket.Chat"]


@pytest.mark.parametrize("service", MARKDOWN)
async def test_markdown_says_our_own_words_as_they_are_and_ends_lines_where_they_end(service: str) -> None:
    prepare()
    url, address, key = SERVICES[service]
    text = wording.Text("Voicemail from Jens (work)", "From: Jens (work) - x+y = 1.5!\n+45 99 77 88 22, 0:37")
    async with Webhook() as hook:
        said = (await posted(hook, url, address, text))[key]
    assert said.endswith("From: Jens (work) - x+y = 1.5!  \n+45 99 77 88 22, 0:37")


def test_markdown_draws_nothing_of_what_callers_wrote() -> None:
    """By the Markdown reader that Apprise itself uses."""
    plugin = apprise.Apprise.instantiate("ntfy://127.0.0.1/topic?format=markdown", asset=asset())
    assert plugin is not None
    lines = [reading._text(name) or "" for name in NAMES.values()]
    said = harmless(wording.Text("title", "\n".join([*lines, "---", "+ x", "2) x", "&#42;x&#42; &lt;b&gt;"])), plugin)
    drawn = markdown.markdown(said.body, extensions=["markdown.extensions.tables"])
    tags = {piece.partition(">")[0].partition(" ")[0].strip("/") for piece in drawn.split("<")[1:]}
    assert tags == {"p", "br"}, drawn
    assert "&amp;\u200blt;b&amp;\u200bgt;" in drawn


# ---- what a terminal and a log get ----


def on_a_terminal(world: World, *arguments: str) -> str:
    """What a verb writes to a terminal of 200 columns that can do everything."""
    ours, its = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm-256color"}
    environment |= {"COLUMNS": "200", "COLORTERM": "truecolor", "TZ": "UTC"}
    with subprocess.Popen(
        [sys.executable, "-m", "vmwatch", *arguments], cwd=world.folder, env=environment, stdout=its, stderr=its
    ) as process:
        os.close(its)
        shown = b"".join(_shown(ours))
        process.wait(30)
    os.close(ours)
    return shown.decode()


def _shown(terminal: int) -> Iterator[bytes]:
    with contextlib.suppress(OSError):  # the other end was closed
        while select.select([terminal], [], [], 30)[0] and (piece := os.read(terminal, 65536)):
            yield piece


OUR_OWN = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[1A|\x1b\[2K|\r")
"""Colours, and what the line that says `polling …` needs to come and go."""


def without_colours(shown: str) -> str:
    return OUR_OWN.sub("", shown)


async def test_no_name_reaches_the_terminal_as_anything_but_characters(tmp_path: Path) -> None:
    async with Webhook() as hook, world_in(tmp_path) as world:
        world.channel("hook", hook.url)
        world.line("home")
        await leave_messages(world)
        await world.vmwatch("poll")
        shown = {}
        for verb in ("messages", "status", "outbox --all", "messages --json", "outbox --all --json", "poll --json"):
            shown[verb] = await asyncio.to_thread(on_a_terminal, world, *verb.split())
        as_json = (await world.vmwatch("messages", "--json")).json
    for text in map(without_colours, shown.values()):
        assert [mark for mark in NEVER if mark in text] == []
    assert "[red]x[/] [bold]y[/bold] [link=http" in shown["messages"]
    assert ":pile_of_poo:" in shown["messages"]
    assert "\x1b[31mx" not in shown["messages"]
    assert {message["call_id"] for message in as_json} == {None}  # it had a NUL in it
    assert len(without_colours(shown["messages"]).splitlines()) < len(NAMES) + 8


async def test_an_id_with_escapes_is_json_that_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    escapes = "c\x9b31m\u202e\x1b[2J\x7f\u2028"
    async with world_in(tmp_path) as world:
        world.channel("hook", "json://127.0.0.1:9/")
        world.operator.leave(world.line("home"), callId=escapes)
        await world.vmwatch("poll")
        shown = await asyncio.to_thread(on_a_terminal, world, "messages", "--json")
        (message,) = (await world.vmwatch("messages", "--json")).json
    assert message["call_id"] == escapes
    assert [mark for mark in (*NEVER, "\x7f") if mark in shown.replace("\r\n", "\n")] == []


async def test_no_name_forges_a_line_of_the_log(tmp_path: Path) -> None:
    async with Webhook() as hook, world_in(tmp_path) as world:
        world.channel("hook", hook.url)
        world.line("home")
        await leave_messages(world)
        async with world.running("run", "--log-level", "debug") as daemon:
            await until(daemon.has_said("voicemail.summary sent"))
            said = daemon.said()
    assert "Eve" not in said
    entries = [line for line in said.splitlines() if not line.startswith("warning: config.toml:")]
    assert [line for line in entries if not re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\S* (debug|info) ", line)] == []
    assert len(entries) > 2
