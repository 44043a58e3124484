"""A newcomer's machine: a bare Debian in which nothing is installed yet, and this machine's own ways to packages.

Commands run in a chroot, in namespaces of their own, so that whatever they start or mount ends with them.
"""

from __future__ import annotations

import ast
import configparser
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "systemd"))

import roots
from roots import CACHE, PROJECT, Debian

HOME = "/root/vmwatch"
"""Where the newcomer has unpacked the project, and where every command begins."""
LONGEST_S = 400
_MACHINE = "/machine"
"""Where the newcomer's machine sees what pip's configuration names of ours: certificates, folders of packages."""
_PASSED_ON = re.compile(r"(?i).*_proxy|SSL_CERT_FILE|UV_(?!CACHE_DIR|TOOL).*")
_PATH = re.compile(r"/[^\s'\"]+")
_BARE = "bare"


class FailedError(Exception):
    """A command of the newcomer failed."""


def bare(debian: Debian) -> Path:
    """The tar of a root with apt in it and nothing else that is not essential; made once and kept."""

    def make(made: Path) -> None:
        print(f"making a bare root of Debian {debian.release}", flush=True)
        folder = roots.tools() / "usr/bin"
        made.rmdir()
        with roots.memory() as memory:
            roots.do(
                *("perl", str(folder / "mmdebstrap"), "--mode=root", "--variant=minbase", "--format=tar", "--quiet"),
                *("--dpkgopt=force-unsafe-io", debian.suite, str(made), roots.mirror()),
                environ={"PATH": f"{os.environ['PATH']}:{folder}", "TMPDIR": str(memory)},
                why=f"no root of Debian {debian.release} could be made",
            )

    return roots.kept(f"debian{debian.release}-{_BARE}.tar", make)


@dataclass(frozen=True)
class Mounts:
    """What is laid over the root while a command runs: folders of ours, and whether the rest can be written."""

    binds: Mapping[str, Path] = field(default_factory=dict)
    memory: Sequence[str] = ()
    read_only: bool = False


@dataclass
class Machine:
    folder: Path
    environ: dict[str, str]
    ways: dict[str, Path]

    def path(self, path: str) -> Path:
        return self.folder / path.lstrip("/")

    def run(
        self,
        script: str,
        *,
        told: str = "",
        environ: Mapping[str, str] | None = None,
        user: str = "",
        within: str = HOME,
        mounts: Mounts | None = None,
    ) -> str:
        """A shell's script; returns what it says. Raises FailedError with its last words."""
        command = self._command(script, self.environ | dict(environ or {}), user, within, mounts or Mounts())
        ran = subprocess.run(
            command, input=told, text=True, errors="replace", capture_output=True, timeout=LONGEST_S, check=False
        )
        if ran.returncode:
            last = "\n".join((ran.stdout + ran.stderr).strip().splitlines()[-25:])
            raise FailedError(f"ended with {ran.returncode}: {script.strip()}\n{last}")
        return ran.stdout

    def _command(self, script: str, environ: Mapping[str, str], user: str, within: str, mounts: Mounts) -> list[str]:
        as_user = f"setpriv --reuid={user} --regid={user} --clear-groups " if user else ""
        variables = " ".join(shlex.quote(f"{name}={value}") for name, value in environ.items())
        inside = shlex.quote(f"cd {within}; set -e\n{script}")
        enter = f"exec chroot . {as_user}env -i {variables} sh -c {inside}"
        apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--propagation", "private")
        return [*apart, "sh", "-euc", "\n".join([*self._laid(mounts), enter])]

    def _laid(self, mounts: Mounts) -> Iterator[str]:
        """The shell's words that lay everything over the root, whose folder is the current one afterwards."""
        yield f"cd {shlex.quote(str(self.folder))}; mount --bind . .; cd ."
        yield f"cd {shlex.quote(str(self.folder))}; mount --rbind /dev dev; mount -t proc proc proc"
        for where, what in (self.ways | dict(mounts.binds)).items():
            self.path(where).mkdir(parents=True, exist_ok=True)
            yield f"mount --bind {shlex.quote(str(what))} .{shlex.quote(where)}"
        yield from (f"mount -t tmpfs -o mode=1777 tmpfs .{where}" for where in mounts.memory)
        if mounts.read_only:
            yield "mount -o remount,bind,ro ."


@contextmanager
def machine(debian: Debian) -> Iterator[Machine]:
    """A fresh one, with the project unpacked in it; gone afterwards."""
    tar = bare(debian)
    folder = Path(tempfile.mkdtemp(prefix="vmwatch-newcomer-"))
    try:
        roots.do("tar", "-C", str(folder), "--exclude=./dev/*", "-xf", str(tar))
        yield _furnished(folder)
    finally:
        shutil.rmtree(folder)


def _furnished(folder: Path) -> Machine:
    environ = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "PIP_CACHE_DIR": f"{_MACHINE}/cache/pip",
        "UV_CACHE_DIR": f"{_MACHINE}/cache/uv",
    }
    made = Machine(folder, environ, {f"{_MACHINE}/cache": CACHE / "downloads"})
    (CACHE / "downloads").mkdir(parents=True, exist_ok=True)
    _unpack_project(made.path(HOME))
    _pass_on_apt(made)
    _pass_on_pip(made)
    for name, value in os.environ.items():
        if _PASSED_ON.fullmatch(name):
            environ[name] = _passed_on(made, value)
    for name in ("/etc/resolv.conf", "/etc/hosts"):
        made.path(name).unlink(missing_ok=True)
        shutil.copy(name, made.path(name))
    return made


def _unpack_project(into: Path) -> None:
    """What a clone would have, with what is not committed yet."""
    listed = roots.do("git", "-C", str(PROJECT), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).is_file() or (PROJECT / name).is_symlink():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, into / name, follow_symlinks=False)


def _pass_on_apt(made: Machine) -> None:
    settings = roots.do("apt-config", "dump", "Acquire")
    ours = 'APT::Get::Assume-Yes "true";\nDPkg::Options { "--force-unsafe-io"; };\n'
    made.path("/etc/apt/apt.conf.d/99newcomer").write_text(_passed_on(made, settings) + ours)


def _pass_on_pip(made: Machine) -> None:
    """pip's configuration here, wherever it stands, as the one file that it reads there."""
    there = configparser.RawConfigParser()
    for line in roots.do(sys.executable, "-m", "pip", "config", "list").splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.replace(":env:", "global").partition(".")
        if section not in there:
            there.add_section(section)
        if name not in ("cache-dir", "require-virtualenv", "no-cache-dir"):
            there[section][name] = _passed_on(made, ast.literal_eval(value))
    text = io.StringIO()
    there.write(text)
    made.path("/etc/pip.conf").write_text(text.getvalue())


def _passed_on(made: Machine, value: str) -> str:
    """A setting in which the files and folders that it names of this machine are those that the other one sees."""

    def bring(found: re.Match[str]) -> str:
        ours, there = Path(found[0]), f"{_MACHINE}{found[0]}"
        if ours.is_dir() and len(ours.parts) > 2:
            # With what lies beside it: a folder of links leads to a folder of packages.
            made.ways[f"{_MACHINE}{ours.parent}"] = ours.parent
        elif ours.is_file():
            made.path(there).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ours, made.path(there))
        else:
            return found[0]
        return there

    return _PATH.sub(bring, value.replace("file://", "file:// ")).replace("file:// ", "file://")
