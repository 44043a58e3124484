"""The second line of defence, with the first one broken on purpose: whatever form a secret is told in, it is found."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from canaries import Canaries, Evidence

from vmwatch.links import path
from vmwatch.logs import Format, set_up, visible
from vmwatch.models import HOUR, Act
from vmwatch.redaction import SECRET, Redaction

BIRDS = Canaries()
PIN = BIRDS.pin("home")
USER, PASSWORD, TOPIC = BIRDS.token("user"), BIRDS.token("password"), BIRDS.token("topic")
HEADER, BOT = BIRDS.token("header"), BIRDS.token("bot")
NTFY = f"ntfys://{USER}:p%40{PASSWORD}@ntfy.example.com/{TOPIC}?+X-Token={HEADER}&format=markdown"
TELEGRAM = f"tgram://123456789:{BOT}/42"
URL = f"https://operator.example.com/mvno/voicemail/+4571919998/{PIN}?box=NEW"


def redaction() -> Redaction:
    return Redaction([PIN, NTFY, TELEGRAM], ["home", "phone"])


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def percent(text: str) -> str:
    return "".join(f"%{ord(character):02X}" for character in text)


LINK = f"https://vm.example.com{path(Act.ACK, '+4571919998', '65a1b2c3d4e5f60718293a4b', HOUR, b'key')}"
TOLD = {
    "the operator's address": URL,
    "the operator's address, quoted": quote(URL, safe=""),
    "the operator's address, quoted twice": quote(quote(URL, safe=""), safe=""),
    "the operator's path in bytes": repr(f"GET /mvno/voicemail/+4571919998/{PIN}?box=NEW HTTP/1.1\r\n".encode()),
    "a PIN": PIN,
    "a PIN behind a word": f"pin{PIN}",
    "a PIN in percents": percent(PIN),
    "a PIN in a repr": repr({"pin": PIN, "x": [PIN]}),
    "a PIN in JSON": json.dumps({"pin": f"\n{PIN}"}),
    "a PIN in base64": encoded(PIN),
    "a login in base64": f"Authorization: Basic {encoded(f'+4571919998:{PIN}')}",
    "a PIN in the middle of base64": encoded(f"the pin is {PIN}, is it?"),
    "a channel's URL": NTFY,
    "a channel's URL, quoted": quote(NTFY, safe=""),
    "a channel's URL in base64": encoded(NTFY),
    "what a service is really sent": f"https://ntfy.example.com/{TOPIC}?x=1",
    "a token behind a service's own word": f"https://api.telegram.org/bot123456789:{BOT}/sendMessage",
    "a user and a password": f"{USER}, p@{PASSWORD}",
    "a password, quoted": f"p%40{PASSWORD}",
    "a password in a repr": repr(f"\0p@{PASSWORD}"),
    "a login of a channel in base64": f"Basic {encoded(f'{USER}:p@{PASSWORD}')}",
    "a header's value": f"X-Token: {HEADER}",
    "escapes of JSON": json.dumps(f"{TOPIC}/{PIN}").replace(PIN[0], f"\\u{ord(PIN[0]):04x}"),
    "a link of an alert": f"Acknowledge: {LINK}",
    "a link of an alert in a request": repr(f"POST {LINK.removeprefix('https://vm.example.com')} HTTP/1.1".encode()),
    "a link of an alert, quoted": quote(f"view, Snooze 1 h, {LINK.replace('/ack/', '/snooze/')}", safe=""),
    "several lines": f"GET\n  {URL}\n\n{TOPIC}\r\n{BOT}",
}


def hidden(told: str) -> None:
    evidence = Evidence(BIRDS)
    evidence.keep("the text", told)
    evidence.clean()
    assert SECRET in told


@pytest.mark.parametrize("told", TOLD.values(), ids=TOLD)
def test_a_secret_is_found_in_every_form(told: str) -> None:
    assert BIRDS.found_in(told.encode()) != []
    hidden(redaction()(told))


@pytest.mark.parametrize(
    "text",
    [
        "home: ok -> failing, timeout (no answer in 20 s)",
        "channel phone: voicemail.new sent, attempt 1",
        "+4571919998 in 43 s, HTTP 422 pin, format=markdown",
        "https://operator.example.com/mvno/voicemail",
        "C:\\folder\\file 100%25 %zz \\u00",
        "deadbeefdeadbeefdeadbeef TIiajkdnlazkcOXrIdevi7 12345678901234567890BBBB",
        "",
    ],
)
def test_what_is_no_secret_is_left_as_it_is(text: str) -> None:
    assert redaction()(text) == text


@pytest.mark.parametrize("kept", [5, 20, 53, 60])
def test_of_a_link_that_was_cut_nothing_is_left_that_could_be_guessed_on(kept: int) -> None:
    cut = LINK[: -len(LINK.partition("/ack/")[2]) + kept + 10]
    assert redaction()(f"asked for {cut}") == f"asked for https://vm.example.com/ack/{SECRET}"
    assert redaction()("https://vm.example.com/ack/sample") == "https://vm.example.com/ack/sample"


def test_the_words_of_the_house_and_names_stay_readable_even_where_a_url_has_them() -> None:
    redact = Redaction(["json://hook.example.com/voicemail/office/phones?method=rejected"], ["office"])
    assert redact("office: rejected, voicemail.new") == "office: rejected, voicemail.new"
    assert redact("phones") == SECRET


def test_a_short_pin_takes_nothing_out_of_words_and_numbers() -> None:
    assert Redaction(["0735"])("a0735b +4507359998 10735 0735") == f"a0735b +4507359998 10735 {SECRET}"


def test_ten_thousand_pins_are_searched_for_at_once() -> None:
    redact = Redaction(f"{number:04}" for number in range(10_000))
    assert redact("1234 12345 of 2468") == f"{SECRET} 12345 of {SECRET}"


@pytest.fixture
def log_to() -> Iterator[Callable[[Format], io.StringIO]]:
    """Sets the real logging up on a standard error of our own, and puts all back."""
    root, ours, stderr = logging.getLogger(), logging.getLogger("vmwatch"), sys.stderr
    handlers, levels = root.handlers[:], (root.level, ours.level)

    def start(form: Format) -> io.StringIO:
        for handler in handlers:
            root.removeHandler(handler)
        sys.stderr = io.StringIO()
        set_up(redaction(), form, "debug")
        return sys.stderr

    yield start
    sys.stderr = stderr
    root.handlers[:] = handlers
    for logger, level in zip((root, ours), levels, strict=True):
        logger.setLevel(level)


def _raised(text: str) -> Exception:
    error = ExceptionGroup(f"two {text}", [OSError(2, text), KeyError(text)])
    error.add_note(f"seen at {text}")
    error.__cause__ = ValueError(text)
    return error


LOGGED: dict[str, Callable[[logging.Logger, str], None]] = {
    "as an argument": lambda log, text: log.info("asking %s", text),
    "as a repr": lambda log, text: log.info("asking %r", [text]),
    "as bytes": lambda log, text: log.info("asking %r", text.encode()),
    "as the message": lambda log, text: log.debug(text),
    "as an exception": lambda log, text: log.warning("it broke", exc_info=_raised(text)),
    "as extra facts": lambda log, text: log.info("home", extra={"line": text, "channel": text, "reason": text}),
    "as an object among extra facts": lambda log, text: log.info("home", extra={"line": {text: [text.encode()]}}),
    "as a stack": lambda log, text: log.info(text, stack_info=True),
    "in an entry that can't be written": lambda log, text: log.info("asking %d", text),
    "through asyncio": lambda _, text: _unheard(text),
}


def _unheard(text: str) -> None:
    loop = asyncio.new_event_loop()
    loop.call_exception_handler({"message": text, "exception": _raised(text), "url": text})
    loop.close()


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("logged", LOGGED.values(), ids=LOGGED)
def test_a_secret_that_is_logged_by_mistake_does_not_come_out(
    logged: Callable[[logging.Logger, str], None], form: Format, log_to: Callable[[Format], io.StringIO]
) -> None:
    stream = log_to(form)
    for text in TOLD.values():
        logged(logging.getLogger("vmwatch.test"), text)
    evidence = Evidence(BIRDS)
    evidence.keep("the log", stream.getvalue())
    evidence.clean()
    assert len(stream.getvalue().splitlines()) >= len(TOLD)


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_entry_that_cannot_be_written_is_told_by_its_place(
    form: Format, log_to: Callable[[Format], io.StringIO]
) -> None:
    stream = log_to(form)
    logging.getLogger("vmwatch.test").info("asking %d", PIN)
    assert stream.getvalue().startswith("an entry of the log could not be written (TypeError, ")


FORGED = "Eve\n2026-01-01 00:00:00 info    home: ok\r\x1b[2J\u202e\x9b31m\u2028\ud800"


def test_no_text_forges_an_entry_or_moves_the_cursor(log_to: Callable[[Format], io.StringIO]) -> None:
    stream = log_to("text")
    logging.getLogger("vmwatch.test").info("from %s", FORGED)
    first, second = stream.getvalue().splitlines()
    assert first.endswith(" info    from Eve")
    assert second == r"    2026-01-01 00:00:00 info    home: ok\u000d\u001b[2J\u202e\u009b31m\u2028\ud800"


def test_a_json_entry_is_one_line_that_says_the_same(log_to: Callable[[Format], io.StringIO]) -> None:
    stream = log_to("json")
    logging.getLogger("vmwatch.test").info("from %s", FORGED)
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    assert json.loads(line)["message"] == f"from {FORGED}"


@pytest.mark.parametrize("text", ["Søren 🦆\n\tJörg", "plain"])
def test_what_is_visible_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize("name", ["asyncio", "aiosqlite", "aiohttp.client", "tzlocal", "anything.new"])
def test_libraries_say_nothing_below_a_warning_whatever_our_level(
    name: str, log_to: Callable[[Format], io.StringIO]
) -> None:
    stream = log_to("text")
    logging.getLogger(name).info("chatter")
    logging.getLogger("vmwatch.test").debug("ours")
    assert stream.getvalue().endswith(" debug   ours\n")
    assert "chatter" not in stream.getvalue()


# ---- what nobody caught, each in a process of its own ----

CRASHES = {
    "the main thread": "raise RuntimeError(told)",
    "another thread": """
