"""In what processes that share a ledger are configured differently: told without a secret."""

from __future__ import annotations

from typing import Any

import pytest
from values import NUMBER, OTHER

from vmwatch.decide.setup import MOST, Setup, disagreements, setup_from, setup_of
from vmwatch.settings import Settings

SALT = bytes(16)
URL = "json://127.0.0.1/hidden-topic"


def setup(line: dict[str, Any] | None = None, channels: dict[str, Any] | None = None, **tables: Any) -> Setup:
    lines = {"home": {"number": NUMBER, "pin": "8352"} | (line or {})} | tables.pop("lines", {})
    return setup_of(
        Settings.model_validate({"lines": lines, "channels": channels or {"phone": {"url": URL}}, **tables}), SALT
    )


def told(one: Setup, other: Setup) -> tuple[str, ...]:
    return disagreements([("a/1", one), ("b/2", other)])


DIFFERENCES: list[tuple[Setup, tuple[str, ...]]] = [
    (setup({"pin": "9461"}), ("home: a/1 and b/2 differ in PIN",)),
    (setup({"label": "Flat", "interval": "30s"}), ("home: a/1 and b/2 differ in label, interval",)),
    (setup({"enabled": False}), ("home: a/1 and b/2 differ in enabled",)),
    (setup({"channels": ["phone"]}), ("home: a/1 and b/2 differ in channels",)),
    (setup({"number": OTHER}), ("home: only a/1 has it", "home: only b/2 has it")),
    (setup(lines={"work": {"number": OTHER, "pin": "8352"}}), ("work: only b/2 has it",)),
    (setup(polling={"interval": "2m"}), ("home: a/1 and b/2 differ in interval",)),
    (setup(operator={"base_url": "https://operator.example.com"}), ("home: a/1 and b/2 differ in PIN",)),
    (setup(channels={"phone": {"url": URL + "2"}}), ("channel phone: a/1 and b/2 differ in URL",)),
    (setup(channels={"phone": {"url": URL, "events": ["line"]}}), ("channel phone: a/1 and b/2 differ in events",)),
    (setup({"remind": ["1h"]}), ("home: a/1 and b/2 differ in remind",)),
    (
        setup({"escalate": [{"after": "1h", "channels": ["phone"]}]}),
        ("home: a/1 and b/2 differ in escalate",),
    ),
    (
        setup(channels={"phone": {"url": URL, "quiet": ["22:00-07:00"], "digest": "08:00", "budget": "9/1h"}}),
        ("channel phone: a/1 and b/2 differ in quiet, digest, budget",),
    ),
    (setup(channels={"phone": {"url": URL}, "mail": {"url": URL}}), ("channel mail: only b/2 has it",)),
    (
        setup(channels={"phone": {"url": URL, "privacy": "masked", "update_in_place": False}}),
        ("channel phone: a/1 and b/2 differ in privacy, update_in_place",),
    ),
    (setup(alerts={"language": "da"}), ("channel phone: a/1 and b/2 differ in language",)),
    (setup(alerts={"timezone": "Asia/Tokyo"}), ("channel phone: a/1 and b/2 differ in timezone",)),
    (
        setup(channels={"phone": {"url": URL, "templates": {"test": {"title": "Here"}}}}),
        ("channel phone: a/1 and b/2 differ in templates",),
    ),
    (setup(callers={"sales": {"numbers": ["+4570*"]}}), ("callers sales: only b/2 has it",)),
]


@pytest.mark.parametrize(("other", "sentences"), DIFFERENCES, ids=[case[1][0] for case in DIFFERENCES])
def test_each_difference_is_a_sentence(other: Setup, sentences: tuple[str, ...]) -> None:
    assert told(setup(), other) == sentences
    assert setup().digest != other.digest


def test_what_each_process_may_have_for_itself_is_no_difference() -> None:
    own = setup(operator={"concurrency": 5, "timeout": "5s"}, web={"listen": ""}, store={"keep": "1d"})
    assert told(setup(), own) == ()
    assert own.digest == setup().digest


def test_the_order_in_a_file_is_no_difference() -> None:
    two = {"phone": {"url": URL, "events": ["line", "voicemail"]}, "mail": {"url": URL}}
    turned = {"mail": {"url": URL}, "phone": {"url": URL, "events": ["voicemail", "line"]}}
    one = setup({"channels": ["phone", "mail"]}, channels=two)
    other = setup({"channels": ["mail", "phone"]}, channels=turned)
    assert (told(one, other), one.digest) == ((), other.digest)


def test_groups_of_callers_are_held_against_each_other() -> None:
    one = setup(callers={"sales": {"numbers": ["+4570*", "withheld"], "mute": True}})
    turned = setup(callers={"sales": {"numbers": ["withheld", "+4570*"], "mute": True}})
    other = setup(callers={"sales": {"numbers": ["+4570*"], "min_length": "3s"}})
    assert told(one, turned) == ()
    assert told(one, other) == ("callers sales: a/1 and b/2 differ in numbers, mute, min_length",)


def test_of_many_differences_some_are_told_and_the_others_counted() -> None:
    many = {f"l{n}": {"number": f"+45719{n:05}", "pin": "8352"} for n in range(100)}
    sentences = told(setup(), setup(lines=many))
    assert len(sentences) == MOST + 1
    assert sentences[-1] == "90 more lines, channels or callers differ between a/1 and b/2"


def test_three_processes_are_held_against_the_first() -> None:
    other = setup({"pin": "9461"})
    assert disagreements([("a/1", setup()), ("b/2", setup()), ("c/3", other)]) == ("home: a/1 and c/3 differ in PIN",)


def test_it_is_written_without_a_secret_and_read_back() -> None:
    text = setup().text
    assert setup_from(text) == setup()
    assert "8352" not in text
    assert "hidden-topic" not in text
