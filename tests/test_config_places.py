"""On which line each key of a TOML text stands."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.config.objections import Key
from vmwatch.config.places import locate

PLACES: list[tuple[str, str, dict[str, int]]] = [
    ("a key without a table", "a = 1\n\nb = 2", {"a": 1, "b": 3}),
    ("a table and its keys", "[a]\nb = 1\nc = 2\n", {"a": 1, "a/b": 2, "a/c": 3}),
    ("a table in a table", "\n[a.b]\nc = 1\n", {"a": 2, "a/b": 2, "a/b/c": 3}),
    ("blanks in a header", "[ a . b ]  # note\nc = 1", {"a/b": 1, "a/b/c": 2}),
    ("dotted keys", "a.b = 1\na . c=2\n", {"a": 1, "a/b": 1, "a/c": 2}),
    ("dotted keys in a table", "[a]\nb.c = 1", {"a/b": 2, "a/b/c": 2}),
    ("quoted keys", "[\"a\".'b c']\n\"d\" = 1\n'e.f' = 2", {"a/b c": 1, "a/b c/d": 2, "a/b c/e.f": 3}),
    ("an escaped key", '"\\u0061\\"=" = 1\nb = 2', {'a"=': 1, "b": 2}),
    ("an empty key", '"" = 1', {"": 1}),
    ("an inline table", "a = { b = 1, c.d = 2 }\ne = 3", {"a": 1, "a/b": 1, "a/c/d": 1, "e": 2}),
    ("an inline table in another", "a = { b = { c = 1 }, d = 2 }", {"a/b/c": 1, "a/d": 1}),
    ("an empty inline table", "a = {}\nb = []\nc = 1", {"a": 1, "b": 2, "c": 3}),
    ("an array of several lines", 'a = [\n  "b = 1",  # c = 2\n  3,\n]\nd = 4', {"a": 1, "d": 5}),
    ("an array of arrays", "a = [[1], [2,\n3]]\nb = 1", {"a": 1, "b": 3}),
    ("tables in an array", "a = [{b = 1},\n{b = 2}]\nc = 1", {"a": 1, "c": 3}),
    ("an array of tables", "[[a]]\nb = 1\n[[a]]\nb = 2", {"a": 1, "a/b": 2}),
    ("comments", "# a = 1\n  # [b]\nc = 1 # d = 2\ne = 1", {"c": 3, "e": 4}),
    ("a hash in a string", "a = \"# b\"\nc = '#'\nd = 1", {"a": 1, "c": 2, "d": 3}),
    ("a string of several lines", 'a = """\n[b]\nc = 1\n"""\nd = 1', {"a": 1, "d": 5}),
    ("a string that ends with quotes", 'a = """x"""""\nb = 1', {"a": 1, "b": 2}),
    ("an escaped quote", 'a = "\\" b = 1"\nc = 1', {"a": 1, "c": 2}),
    ("an escaped triple quote", 'a = """\\"""\nb = 1\n"""\nc = 1', {"a": 1, "c": 4}),
    ("a literal string of several lines", "a = '''\nb = 1\n\"\"\"\n'''\nc = 1", {"a": 1, "c": 5}),
    ("a literal string that ends with quotes", "a = '''x'''''\nb = 1", {"a": 1, "b": 2}),
    ("a literal string with a backslash", "a = '\\'\nb = 1", {"a": 1, "b": 2}),
    ("other values", "a = 1.5e3\nb = 1979-05-27 07:32:00Z\nc = true\nd = -inf", {"a": 1, "b": 2, "c": 3, "d": 4}),
    ("line ends of Windows", "[a]\r\nb = 1\r\n\r\nc = [\r\n1]\r\nd = 2", {"a": 1, "a/b": 2, "a/c": 4, "a/d": 6}),
    ("a table that comes again", "[a.b]\nc = 1\n[a]\nd = 1", {"a/b": 1, "a/b/c": 2, "a/d": 4}),
    ("nothing", "\n# only this\n", {}),
]


@pytest.mark.parametrize(("text", "lines"), [case[1:] for case in PLACES], ids=[case[0] for case in PLACES])
def test_each_key_is_found_on_its_line(text: str, lines: dict[str, int]) -> None:
    tomllib.loads(text)
    found = {"/".join(key): line for key, line in locate(text).items() if "[]" not in key}
    assert lines.items() <= found.items()
    assert {path for path in found if not any(one.startswith(path) for one in lines)} == set()


def test_what_is_not_toml_ends_the_search_without_an_error() -> None:
    assert locate("a = 1\nb\nc = 2") == {("a",): 1, ("b",): 2}


def test_lists_nested_too_deeply_end_the_search_without_an_error() -> None:
    assert locate("a = 1\nb = " + "[" * 100_000)[("b",)] == 2


KEYS = st.sampled_from(["a", "b.c", '"d e"', "'f'", "1 . g", '"\\u0041"', "-"])
VALUES = st.recursive(
    st.sampled_from(
        ["1", "true", '"a = 1 # ]"', "'}, b = 2'", '"""\n[c]\n"d"\n"""', "'''\ne = 1\n'''", "1979-05-27 07:32:00"]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: "[\n" + ",\n # x = [1\n".join(values) + "]"),
        st.lists(st.tuples(KEYS, inner).map(" = ".join), max_size=3).map(lambda pairs: "{ " + ", ".join(pairs) + " }"),
    ),
    max_leaves=6,
)
STATEMENTS = st.one_of(
    KEYS.map("[ {} ] # z = 1".format), KEYS.map("[[{}]]".format), st.tuples(KEYS, VALUES).map("\t= ".join)
)


@given(st.lists(STATEMENTS, max_size=6).map("\n".join))
def test_every_key_that_tomllib_finds_is_found(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except ValueError:
        return
    assert set(_keys(document, ())) <= set(locate(text))


def _keys(table: dict[str, object], at: Key) -> list[Key]:
    keys: list[Key] = []
    for name, value in table.items():
        keys.append((*at, name))
        keys += _keys(value, (*at, name)) if isinstance(value, dict) else []
    return keys
