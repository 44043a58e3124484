"""Where the Debians come from: roots made from the machine's own mirror, and vmwatch with what it needs beside them.

Everything that takes long is kept in the cache folder ($XDG_CACHE_HOME/vmwatch-tests): systemd-nspawn and
mmdebstrap, unpacked rather than installed; a tar of each root; a tar of each virtual environment. What is kept
is named after what it was made from, so that a change of that makes it anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vmwatch-tests"
PACKAGES = (
    "systemd systemd-sysv dbus libnss-systemd python3 python3-venv ca-certificates procps tzdata iproute2 libfaketime"
)
_TOOLS = ("systemd-container", "libsystemd-shared", "mmdebstrap")
_PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux_2_5", "manylinux1")
_LEFT_OUT = ("doc", "man", "locale", "info")


class UnavailableError(Exception):
    """This machine can't do it; the sentence says why."""


@dataclass(frozen=True)
class Debian:
    release: int
    suite: str
    systemd: int
    python: str


DEBIANS = {12: Debian(12, "bookworm", 252, "3.11"), 13: Debian(13, "trixie", 257, "3.13")}


# ---- systemd-nspawn and mmdebstrap ----


def tools() -> Path:
    """A folder with usr/bin/systemd-nspawn and usr/bin/mmdebstrap in it."""
    return kept(f"tools-{_hash(platform.freedesktop_os_release().get('VERSION', ''), *_TOOLS)}", _unpack_tools)


def _unpack_tools(made: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        do("apt-get", "download", "-q", *_TOOLS, cwd=folder, why="apt-get can't download: run apt-get update first")
        for package in Path(folder).glob("*.deb"):
            do("dpkg", "-x", str(package), str(made))


# ---- roots ----


def root(debian: Debian) -> Path:
    """The tar of a root."""

    def make(made: Path) -> None:
        print(f"making a root of Debian {debian.release}: that takes a minute or two", flush=True)
        _bootstrap(debian, made)

    return kept(f"debian{debian.release}-{_hash(debian.suite, PACKAGES)}.tar", make)


def _bootstrap(debian: Debian, made: Path) -> None:
    folder = tools() / "usr/bin"
    made.rmdir()
    options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
    with memory() as made_in:
        do(
            *("perl", str(folder / "mmdebstrap"), "--mode=root", "--variant=minbase", "--format=tar", "--quiet"),
            *(f"--include={','.join(PACKAGES.split())}", "--dpkgopt=force-unsafe-io", *options),
            *(debian.suite, str(made), mirror()),
            environ={"PATH": f"{os.environ['PATH']}:{folder}", "TMPDIR": str(made_in)},
            why=f"no root of Debian {debian.release} could be made",
        )


def mirror() -> str:
    """The Debian mirror that this machine's own apt uses."""
    target = ("$(REPO_URI)", "Created-By: Packages", "Origin: Debian")
    for address in do("apt-get", "indextargets", "--format", *target).splitlines():
        if "security" not in address:
            return address
    raise UnavailableError("apt's sources name no mirror of Debian, or apt-get update was never run")


# ---- vmwatch and what it needs ----


def vmwatch_wheel(into: Path) -> Path:
    """vmwatch as it stands here, built from a copy: a build writes beside its source."""
    source = into / "source"
    shutil.copytree(PROJECT / "vmwatch", source / "vmwatch", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    _pip("wheel", "--no-deps", "--wheel-dir", str(into), str(source))
    return next(into.glob("vmwatch-*.whl"))


def wheels(debian: Debian) -> Path:
    """A folder with the wheels of everything vmwatch needs, for that Debian's Python; the guest has no network."""

    def download(made: Path) -> None:
        machine = platform.machine()
        platforms = [option for name in _PLATFORMS for option in ("--platform", f"{name}_{machine}")]
        _pip(
            *("download", "--dest", str(made), "--only-binary=:all:", "--implementation", "cp"),
            *("--python-version", debian.python, *platforms, *needed()),
        )

    return kept(f"wheels-{debian.python}-{_hash(*needed())}", download)


def needed() -> list[str]:
    """vmwatch's requirements, and the mail server's that stands beside it."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    beside = [one for one in project["optional-dependencies"]["test"] if one.startswith("aiosmtpd")]
    return [*project["dependencies"], *beside]


def environment_name(debian: Debian) -> str:
    return f"opt{debian.release}-{_hash(debian.suite, PACKAGES, *needed())}.tar"


# ---- how things are made and kept ----


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """What is in the cache under that name; made first, and moved there whole, if it is not."""
    if (CACHE / name).exists():
        return CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    # A lock for each name: what is made may need something else that is kept, and a new machine has none of it.
    with (CACHE / f".lock-{name}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CACHE / name).exists():
            fresh = Path(tempfile.mkdtemp(prefix=".making-", dir=CACHE))
            try:
                make(fresh)
                fresh.rename(CACHE / name)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return CACHE / name


@contextmanager
def memory() -> Iterator[Path]:
    """A file system in memory, which can hold device nodes: /tmp and /dev/shm often can't."""
    folder = Path(tempfile.mkdtemp(prefix="vmwatch-root-"))
    do("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        do("umount", "--lazy", str(folder))
        folder.rmdir()


def _pip(*arguments: str) -> None:
    do(sys.executable, "-m", "pip", "--quiet", *arguments, why="pip can't get what vmwatch needs")


def do(*command: str, cwd: str | None = None, environ: dict[str, str] | None = None, why: str = "") -> str:
    ran = subprocess.run(
        command, cwd=cwd, env=os.environ | (environ or {}), text=True, capture_output=True, timeout=400, check=False
    )
    if ran.returncode:
        raise UnavailableError(f"{why or command[0]}: {_last_words(ran.stderr)}")
    return ran.stdout


def _last_words(text: str) -> str:
    return " / ".join(re.findall(r"\S.*", text)[-4:])


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
