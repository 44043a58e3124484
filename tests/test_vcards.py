"""Address books as phones and programs export them: whose number it is. Invented people, example numbers."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.book import Book, bind, key, named, region_of
from vmwatch.models import Alert, Kind, Voicemail
from vmwatch.vcards import Card, VcardError, objection, read

GOOGLE = """\
BEGIN:VCARD
VERSION:3.0
FN:Mette Sørensen
N:Sørensen;Mette;;;
item1.EMAIL;TYPE=INTERNET:mette@example.com
item1.X-ABLabel:
TEL;TYPE=CELL:+45 20 30 50 71
TEL;TYPE=WORK:33 12 34 56
ADR;TYPE=HOME:;;Eksempelvej 1\\, 2. th;Aarhus;;8000;Danmark
CATEGORIES:myContacts
END:VCARD
BEGIN:VCARD
VERSION:3.0
FN:
N:;;;;
ORG:Tandlægerne Torvet
TEL;TYPE=WORK:+4586123456
END:VCARD
"""
APPLE = """\
BEGIN:VCARD
VERSION:3.0
PRODID:-//Apple Inc.//macOS 15.1//EN
N:Duck;Donald;;Mr.;
FN:Mr. Donald Duck
ORG:Duckburg Daily;
item1.TEL;type=pref:+45 99\u00a077\u00a088\u00a022
item1.X-ABLabel:_$!<Other>!$_
TEL;type=IPHONE;type=CELL;type=VOICE:+1 (202) 555-0143
NOTE:She wrote\\: call
  after nine\\n+4512345678
PHOTO;ENCODING=b;TYPE=JPEG:/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAEBAQEBAQEBAQEB
 AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB
UID:0E1A
END:VCARD
BEGIN:VCARD
VERSION:3.0
PRODID:-//Apple Inc.//macOS 15.1//EN
N:;;;;
FN:Eksempel Rør & VVS ApS
ORG:Eksempel Rør & VVS ApS;
TEL;type=MAIN:70 12 34 56
X-ABShowAs:COMPANY
END:VCARD
"""
NEXTCLOUD = """\
BEGIN:VCARD
VERSION:4.0
PRODID:-//Sabre//Sabre VObject 4.5.6//EN
UID:6c1f
FN;PREF=1:Åse Ærø
N:Ærø;Åse;;;
TEL;TYPE="cell,voice";VALUE=uri:tel:+45-51-23-45-67
TEL;VALUE=URI;TYPE=home:tel:+4686123456;ext=12
TEL;VALUE=uri:tel:61234567;phone-context=+45
REV:20261101T101010Z
END:VCARD
"""
PHONE_OF_2_1 = """\
BEGIN:VCARD
VERSION:2.1
N;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:J=C3=B8rgensen;Bj=C3=B8rn;;;
FN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:Bj=C3=B8rn J=C3=B8rgen=
sen
TEL;CELL;PREF:0045 28 12 34 56
TEL;HOME:(+45) 86-12.34/57
PHOTO;ENCODING=BASE64;JPEG:
 R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7

