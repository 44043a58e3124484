"""The log on standard error: text for people or JSON for collectors, with a second line of defence for secrets.

Where standard error is the journal, each line is marked with its priority, and the journal's own time is enough.

The first line is that no secret reaches a message. The second is here: whatever is about to be written, a
traceback included, is searched for the configuration's secrets (`redaction`), and what nobody caught goes
through the log too. A stranger's text can neither forge an entry nor move a terminal's cursor.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, TextIO

from vmwatch.redaction import SECRET, Redaction

__all__ = ["LEVELS", "SECRET", "Format", "Redaction", "catch_crashes", "marked", "set_up", "visible"]

LEVELS = ("debug", "info", "warning", "error")
Format = Literal["text", "json"]

log = logging.getLogger(__name__)

_CONTINUED = "\n    "
"""What stands before each further line of an entry, so that no text in it passes for an entry of its own."""
_ACTIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves a cursor, changes the direction of writing, or can't be encoded; tabs and line feeds aside."""


_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""syslog's, for what is at least of that level; 7 for the rest."""


def is_journal(environ: Mapping[str, str], descriptor: int) -> bool:
    """Whether what is written there goes to the journal: $JOURNAL_STREAM may have been inherited, so it is compared."""
    try:
        there = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"


def _to_journal() -> bool:
    return sys.stderr is sys.__stderr__ and is_journal(os.environ, 2)


def marked(text: str, level: int) -> str:
    """The text as the journal understands it, a priority before each line; as it is where there is no journal."""
    return _prioritized(text, level) if _to_journal() else text


def _prioritized(text: str, level: int) -> str:
    priority = next((number for least, number in _PRIORITIES if level >= least), 7)
    return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))


def visible(text: str) -> str:
    r"""The text with active characters as JSON would write them, `\u001b`."""
    return _ACTIVE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class _TextFormatter(logging.Formatter):
    def __init__(self, redaction: Redaction, *, bare: bool) -> None:
        super().__init__()
        self._redaction = redaction
        self._bare = bare
        """Without time and level, which the journal keeps itself."""

    def format(self, record: logging.LogRecord) -> str:
        told = visible(self._redaction(super().format(record))).replace("\n", _CONTINUED)
        if self._bare:
            return told
        when = time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(record.created))
        return f"{when} {record.levelname.lower():7} {told}"


class _Marked(logging.Formatter):
    """What another formatter makes of it, for the journal."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return _prioritized(self._inner.format(record), record.levelno)


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
        redacted = {name: self._redaction(str(fact)) for name, fact in told.items()}
        return visible(json.dumps(entry | redacted, ensure_ascii=False))


class _Output(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """An entry that can't be written is told by its place: logging's own words hold its arguments."""
        kind = sys.exc_info()[0]
        what = kind.__name__ if kind else "unknown"
        self.stream.write(f"an entry of the log could not be written ({what}, {record.pathname}:{record.lineno})\n")


def set_up(redaction: Redaction, form: Format = "text", level: str = "info") -> None:
    """Log to standard error from here on: our own words from `level` up, those of libraries from WARNING up.

    Libraries print addresses, parameters and answers below WARNING. Apprise's loggers are shut in `channels`.
    """
    stream = _Output(sys.stderr)
    stream.setFormatter(_formatter(redaction, form))
    logging.basicConfig(handlers=[stream], level=logging.WARNING, force=True)
    logging.getLogger("vmwatch").setLevel(level.upper())


def _formatter(redaction: Redaction, form: Format) -> logging.Formatter:
    journal = _to_journal()
    inner = _JsonFormatter(redaction) if form == "json" else _TextFormatter(redaction, bare=journal)
    return _Marked(inner) if journal else inner


# ---- what nobody caught ----


def catch_crashes() -> None:
    """From here on, warnings and whatever nobody caught, in any thread, go through the log and its redaction.

    Where the process is killed by a signal such as the watchdog's SIGABRT, every thread's stack is written first:
    places in files, which hold no secret.
    """
    if sys.stderr is not None:
        faulthandler.enable()
    logging.captureWarnings(True)
    sys.excepthook = _crashed
    threading.excepthook = _thread_crashed
    sys.unraisablehook = _ignored


def _crashed(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _tell("vmwatch stops because a part of it failed; this is a bug, please report it", error, frames)


def _thread_crashed(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None and not issubclass(crash.exc_type, SystemExit):
        _tell("a thread failed; this is a bug, please report it", crash.exc_value, crash.exc_traceback)


def _ignored(crash: sys.UnraisableHookArgs) -> None:
    if crash.exc_value is not None:
        _tell("Exception ignored", crash.exc_value, crash.exc_traceback)


def _tell(words: str, error: BaseException, frames: TracebackType | None) -> None:
    """With its traceback; before the log is set up no secret is known yet, so without any word of the error's."""
    if logging.getLogger().handlers:
        log.critical(words, exc_info=(type(error), error, frames))
    else:
        sys.stderr.write(f"{words}: {type(error).__name__}\n{''.join(traceback.format_tb(frames))}")
