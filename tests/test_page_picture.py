"""A line's last 24 hours as a picture, and in words."""

from __future__ import annotations

import re

import pytest
from values import NOW

from vmwatch.ledger import Entry
from vmwatch.models import DAY, HOUR, MINUTE
from vmwatch.texts import ENGLISH
from vmwatch.web.picture import STEP, WIDTH, Bar, Stretch, edge, picture

END = edge(NOW)
BEGIN = END - DAY
AN_HOUR = HOUR / STEP


def bars(own: list[tuple[int, str]], everyone: list[tuple[int, str]] | None = None) -> list[tuple[str, float, float]]:
    found = picture([Entry(*one) for one in own], [Entry(*one) for one in everyone or []], [], END, ENGLISH)
    return [(bar.stretch.value, bar.x, bar.x + bar.width) for bar in found.bars]


def at(hours: float) -> int:
    return BEGIN + int(hours * HOUR)


@pytest.mark.parametrize(
    ("own", "everyone", "shown"),
    [
        ([], [], []),
        ([(at(-48), "ok")], [], [("read", 0, 24)]),
        ([(at(-48), "waiting"), (at(-1), "ok")], [], [("read", 0, 24)]),
        ([(at(6), "ok")], [], [("read", 6, 24)]),
        (
            [(at(0), "ok"), (at(6), "failing"), (at(12), "ok")],
            [],
            [("read", 0, 6), ("failing", 6, 12), ("read", 12, 24)],
        ),
        ([(at(0), "ok"), (at(6), "rejected")], [], [("read", 0, 6), ("locked", 6, 24)]),
        ([(at(0), "locked"), (at(6), "not_enabled"), (at(9), "unknown_number")], [], [("locked", 0, 24)]),
        ([(at(0), "ok"), (at(6), "paused"), (at(7), "ok")], [], [("read", 0, 6), ("off", 6, 7), ("read", 7, 24)]),
        ([(at(0), "ok")], [(at(3), "stopped"), (at(4), "running")], [("read", 0, 3), ("off", 3, 4), ("read", 4, 24)]),
        (
            [(at(0), "locked")],
            [(at(3), "stopped"), (at(4), "running")],
            [("locked", 0, 3), ("off", 3, 4), ("locked", 4, 24)],
        ),
        ([(at(0), "ok")], [(at(3), "blocked")], [("read", 0, 3), ("failing", 3, 24)]),
        ([(at(0), "locked")], [(at(3), "blocked")], [("locked", 0, 24)]),
        ([(at(0), "ok")], [(at(-3), "blocked"), (at(-1), "running")], [("read", 0, 24)]),
        ([(at(5), "ok")], [(at(1), "stopped"), (at(2), "running")], [("read", 5, 24)]),
        ([(at(0), "ok"), (at(30), "failing")], [], [("read", 0, 24)]),
    ],
)
def test_each_stretch_is_a_bar(
    own: list[tuple[int, str]], everyone: list[tuple[int, str]], shown: list[tuple[str, float, float]]
) -> None:
    expected = [
        (stretch, pytest.approx(begin * AN_HOUR), pytest.approx(end * AN_HOUR)) for stretch, begin, end in shown
    ]
    assert bars(own, everyone) == expected


def test_messages_are_ticks_and_many_at_once_are_one() -> None:
    came = [BEGIN - 1, BEGIN + 1, BEGIN + 2, at(12), END, END + 1]
    found = picture([Entry(BEGIN, "ok")], [], came, END, ENGLISH)
    assert found.ticks == (0.5, 144.5)
    assert found.bars == (Bar(Stretch.READ, 0, WIDTH),)
    assert found.words == "Last 24 hours: read 24 h; 3 voicemails"


def test_the_words_say_what_the_picture_shows() -> None:
    own = [Entry(BEGIN, "ok"), Entry(at(6), "failing"), Entry(at(6) + 50 * MINUTE, "ok"), Entry(at(23.5), "locked")]
    found = picture(own, [Entry(at(7), "stopped"), Entry(at(8), "running")], [at(1)], END, ENGLISH)
    assert found.words == (
        "Last 24 hours: read 21 h 40 min, failing 50 min, locked or refused 30 min, paused or not running 1 h; "
        "1 voicemail"
    )
    nothing = picture([], [], [], END, ENGLISH)
    assert nothing.words == "Last 24 hours: nothing is known; 0 voicemails"
    assert re.fullmatch(r"[^<>]+", found.words)


def test_it_moves_on_in_steps_so_that_nothing_is_drawn_anew_in_between() -> None:
    assert edge(NOW) == edge(NOW + STEP - 1) == NOW + STEP
    assert edge(NOW + STEP) == NOW + 2 * STEP
