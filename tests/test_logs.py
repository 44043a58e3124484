"""The second line of defence: here the secrets are logged deliberately, and must not come out."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmwatch.logs import SECRET, Format, Redaction, is_journal, set_up

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


# ---- the journal ----

SPEAKER = """
import logging, sys
from vmwatch.logs import Redaction, marked, set_up
set_up(Redaction(["0735"]), sys.argv[1])
log = logging.getLogger("vmwatch.test")
log.info("the PIN is 0735")
log.warning("one\\ntwo")
log.error("it failed")
print(marked("refused\\nin two lines", logging.ERROR), file=sys.stderr)
"""


def spoken(folder: Path, form: str, stream: str | None) -> list[str]:
    """What a process writes to a file as its standard error, which is `stream` to $JOURNAL_STREAM; None: itself."""
    with (folder / "stderr").open("w+") as file:
        there = os.fstat(file.fileno())
        environment = os.environ | {"JOURNAL_STREAM": stream or f"{there.st_dev}:{there.st_ino}"}
        subprocess.run([sys.executable, "-c", SPEAKER, form], stderr=file, env=environment, check=True, timeout=30)
        file.seek(0)
        return file.read().splitlines()


def test_the_journal_gets_a_priority_for_each_line_and_no_second_time(tmp_path: Path) -> None:
    assert spoken(tmp_path, "text", None) == [
        f"<6>the PIN is {SECRET}",
        "<4>one",
        "<4>    two",
        "<3>it failed",
        "<3>refused",
        "<3>in two lines",
    ]


def test_the_journal_gets_json_with_a_priority_before_it(tmp_path: Path) -> None:
    first = spoken(tmp_path, "json", None)[0]
    assert first.startswith("<6>{")
    assert json.loads(first.removeprefix("<6>"))["message"] == f"the PIN is {SECRET}"


def test_what_merely_inherited_the_journal_s_name_is_not_the_journal(tmp_path: Path) -> None:
    """$JOURNAL_STREAM stays set when a service's child writes to a file or a terminal."""
    said = spoken(tmp_path, "text", "8:1234")
    assert said[0].endswith(f" info    the PIN is {SECRET}")
    assert said[-2:] == ["refused", "in two lines"]


@pytest.mark.parametrize("value", ["", "8", "x:y", "8:1234:5", None])
def test_a_strange_journal_stream_is_none(value: str | None, tmp_path: Path) -> None:
    environ = {} if value is None else {"JOURNAL_STREAM": value}
    with (tmp_path / "file").open("w") as file:
        assert not is_journal(environ, file.fileno())
    assert not is_journal(environ, 9999)


def test_the_stack_of_a_process_that_is_killed_for_hanging_is_told() -> None:
    """What the watchdog does, with systemd's default signal."""
    code = "import os; from vmwatch.logs import catch_crashes; catch_crashes(); os.abort()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == -6
    assert "Fatal Python error: Aborted" in ran.stderr
    assert 'File "<string>", line 1' in ran.stderr
