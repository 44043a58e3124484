"""A Dockerfile's steps, carried out in bare roots: no container engine is needed, and none is imitated beyond that.

What it does not know, it refuses, so that nothing of the file is passed over in silence.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from newcomer import FailedError, Machine, machine
from roots import DEBIANS

_BASES = {"debian:13-slim": 13}
"""debootstrap's minimal variant is what that image is made of."""
_INSTRUCTION = re.compile(r"([A-Z]+)\s+(.*)", re.DOTALL)


@dataclass
class Image:
    machine: Machine
    environ: dict[str, str] = field(default_factory=dict)
    user: str = ""
    folder: str = "/"
    said: dict[str, list[str]] = field(default_factory=dict)
    """ENTRYPOINT, CMD, HEALTHCHECK and VOLUME."""


class Build:
    def __init__(self, file: Path, context: Path, stack: ExitStack) -> None:
        self._file = file
        self._context = context
        self._stack = stack
        self._ignored = file.with_name(f"{file.name}.dockerignore").read_text().split("\n")
        self._stages: dict[str, Image] = {}
        self._image: Image | None = None

    def image(self) -> Image:
        """The last stage's, after every step. Raises FailedError."""
        for line in _joined(self._file.read_text()):
            found = _INSTRUCTION.fullmatch(line)
            step = getattr(self, f"_{found[1].lower()}", None) if found else None
            if found is None or step is None:
                raise FailedError(f"the Dockerfile has a step that is not known here: {line}")
            step(found[2])
        return self._here

    @property
    def _here(self) -> Image:
        if self._image is None:
            raise FailedError("the Dockerfile does not begin with FROM")
        return self._image

    def _from(self, words: str) -> None:
        base, _, name = words.partition(" AS ")
        self._image = Image(self._stack.enter_context(machine(DEBIANS[_BASES[base]])))
        shutil.rmtree(self._image.machine.path("/root/vmwatch"))
        self._stages[name] = self._image

    def _run(self, words: str) -> None:
        image = self._here
        image.machine.run(words, environ=image.environ, user=image.user.partition(":")[0], within=image.folder)

    def _workdir(self, words: str) -> None:
        self._here.folder = words
        self._here.machine.path(words).mkdir(parents=True, exist_ok=True)

    def _env(self, words: str) -> None:
        self._here.environ |= dict(pair.split("=", 1) for pair in shlex.split(words))

    def _user(self, words: str) -> None:
        self._here.user = words

    def _volume(self, words: str) -> None:
        self._here.said["VOLUME"] = words.split()

    def _entrypoint(self, words: str) -> None:
        self._here.said["ENTRYPOINT"] = json.loads(words)

    def _cmd(self, words: str) -> None:
        self._here.said["CMD"] = json.loads(words)

    def _healthcheck(self, words: str) -> None:
        self._here.said["HEALTHCHECK"] = json.loads(words.partition("CMD ")[2])

    def _copy(self, words: str) -> None:
        *sources, target = words.split()
        there = self._here.machine.path(str(PurePosixPath(self._here.folder, target)))
        if sources[0].startswith("--from="):
            stage = self._stages[sources.pop(0).removeprefix("--from=")].machine
            for source in sources:
                shutil.copytree(stage.path(source), there, symlinks=True)
            return
        for source in sources:
            self._copy_context(source, there / source if target.endswith("/") else there)

    def _copy_context(self, source: str, there: Path) -> None:
        """Files of the context that are not ignored, links as they are."""
        whole = self._context / source
        wanted = [file for file in (whole.rglob("*") if whole.is_dir() else [whole]) if file.is_file()]
        for file in (one for one in wanted if not self._ignores(one.relative_to(self._context))):
            target = there / file.relative_to(whole)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
        for link in (one for one in whole.rglob("*") if one.is_symlink()):
            shutil.copy2(link, there / link.relative_to(whole), follow_symlinks=False)

    def _ignores(self, path: Path) -> bool:
        """The last pattern that fits decides; it fits what is below it, too."""
        above = [str(path), *map(str, path.parents)][:-1]
        ignored = False
        for pattern in (line for line in self._ignored if line and not line.startswith("#")):
            plain = pattern.removeprefix("!")
            anywhere = plain.removeprefix("**/")
            fits = any(fnmatchcase(one, plain) for one in above) or (anywhere != plain and anywhere in path.parts)
            ignored = not pattern.startswith("!") if fits else ignored
        return ignored


def _joined(text: str) -> list[str]:
    """The instructions, each in one line, without the comments."""
    plain = "\n".join(line for line in text.split("\n") if not line.startswith("#"))
    return [line.strip() for line in plain.replace("\\\n", " ").split("\n") if line.strip()]
