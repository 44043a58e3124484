"""Small text files: the configuration itself, secrets in files of their own, systemd's credentials."""

from __future__ import annotations

import os
from pathlib import Path

LARGEST_CONFIG = 16 << 20
LARGEST_SECRET = 64 << 10
"""Bytes."""


class UnreadableError(Exception):
    """Why a file can't be read, as the end of a sentence that has named it."""


def read_text(path: Path, largest: int) -> str:
    """A file of at most `largest` bytes as text, a byte order mark dropped. Raises UnreadableError."""
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from None
    except ValueError:  # a NUL or half a character in the path
        raise UnreadableError("cannot be read: not a path") from None
    if len(content) > largest:
        raise UnreadableError(f"is larger than {largest // 1024} KiB")
    return _decoded(content)


def beginning(path: Path, size: int) -> bytes:
    """The first `size` bytes of a file. Raises UnreadableError."""
    try:
        if not path.is_file():  # a pipe would be waited for
            raise UnreadableError("is no file" if path.exists() else "does not exist")
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise UnreadableError("cannot be read: not a path") from None


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:  # `from None`: the error holds the content
        raise UnreadableError("is not UTF-8 text") from None


def read_secret(path: Path) -> str:
    """What a file holds, without one trailing newline. Raises UnreadableError."""
    text = read_text(path, LARGEST_SECRET)
    text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if not text:
        raise UnreadableError("is empty")
    return text


def names_in(folder: Path) -> list[str]:
    """Raises UnreadableError."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from None