END:VCARD
"""
OUTLOOK = """\
BEGIN:VCARD
VERSION:2.1
N;LANGUAGE=da:Østergård;Pia
FN:Pia Østergård
ORG:Eksempel A/S;Salg
TEL;WORK;VOICE:+45 44 12 34 56
END:VCARD
""".replace("\n", "\r\n").encode("cp1252")
FROM_FRITZBOX = """\
begin:vcard
version:3.0
n:Opa
fn:Opa
tel;type=home:030 123456
tel;type=cell:+49 (0)151 23456789
end:vcard
"""
FRITZBOX_ITSELF = b"""\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>
<phonebooks><phonebook name="Telefonbuch"><contact><person><realName>Opa</realName></person>
<telephony><number type="home">030123456</number></telephony></contact></phonebook></phonebooks>
"""


def book_of(text: str | bytes, region: str = "DK") -> Book:
    return bind(read(text.encode() if isinstance(text, str) else text).cards, region)


def a_card(*lines: str) -> str:
    return "\n".join(("BEGIN:VCARD", "VERSION:3.0", *lines, "END:VCARD", ""))


@pytest.mark.parametrize(
    ("exported", "region", "names"),
    [
        (
            GOOGLE,
            "DK",
            {
                "+4520305071": "Mette Sørensen",
                "+4533123456": "Mette Sørensen",
                "+4586123456": "Tandlægerne Torvet",
            },
        ),
        (
            APPLE,
            "DK",
            {
                "+4599778822": "Mr. Donald Duck",
                "+12025550143": "Mr. Donald Duck",
                "+4570123456": "Eksempel Rør & VVS ApS",
            },
        ),
        (NEXTCLOUD, "DK", {"+4551234567": "Åse Ærø", "+4686123456": "Åse Ærø", "+4561234567": "Åse Ærø"}),
        (PHONE_OF_2_1, "DK", {"+4528123456": "Bjørn Jørgensen", "+4586123457": "Bjørn Jørgensen"}),
        (OUTLOOK, "DK", {"+4544123456": "Pia Østergård"}),
        (FROM_FRITZBOX, "DE", {"+4930123456": "Opa", "+4915123456789": "Opa"}),
    ],
    ids=["google", "apple", "nextcloud", "phone-2.1", "outlook-cp1252", "fritzbox"],
)
def test_what_each_exporter_writes_is_understood(exported: str | bytes, region: str, names: dict[str, str]) -> None:
    assert dict(book_of(exported, region).names) == names


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
def test_line_ends_and_byte_order_marks_do_not_matter(ending: str, code: str) -> None:
    for exported in (GOOGLE, APPLE, NEXTCLOUD, PHONE_OF_2_1):
        assert book_of(exported.replace("\n", ending).encode(code)) == book_of(exported)


def test_a_line_may_be_folded_in_the_middle_of_a_character() -> None:
    text = a_card("FN:Åse Ærø", "TEL:20305071").encode().replace("Æ".encode(), b"\xc3\r\n \x86")
    assert book_of(text).name_of("+4520305071") == "Åse Ærø"


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (("N:Ærø;Åse;Marie;Dr.;Ph.d.",), "Dr. Åse Marie Ærø Ph.d."),
        (("FN:", "N:Ærø;Åse;;;"), "Åse Ærø"),
        (("N:;;;;", "ORG:Eksempel A/S;Salg"), "Eksempel A/S"),
        (("ORG:Eksempel\\; Søn\\, A/S",), "Eksempel; Søn, A/S"),
        (("NICKNAME:Skipper,Chef",), "Skipper"),
        (("FN:One", "FN:Two"), "One"),
        (("FN:+45 20 30 50 71", "ORG:Eksempel A/S"), "Eksempel A/S"),
        (("FN:Mette\\nFrom: somebody else",), "Mette From: somebody else"),
        (("FN:Met\u202ete\x07",), "Mette"),
        (("FN:" + "x" * 5000,), "x" * 99 + "…"),
        (("ORG;ENCODING=QUOTED-PRINTABLE;CHARSET=no-such-code:Caf=E9",), "Café"),
        (('item1.FN;X="a:b;c":Mette',), "Mette"),
        (("FN:Mette=",), "Mette="),
        (("FN:Mette=", "NOTE;ENCODING=QUOTED-PRINTABLE:a=", "b"), "Mette="),
        (("FN;ENCODING=QUOTED-PRINTABLE;CHARSET=KOI8-R:=EB=CF=D4",), "Кот"),
    ],
)
def test_what_a_card_s_owner_is_called(lines: tuple[str, ...], name: str) -> None:
    assert book_of(a_card(*lines, "TEL:20305071")).name_of("+4520305071") == name


@pytest.mark.parametrize("lines", [(), ("FN:",), ("FN:20305071",), ("EMAIL:mette@example.com",)])
def test_a_card_without_a_name_is_nobody_s(lines: tuple[str, ...]) -> None:
    assert not book_of(a_card(*lines, "TEL:20305071")).names


def test_what_stands_beside_the_numbers_is_not_taken_for_one() -> None:
    text = a_card("FN:Mette", "NOTE:TEL:20305071", "X-TEL:20305072", "TELX:20305073", "EMAIL:tel@example.com", "TEL:")
    assert not book_of(text).names


@pytest.mark.parametrize(
    ("written", "region", "e164"),
    [
        ("+45 20 30 50 71", "DK", "+4520305071"),
        ("+45 20 30 50 71", "", "+4520305071"),
        ("20 30 50 71", "DK", "+4520305071"),
        ("20305071", "", None),
        ("004520305071", "DK", "+4520305071"),
        ("011 45 20305071", "US", "+4520305071"),
        ("(202) 555-0143", "US", "+12025550143"),
        ("030/123456", "DE", "+4930123456"),
        ("+44 (0)20 7946 0123", "DK", "+442079460123"),
        ("06 698 12345", "IT", "+390669812345"),
        ("1813", "DK", "+451813"),
        ("\u202a+45 20\u201130\u201150\u201171\u202c", "DK", "+4520305071"),
        ("٢٠٣٠٥٠٧١", "DK", "+4520305071"),
        ("tel:+45-20-30-50-71", "DK", "+4520305071"),
        ("20305071,,12", "DK", "+4520305071"),
        ("ask reception", "DK", None),
        ("", "DK", None),
        ("+", "DK", None),
        ("0" * 5000, "DK", None),
    ],
)
def test_national_and_international_forms_are_one_number(written: str, region: str, e164: str | None) -> None:
    assert key(written, region) == e164


def test_of_several_cards_with_one_number_the_first_one_counts() -> None:
    first, second = a_card("FN:First", "TEL:+4520305071"), a_card("FN:Second", "TEL:20 30 50 71")
    assert book_of(first + second).name_of("+4520305071") == "First"
    assert book_of(second + first).name_of("+4520305071") == "Second"
    assert book_of(a_card("TEL:20305071") + second).name_of("+4520305071") == "Second"


@pytest.mark.parametrize(
    ("numbers", "region"),
    [
        ((), ""),
        (("+4571919998",), "DK"),
        (("+46812345678", "+4571919998", "+4571919999"), "DK"),
        (("+46812345678", "+4571919998"), "SE"),
        (("+12025550143",), "US"),
        (("none",), ""),
    ],
)
def test_the_country_is_that_of_most_lines(numbers: tuple[str, ...], region: str) -> None:
    assert region_of(numbers) == region


def test_the_book_s_name_wins_and_what_is_not_in_it_stays() -> None:
    book = book_of(GOOGLE)
    voicemails = (
        Voicemail("1", "+4520305071", "METTE S"),
        Voicemail("2", "+4512345678", "Operator's name"),
        Voicemail("3"),
    )
    alert = Alert(Kind.VOICEMAIL_SUMMARY, ("phone",), voicemails=voicemails)
    assert [v.caller_name for v in named(alert, book).voicemails] == ["Mette Sørensen", "Operator's name", None]
    assert [v.caller_name for v in alert.voicemails] == ["METTE S", "Operator's name", None]
    assert ["+4520305071" in book, "+4512345678" in book, None in book] == [True, False, False]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no vCard in it: export the address book as vCard (.vcf)"),
        (b"Name,Phone\nMette,20305071\n", "has no vCard in it: export the address book as vCard (.vcf)"),
        (b"\x00\xff\xfe\x89PNG", "has no vCard in it: export the address book as vCard (.vcf)"),
        (
            FRITZBOX_ITSELF,
            "is a FRITZ!Box phonebook and no vCard: bring it into an address book that exports vCards",
        ),
    ],
)
def test_what_is_no_address_book_is_refused_with_words(content: bytes, words: str) -> None:
    assert objection(content) == words
    with pytest.raises(VcardError) as caught:
        read(content)
    assert str(caught.value) == words


def test_a_book_that_is_still_being_written_is_known_by_its_last_card() -> None:
    assert read(GOOGLE.encode()).whole
    cut = read(GOOGLE.encode()[:-20])
    assert not cut.whole
    assert len(cut.cards) == 1


def test_a_card_that_never_ends_does_not_swallow_the_next() -> None:
    text = "BEGIN:VCARD\nFN:First\nTEL:20305071\n" + a_card("FN:Second", "TEL:20305072")
    assert dict(book_of(text).names) == {"+4520305071": "First", "+4520305072": "Second"}


@given(st.lists(st.sampled_from([*GOOGLE.splitlines(), *PHONE_OF_2_1.splitlines(), "TEL:\ud800", "FN;:;\\", "=", ""])))
def test_whatever_lines_there_are_it_is_read_or_refused(lines: Iterable[str]) -> None:
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    with suppress(VcardError):
        bind(read(content).cards, "DK")


@given(st.binary(max_size=300))
def test_whatever_bytes_there_are_it_is_read_or_refused(content: bytes) -> None:
    cards = read(b"BEGIN:VCARD\n" + content + b"\nEND:VCARD\n").cards
    assert all(isinstance(card, Card) for card in cards)
    bind(cards, "DK")


_OPEN, _CLOSED, _MANY = b"BEGIN:VCARD\nFN:Mette\n", b"TEL:20305071\nEND:VCARD\n", 4_000_000
_ENCODED = b"NICKNAME;CHARSET=punycode;ENCODING=QUOTED-PRINTABLE:"


@pytest.mark.parametrize(
    "within",
    [
        b"\n" * _MANY,
        b"TEL;" + b" " * _MANY + b"\n",
        b"QUOTED-PRINTABLE" * (_MANY // 16) + b"=\n",
        _ENCODED + b"a=\n" * (_MANY // 3) + b"\n",
        _ENCODED + b"a" * (_MANY // 2) + b"-" + b"b" * (_MANY // 2) + b"\n",
    ],
    ids=["blank lines", "blanks", "half an encoding", "soft line breaks", "a slow encoding"],
)
def test_what_a_server_makes_up_takes_no_longer_than_its_size(within: bytes) -> None:
    """Each of these took minutes or days, in which the interpreter did nothing else."""
    assert dict(book_of(within + _OPEN + within + _CLOSED).names) == {"+4520305071": "Mette"}


def test_ten_thousand_cards_are_read(record_property: pytest.RecordProperty) -> None:
    photo = "PHOTO;ENCODING=b;TYPE=JPEG:" + "\n ".join(["/9j/4AAQSkZJRgABAQAAAQABAAD" * 2] * 20)
    cards = (
        a_card(
            f"N:Nr {n};Person;;;", f"FN:Person Nr {n}", f"TEL:+45{20000000 + n}", f"TEL;TYPE=HOME:{30000000 + n}", photo
        )
        for n in range(10_000)
    )
    content = "".join(cards).encode()
    began = time.perf_counter()
    book = book_of(content)
    record_property("seconds", round(time.perf_counter() - began, 2))
    print(f"10,000 cards, {len(content) >> 20} MiB, 20,000 numbers: {time.perf_counter() - began:.2f} s")
    assert len(book.names) == 20_000
    assert book.name_of("+4530009999") == "Person Nr 9999"
