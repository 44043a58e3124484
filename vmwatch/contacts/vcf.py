"""Address books in files: read, and read again when they were changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import TypeAlias

from vmwatch import vcards
from vmwatch.vcards import Card, Cards, VcardError

_Stamp: TypeAlias = tuple[int, int, int]
"""What changes with a file: when it was written, its size, and which file it is."""


@dataclass(slots=True)
class File:
    """One file of contacts. What it held when it last was a whole address book counts until it is one again."""

    path: Path
    cards: tuple[Card, ...] = ()
    trouble: str = ""
    """Why the file as it is now does not count, as the end of a sentence that has named it."""
    was_whole: bool = False
    """Whether it was one since it was first looked at."""
    _read: _Stamp | None = None
    """Of what was read last, whether it was an address book or not."""
    _found: str = ""
    """What was wrong with that."""
    _seen: _Stamp | None = None

    def look(self) -> bool:
        """Whether it brought other cards, or the rest of them.

        Blocks: a file that was changed and then left alone for one look is read.
        """
        try:
            return self._look(_stamp(self.path))
        except OSError as error:
            self.trouble = f"cannot be read: {error.strerror}"
        except VcardError as error:
            self.trouble = str(error)
        return False

    def _look(self, stamp: _Stamp) -> bool:
        settled = self._seen in (None, stamp)
        self._seen = stamp
        if stamp != self._read and settled:
            return self._take(stamp)
        if stamp == self._read:
            self.trouble = self._found  # whatever kept it from being looked at is over
        return False

    def _take(self, stamp: _Stamp) -> bool:
        content = _content(self.path)
        self._read = stamp
        try:
            return self._keep(_cards(content))
        except VcardError as error:  # not read again before it is changed: it may be large
            self._found = self.trouble = str(error)
            return False

    def _keep(self, found: Cards) -> bool:
        if not found.whole and self.cards:
            raise VcardError("ends in the middle of a card: what it held before still counts")
        self._found = self.trouble = "" if found.whole else "ends in the middle of a card"
        changed = found.cards != self.cards or found.whole != self.was_whole
        self.cards, self.was_whole = found.cards, found.whole
        return changed


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    if not S_ISREG(found.st_mode):  # a pipe would be waited for
        raise VcardError("is no file")
    return found.st_mtime_ns, found.st_size, found.st_ino


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(vcards.LARGEST + 1)


def _cards(content: bytes) -> Cards:
    if len(content) > vcards.LARGEST:
        raise VcardError(f"is larger than {vcards.LARGEST >> 20} MiB")
    return vcards.read(content)
