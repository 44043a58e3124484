"""The catalogue: every text of the source is in every language, and every language counts as it does."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po

from vmwatch import languages
from vmwatch.texts import ENGLISH, Texts

ROOT = Path(__file__).parents[1]
OTHERS = [name for name in languages.names() if name != "en"]
PLACEHOLDER = re.compile(r"\{\w*\}|%\(\w+\)s")
CONTEXTS = {"N_": 0, "gettext": 0, "ngettext": 0, "pgettext": 1, "npgettext": 1}
"""Where a call's texts begin: behind the context."""
LONGEST_SHARE = 1.6
"""How much longer than the English a translation may be; texts of a few words have more room."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """What CONTRIBUTING.md's own command finds."""
    return extracted(tmp_path_factory.mktemp("texts") / "messages.pot", ROOT / "vmwatch")


def extracted(pot: Path, folder: Path) -> Catalog:
    command = ["extract", "-F", "pyproject.toml", "-k", "N_", "--no-location", "-o", str(pot), str(folder)]
    pybabel = [sys.executable, "-c", "from babel.messages.frontend import main; main()"]
    subprocess.run([*pybabel, *command], cwd=ROOT, check=True, capture_output=True, timeout=60)
    return read(pot)


def read(path: Path) -> Catalog:
    return read_po(BytesIO(path.read_bytes()), abort_invalid=True)


def catalog(language: str) -> Catalog:
    return read(languages.FOLDER / f"{language}.po")


def entries(found: Catalog) -> dict[tuple[str | None, object], Message]:
    return {(message.context, message.id): message for message in found if message.id}


def sides(message: Message) -> Iterator[tuple[str, str]]:
    """Each translation of a message beside the English that it stands for."""
    if isinstance(message.id, str):
        yield message.id, message.string
    else:
        yield from ((message.id[min(place, 1)], string) for place, string in enumerate(message.string))


def test_pages_are_looked_through_as_well_as_modules(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "page.html").write_text(
        "<p>{{ _('Lines') }}</p>{% trans count=3 %}{{ count }} line{% pluralize %}{{ count }} lines{% endtrans %}"
    )
    (tmp_path / "wording.py").write_text('gettext("A text")\nngettext("{count} day", "{count} days", 2)\n')
    found = {message.id for message in extracted(tmp_path / "messages.pot", tmp_path) if message.id}
    assert found == {"Lines", ("%(count)s line", "%(count)s lines"), "A text", ("{count} day", "{count} days")}


def test_english_and_danish_are_there() -> None:
    assert languages.names()[0] == "en"
    assert "da" in languages.names()


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_of_the_source_is_in_every_language_and_no_other(language: str, source: Catalog) -> None:
    assert source, "nothing was found"
    there, wanted = entries(catalog(language)), entries(source)
    assert sorted(map(str, wanted.keys() - there.keys())) == [], "not translated"
    assert sorted(map(str, there.keys() - wanted.keys())) == [], "no longer said"
    assert list(catalog(language).obsolete) == []


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_translated_with_the_placeholders_it_has(language: str) -> None:
    for message in entries(catalog(language)).values():
        assert not message.fuzzy, message.id
        for english, said in sides(message):
            assert said.strip(), english
            assert sorted(PLACEHOLDER.findall(said)) == sorted(PLACEHOLDER.findall(english)), said
            assert said.count("\n") == english.count("\n"), said
            assert len(said) <= max(LONGEST_SHARE * len(english), len(english) + 15), said
            assert said.endswith(".") == english.endswith(".") or len(english) < 5, said


@pytest.mark.parametrize("language", OTHERS)
def test_what_the_file_says_is_what_is_said(language: str) -> None:
    texts = languages.texts(language)
    for message in entries(catalog(language)).values():
        context = message.context or ""
        if isinstance(message.id, str):
            assert texts.pgettext(context, message.id) == message.string
        else:
            assert {texts.npgettext(context, *message.id, count) for count in range(1000)} == set(message.string)


def test_each_plural_comes_by_the_file_s_own_rule(tmp_path: Path) -> None:
    rule = "nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<12 || n%100>14) ? 1 : 2)"
    (tmp_path / "pl.po").write_text(
        f'msgid ""\nmsgstr ""\n"Language: pl\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n'
        f'"Plural-Forms: {rule};\\n"\n\n'
        'msgid "{count} line"\nmsgid_plural "{count} lines"\nmsgstr[0] "jeden"\nmsgstr[1] "kilka"\n'
        'msgstr[2] "wiele"\n\n'
        '#, fuzzy\nmsgid "guessed"\nmsgstr "zgadnięte"\n'
    )
    texts = languages.read(tmp_path / "pl.po")
    said = {count: texts.ngettext("{count} line", "{count} lines", count) for count in (0, 1, 3, 5, 12, 21, 22)}
    assert said == {0: "wiele", 1: "jeden", 3: "kilka", 5: "wiele", 12: "wiele", 21: "jeden", 22: "kilka"}
    assert texts.gettext("guessed") == "guessed"


@pytest.mark.parametrize(("count", "said"), [(0, "lines"), (1, "line"), (2, "lines")])
def test_what_is_not_translated_is_said_in_english(count: int, said: str) -> None:
    for texts in (ENGLISH, languages.texts("en"), Texts("xx")):
        assert texts.ngettext("line", "lines", count) == said
        assert texts.gettext("a text that nobody wrote") == "a text that nobody wrote"


def test_a_language_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        languages.texts("../da")


def test_english_does_not_pay_for_babel() -> None:
    program = "import sys, vmwatch.cli, vmwatch.languages as l; l.texts('en'); sys.exit('babel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


def test_no_text_stands_where_the_extraction_does_not_look(source: Catalog) -> None:
    """Babel does not look into f-strings."""
    found = {text for message in source for text in ([message.id] if isinstance(message.id, str) else message.id)}
    for path in (ROOT / "vmwatch").rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            for text in call.args[CONTEXTS.get(name, 99) :]:
                assert not isinstance(text, ast.Constant) or not isinstance(text.value, str) or text.value in found, (
                    path
                )
