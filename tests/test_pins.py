"""A changed PIN is noticed without keeping it."""

from __future__ import annotations

import pytest
from values import NUMBER, OTHER

from vmwatch.pins import tag

SALT = bytes(16)
URL = "https://operator.example.com"


def test_the_same_pin_has_the_same_tag() -> None:
    assert tag(SALT, URL, NUMBER, "0123") == tag(SALT, URL, NUMBER, "0123")


def test_a_tag_is_one_byte_so_that_it_gives_nothing_away() -> None:
    tags = [tag(SALT, URL, NUMBER, f"{pin:04}") for pin in range(10_000)]
    assert set(tags) == set(range(256))
    assert max(map(tags.count, range(256))) < 100


@pytest.mark.parametrize(
    ("salt", "url", "number"),
    [(bytes(15) + b"1", URL, NUMBER), (SALT, "https://else.example.com", NUMBER), (SALT, URL, OTHER)],
    ids=["another store", "another operator", "another line"],
)
def test_a_tag_means_nothing_elsewhere(salt: bytes, url: str, number: str) -> None:
    pins = [f"{pin:04}" for pin in range(100)]
    assert [tag(SALT, URL, NUMBER, pin) for pin in pins] != [tag(salt, url, number, pin) for pin in pins]


def test_leading_zeros_count() -> None:
    assert tag(SALT, URL, NUMBER, "01234") != tag(SALT, URL, NUMBER, "1234")
