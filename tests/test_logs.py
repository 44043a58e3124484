"""The second line of defence: here the secrets are logged deliberately, and must not come out."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator

import pytest

from vmwatch.logs import SECRET, Format, Redaction, set_up

PIN = "0735"
URL = "ntfys://my-secret-topic"
PATH = "/mvno/voicemail/{number}/{pin}"


@pytest.fixture
def log_to() -> Iterator[Callable[[Format], io.StringIO]]:
    """Sets the real logging up on a standard error of our own, and puts all back."""
    root, stderr = logging.getLogger(), sys.stderr
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in ("", "vmwatch")}

    def start(form: Format) -> io.StringIO:
        for handler in handlers:
            root.removeHandler(handler)  # pytest's own, which `force` would close
        sys.stderr = io.StringIO()
        set_up(Redaction([PIN, URL]), form)
        return sys.stderr

    yield start
    sys.stderr = stderr
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


LEAKS = [
    f"the PIN is {PIN}",
    f"pin={PIN}",
    f"'{PIN}'",
    f"({PIN})",
    f'{{"pin":"{PIN}"}}',
    PIN,
    f"{PIN}\n{PIN}",
    f"GET /mvno/voicemail/+4571919998/{PIN}?box=NEW",
    f"GET /mvno/voicemail/%2B4571919998/{PIN}?box=NEW",
    f"GET /mvno/voicemail/%2b4571919998%2F{PIN}",
    f"https://operator.example.com/mvno/voicemail/+4571919998/{PIN}/pin",
    f"could not post to {URL}",
    f"<{URL}>,{URL}",
]


@pytest.mark.parametrize("text", LEAKS)
def test_a_secret_in_a_text_is_replaced(text: str) -> None:
    told = Redaction([PIN, URL])(text)
    assert PIN not in told
    assert "my-secret-topic" not in told
    assert SECRET in told


@pytest.mark.parametrize("number", ["+4571919998", "4571919998", "%2B4571919998"])
@pytest.mark.parametrize("slash", ["/", "%2F", "%2f"])
@pytest.mark.parametrize("pin", ["1234", "0123456789"])
def test_a_pin_behind_a_number_is_replaced_even_if_nobody_knows_it(number: str, slash: str, pin: str) -> None:
    assert Redaction()(f"{number}{slash}{pin}?box=NEW") == f"{number}{slash}{SECRET}?box=NEW"


@pytest.mark.parametrize(
    "text",
    [
        "+4507359998",
        "10735",
        "07351",
        "a0735b",
        "2026-11-23 10:00:00",
        "in 43 s",
        "HTTP 422 pin",
        "+4571919998 of Home",
    ],
)
def test_longer_numbers_and_harmless_texts_are_left_as_they_are(text: str) -> None:
    assert Redaction([PIN, URL])(text) == text


def test_the_longer_of_two_secrets_is_replaced_whole() -> None:
    assert Redaction(["json://h/a", "json://h/a/b"])("json://h/a/b") == SECRET


def test_old_secrets_stay_known_at_a_reload() -> None:
    redaction = Redaction(["1111"])
    redaction.add(["2222", ""])
    assert redaction("1111 2222 3333") == f"{SECRET} {SECRET} 3333"


def test_without_secrets_nothing_is_replaced() -> None:
    assert Redaction()("all is well: 1234") == "all is well: 1234"


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_comes_out_of_the_log(form: Format, log_to: Callable[[Format], io.StringIO]) -> None:
    stream = log_to(form)
    log = logging.getLogger("vmwatch.test")
    log.info("asking with %s", PIN)
    log.warning("posting to %s", URL, extra={"channel": "phone"})
    try:
        int(PATH.format(number="+4571919998", pin=PIN))
    except ValueError:
        log.exception("it broke")
    told = stream.getvalue()
    assert PIN not in told
    assert "my-secret-topic" not in told
    assert told.count(SECRET) == 3
    assert "Traceback" in told


def test_the_json_log_is_one_object_a_line(log_to: Callable[[Format], io.StringIO]) -> None:
    stream = log_to("json")
    logging.getLogger("vmwatch.test").info("ok, %s", "new\nmessages", extra={"line": "home", "reason": "new_messages"})
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z")
    assert entry == {"level": "info", "message": "ok, new\nmessages", "line": "home", "reason": "new_messages"}


def test_the_text_log_is_for_people(log_to: Callable[[Format], io.StringIO]) -> None:
    stream = log_to("text")
    logging.getLogger("vmwatch.test").warning("home: failing")
    assert stream.getvalue().rstrip().endswith(" warning home: failing")


@pytest.mark.parametrize("name", ["apscheduler.scheduler", "aiohttp.access", "asyncio"])
def test_libraries_speak_up_only_when_something_is_wrong(name: str, log_to: Callable[[Format], io.StringIO]) -> None:
    stream = log_to("text")
    logging.getLogger(name).info("chatter")
    assert stream.getvalue() == ""
