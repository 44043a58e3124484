"""Groups of callers: exactly one counts, the most specific."""

from __future__ import annotations

from typing import Any

import pytest

from vmwatch.decide.callers import Match, Treatment, treatment
from vmwatch.models import Fate
from vmwatch.settings import Callers

BOSS, SALES, ANYONE = "+4520305071", "+4570123456", "+4699999999"


def groups(**tables: dict[str, Any]) -> dict[str, Callers]:
    return {name: Callers.model_validate(table) for name, table in tables.items()}


ALL = groups(
    boss={"numbers": [BOSS], "urgent": True, "channels": ["phone"]},
    sales={"numbers": ["+4570*"], "mute": True},
    danes={"numbers": ["+45*"]},
    known={"in_contacts": True},
    strangers={"numbers": ["unknown"], "min_length": "2s"},
    hidden={"numbers": ["withheld"], "min_length": "5s"},
)


@pytest.mark.parametrize(
    ("caller", "in_contacts", "group", "match"),
    [
        (BOSS, False, "boss", Match.NUMBER),
        (BOSS, True, "boss", Match.NUMBER),
        (SALES, False, "sales", Match.PREFIX),
        (SALES, True, "sales", Match.PREFIX),
        ("+4520305072", False, "danes", Match.PREFIX),
        ("+4520305072", True, "danes", Match.PREFIX),
        (ANYONE, True, "known", Match.IN_CONTACTS),
        (ANYONE, False, "strangers", Match.UNKNOWN),
        (None, False, "hidden", Match.WITHHELD),
        ("", False, "hidden", Match.WITHHELD),
    ],
)
def test_the_most_specific_group_counts(caller: str | None, in_contacts: bool, group: str, match: Match) -> None:
    for order in (ALL, dict(reversed(ALL.items()))):
        found = treatment(order, caller, 30, in_contacts=in_contacts)
        assert (found.group, found.match) == (group, match)


@pytest.mark.parametrize(
    ("caller", "in_contacts"), [(BOSS, False), (BOSS, True), (ANYONE, False), (ANYONE, True), (None, False)]
)
def test_who_is_in_no_group_is_announced_on_the_line_s_channels(caller: str | None, in_contacts: bool) -> None:
    others = groups(other={"numbers": ["+4533*", "+4512345678"], "mute": True})
    for some in (others, {}):
        assert treatment(some, caller, 0, in_contacts=in_contacts) == Treatment(None, Match.NO_GROUP)


@pytest.mark.parametrize("in_contacts", [True, None])
def test_who_is_or_may_be_in_the_contacts_is_not_unknown(in_contacts: bool | None) -> None:
    strangers = groups(strangers={"numbers": ["unknown"], "mute": True})
    assert treatment(strangers, ANYONE, 30, in_contacts=in_contacts) == Treatment(None, Match.NO_GROUP)
    assert treatment(strangers, ANYONE, 30, in_contacts=False).match is Match.UNKNOWN


@pytest.mark.parametrize(
    ("caller", "length", "fate"),
    [
        (ANYONE, 0, Fate.TOO_SHORT),
        (ANYONE, 1, Fate.TOO_SHORT),
        (ANYONE, 2, Fate.ANNOUNCED),
        (ANYONE, None, Fate.ANNOUNCED),
        (None, 4, Fate.TOO_SHORT),
        (BOSS, 0, Fate.ANNOUNCED),
        (SALES, 60, Fate.MUTED),
        (SALES, 0, Fate.MUTED),
    ],
)
def test_what_becomes_of_a_message(caller: str | None, length: int | None, fate: Fate) -> None:
    assert treatment(ALL, caller, length, in_contacts=False).fate is fate


def test_a_group_says_where_and_how_urgently() -> None:
    assert treatment(ALL, BOSS, 10, in_contacts=False) == Treatment(
        "boss", Match.NUMBER, Fate.ANNOUNCED, urgent=True, channels=("phone",)
    )