import threading
def work(): raise RuntimeError(told)
thread = threading.Thread(target=work); thread.start(); thread.join()""",
    "a finalizer": """
class Thing:
    def __del__(self): raise RuntimeError(told)
del_me = Thing(); del del_me""",
    "a task that nobody awaits": """
import asyncio, gc
async def work(): raise RuntimeError(told)
async def main():
    task = asyncio.create_task(work(), name=told); await asyncio.sleep(0); del task; gc.collect()
asyncio.run(main(), debug=True)""",
    "a warning": "import warnings; warnings.warn(told, RuntimeWarning)",
}
PREPARED = """
import sys
from vmwatch import logs
told = sys.stdin.read()
logs.catch_crashes()
"""
WITH_LOG = 'logs.set_up(logs.Redaction(told.split("|")), sys.argv[1])\n'


def crashed(code: str, form: Format = "text") -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", "-c", PREPARED + code, form],
        input=f"{PIN}|{NTFY}|{TELEGRAM}",
        capture_output=True,
        text=True,
        timeout=30,
        cwd=Path(__file__).parent.parent,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("crash", CRASHES.values(), ids=CRASHES)
def test_what_nobody_caught_goes_through_the_redaction(crash: str, form: Format) -> None:
    hidden(crashed(WITH_LOG + crash, form))


@pytest.mark.parametrize("crash", list(CRASHES.values())[:3], ids=list(CRASHES)[:3])
def test_a_crash_before_any_secret_is_known_tells_where_but_not_what(crash: str) -> None:
    told = crashed(crash)
    assert "RuntimeError" in told
    assert "line" in told
    assert not BIRDS.found_in(told.encode())


def test_ctrl_c_is_no_crash() -> None:
    assert crashed(WITH_LOG + "raise KeyboardInterrupt(told)") == ""
