"""The log on standard error: text for people or JSON for collectors, with a second line of defence for secrets.

The first line is that no secret reaches a message. The second is here: whatever is about to be written, a
traceback included, is searched for the configuration's secrets.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterable
from typing import Literal

SECRET = "<secret>"  # noqa: S105 - what is written in a secret's place
LEVELS = ("debug", "info", "warning", "error")
Format = Literal["text", "json"]

# A PIN always stands behind a number in the operator's path, whoever printed it and however it was quoted.
_PATH = re.compile(r"((?:\+|%2B)?[0-9]{6,15}(?:/|%2F))[0-9]{4,10}(?![0-9])", re.IGNORECASE)
# Apprise's own are shut in `channels`, which reads them.
_CHATTY = ("apscheduler", "aiosqlite", "asyncio", "aiohttp")


class Redaction:
    """Replaces secrets in a text; the secrets may be changed at a reload, the old ones stay known."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        self._known.update(secret for secret in secrets if secret)
        longest_first = sorted(self._known, key=len, reverse=True)
        # Digits only where no digit or letter touches them: a PIN must not garble longer numbers.
        words = "|".join(re.escape(secret) for secret in longest_first)
        self._pattern = re.compile(rf"(?<![0-9A-Za-z])(?:{words})(?![0-9A-Za-z])") if words else None

    def __call__(self, text: str) -> str:
        text = _PATH.sub(rf"\g<1>{SECRET}", text)
        return self._pattern.sub(SECRET, text) if self._pattern else text


class _TextFormatter(logging.Formatter):
    def __init__(self, redaction: Redaction) -> None:
        super().__init__()
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        return f"{when} {record.levelname.lower():7} {self._redaction(super().format(record))}"


class _JsonFormatter(logging.Formatter):
    def __init__(self, redaction: Redaction) -> None:
        super().__init__()
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "message": self._redaction(super().format(record)),
        }
        told = {name: getattr(record, name) for name in ("line", "channel", "reason") if hasattr(record, name)}
        return json.dumps(entry | told, ensure_ascii=False)


def set_up(redaction: Redaction, form: Format = "text", level: str = "info") -> None:
    """Log to standard error from here on."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(_JsonFormatter(redaction) if form == "json" else _TextFormatter(redaction))
    logging.basicConfig(handlers=[stream], level=level.upper(), force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
