"""On which line of a TOML text each key stands. tomllib does not say, and people ask for it first.

It reads only texts that tomllib has accepted, so it need not judge them: where it loses the thread, it stops,
and the keys beyond are told by the table they are in.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from contextlib import suppress

from vmwatch.config.objections import Key

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r'"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|[A-Za-z0-9_-]+')
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'  # a text in three quotes may end with two quotes of its own
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[^,\]}#\r\n]+")


class _LostError(Exception):
    """The text is not what the scanner takes it for."""


def locate(text: str) -> dict[Key, int]:
    """The line (from 1) of each key and of each table, the tables that are only implied included."""
    scanner = _Scanner(text)
    with suppress(_LostError, RecursionError):
        scanner.document()
    return scanner.found


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Key, int] = {}
        self._ends = [mark.start() for mark in re.finditer("\n", text)]

    def document(self) -> None:
        table: Key = ()
        while self._more():
            if self._next("["):
                table = self._header()
            else:
                self._pair(table)

    def _more(self) -> bool:
        self._skip(_BLANK)
        return self.at < len(self.text)

    def _header(self) -> Key:
        brackets = 2 if self.text.startswith("[[", self.at) else 1
        self.at += brackets
        table = self._key(())
        self.at += brackets
        return table

    def _pair(self, table: Key) -> None:
        key = self._key(table)
        if not self._next("="):
            raise _LostError
        self.at += 1
        self._value(key)

    def _key(self, table: Key) -> Key:
        """A key, dotted or not, below `table`; notes where each of its parts stands."""
        key = table
        while True:
            self._skip(_SPACE)
            key += (_unquoted(self._take(_KEY)),)
            self.found.setdefault(key, self._line())
            self._skip(_SPACE)
            if not self._next("."):
                return key
            self.at += 1

    def _value(self, key: Key) -> None:
        self._skip(_SPACE)
        if self._next("["):
            self._array(key)
        elif self._next("{"):
            self._inline_table(key)
        else:
            self._take(_STRING if self._next("'") or self._next('"') else _BARE)

    def _array(self, key: Key) -> None:
        self.at += 1
        while not self._closed("]"):
            self._value((*key, "[]"))

    def _inline_table(self, key: Key) -> None:
        self.at += 1
        while not self._closed("}"):
            self._pair(key)

    def _closed(self, bracket: str) -> bool:
        """Moves to the next entry, past a comma; at the closing bracket, past that."""
        self._skip(_BLANK)
        if self._next(","):
            self.at += 1
            self._skip(_BLANK)
        closed = self._next(bracket)
        self.at += closed
        return closed

    def _skip(self, blanks: re.Pattern[str]) -> None:
        found = blanks.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise _LostError
        self.at = found.end()
        return found[0]

    def _next(self, mark: str) -> bool:
        return self.text.startswith(mark, self.at)

    def _line(self) -> int:
        return bisect_left(self._ends, self.at) + 1


def _unquoted(key: str) -> str:
    if key.startswith('"') and "\\" in key:
        return str(tomllib.loads(f"key = {key}")["key"])
    return key[1:-1] if key[0] in "\"'" else key
