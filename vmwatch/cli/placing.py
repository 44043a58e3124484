"""Putting a first configuration on disk: whole or not at all, and never in the place of anything."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vmwatch import config
from vmwatch.cli.draft import CREDENTIALS, Draft, config_text
from vmwatch.errors import ConfigError, UsageError
from vmwatch.ledger import place

_OPEN_TO_OTHERS = 0o077


def refuse(file: Path, secrets: Iterable[str]) -> None:
    """See to it beforehand that `file` and these secrets' files can be made. Raises UsageError."""
    folder = file.parent / CREDENTIALS
    for path in (file, *(folder / name for name in secrets)):
        if os.path.lexists(path):
            raise UsageError(
                f"{path}: is there already; `vmwatch init` changes nothing that is there: edit it, or move it"
            )
    if folder.exists() and folder.stat().st_mode & _OPEN_TO_OTHERS:
        raise UsageError(f"{folder}: others may look into it; make it private first: chmod 700 {folder}")
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"{nearest}: can't be written to; name another folder with --directory")


def write(file: Path, draft: Draft, object_to_url: config.ObjectToUrl) -> None:
    """Write the configuration and its secrets, once the loader has accepted them. Raises ConfigError, UsageError."""
    try:
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".vmwatch-init-", dir=file.parent))
        try:
            _fill(stage, file.name, draft)
            _accepted(stage / file.name, file, object_to_url)
            _put(stage, file, draft)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            f"{error.filename2 or error.filename or file}: {error.strerror}; nothing was written"
        ) from None


def _fill(stage: Path, name: str, draft: Draft) -> None:
    (stage / CREDENTIALS).mkdir(mode=0o700)
    _write(stage / name, config_text(draft), 0o644)
    for secret, content in draft.secrets.items():
        _write(stage / CREDENTIALS / secret, content + "\n", 0o600)


def _write(path: Path, text: str, mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), mode)  # whatever the umask is: the service must be able to read its configuration
        os.fsync(file.fileno())


def _accepted(staged: Path, file: Path, object_to_url: config.ObjectToUrl) -> None:
    try:
        config.load(staged, {}, object_to_url)
    except ConfigError as error:
        raise ConfigError(tuple(one.replace(str(staged), str(file)) for one in error.objections)) from None


def _put(stage: Path, file: Path, draft: Draft) -> None:
    """The configuration last: as long as it is missing, there is none. A link never replaces what has its name."""
    folder, made = file.parent / CREDENTIALS, list[Path]()
    is_new = not folder.exists()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for secret in draft.secrets:
            os.link(stage / CREDENTIALS / secret, folder / secret)
            made.append(folder / secret)
        os.link(stage / file.name, file)
        made.append(file)
        place.flush(folder)
        place.flush(file.parent)
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        if is_new:
            with suppress(OSError):  # not there, or somebody else's files are in it by now
                folder.rmdir()
        raise
