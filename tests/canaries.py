"""Secrets that occur nowhere by accident, every way of spelling them, and a search for them in what was left behind.

canaries = Canaries()
canaries.pin("home"), canaries.token("phone")         # always the same one for the same name
evidence = Evidence(canaries)
evidence.keep("standard error of run", process_said)
evidence.clean()                                      # AssertionError names the canary and where it sang
"""

from __future__ import annotations

import json
import re
import string
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import quote

SIGNED = re.compile(rb"(?:/|%2f)(?:ack|snooze)(?:/|%2f)[a-z2-7]{20,}\.[a-z2-7]{20,}")
"""A link of an alert that somebody could use. Each is another one: they are known by their form."""
TELLING = 8
"""So many characters of a token, from its beginning or up to its end, tell as much as the whole."""


class Canaries:
    def __init__(self) -> None:
        self._pins: dict[str, str] = {}
        self._tokens: dict[str, str] = {}

    def pin(self, name: str) -> str:
        """Ten different digits."""
        return self._pins.setdefault(name, _shuffled(string.digits, f"pin {name}", 10))

    def token(self, name: str, length: int = 24, letters: str = string.ascii_letters + string.digits) -> str:
        return self._tokens.setdefault(name, _shuffled(letters * 2, f"token {name}", length))

    def found_in(self, content: bytes) -> list[str]:
        """`pin of home, as base64`, for each that occurs."""
        low = content.lower()
        found = [what for what, needle in self._needles() if needle in low]
        return [*found, "a link of an alert"] if SIGNED.search(low) else found

    def _needles(self) -> Iterator[tuple[str, bytes]]:
        secrets = [(f"pin of {name}", pin) for name, pin in self._pins.items()]
        for name, token in self._tokens.items():
            secrets += [(f"token of {name}", token[:TELLING]), (f"token of {name}", token[-TELLING:])]
        for what, secret in secrets:
            for spelled, needles in spellings(secret).items():
                yield from ((f"{what}, {spelled}", needle.lower()) for needle in needles)


def _shuffled(characters: str, seed: str, length: int) -> str:
    return "".join(Random(f"canary {seed}").sample(characters, length))


def spellings(secret: str) -> dict[str, set[bytes]]:
    """Every form in which a secret could be told by mistake; a PIN's own forms are those of the path it ends."""
    percent = "".join(f"%{ord(character):02x}" for character in secret)
    escaped = "".join(f"\\u{ord(character):04x}" for character in secret)
    raw = secret.encode()
    return {
        "plain": {raw},
        "URL-encoded": {quote(secret, safe="").encode(), percent.encode(), percent.replace("%", "%25").encode()},
        "base64": set(_base64(raw)),
        "hexadecimal": {raw.hex().encode()},
        "reversed": {raw[::-1], b64encode(raw[::-1]).rstrip(b"=")[:-1]},
        "escaped": {escaped.encode(), json.dumps(secret)[1:-1].encode()},
        "UTF-16": {secret.encode("utf-16-le")},
    }


def _base64(raw: bytes) -> Iterator[bytes]:
    """What any base64 of a text with the secret in it must hold, whatever stands before and behind it."""
    for encode in (b64encode, urlsafe_b64encode):
        for before in range(3):
            whole = encode(bytes(before) + raw).rstrip(b"=")
            yield whole[-(-before * 8 // 6) : len(whole) - (1 if (before + len(raw)) % 3 else 0)]


@dataclass
class Evidence:
    """What vmwatch told or left behind, each piece with the place where it was found."""

    canaries: Canaries
    pieces: list[tuple[str, bytes]] = field(default_factory=list)

    def keep(self, where: str, content: str | bytes) -> None:
        self.pieces.append((where, content.encode("utf-8", "replace") if isinstance(content, str) else content))

    def keep_files(self, folder: Path, wanted: Callable[[Path], bool] = lambda _: True) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and wanted(path):
                self.keep(f"file {path.name}", path.read_bytes())
                self.keep("file names", path.name)

    @property
    def said(self) -> str:
        return "\n".join(content.decode("utf-8", "replace") for _, content in self.pieces)

    def clean(self) -> None:
        assert self.pieces, "nothing was looked at"
        sang = {(where, what) for where, content in self.pieces for what in self.canaries.found_in(content)}
        assert not sang, f"{sorted(sang)}\n{self._around(sang)}"

    def _around(self, sang: set[tuple[str, str]]) -> str:
        places = {where for where, _ in sang}
        return "\n".join(
            content.decode("utf-8", "replace")[-3000:] for where, content in self.pieces if where in places
        )
