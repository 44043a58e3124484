"""A booted Debian: systemd as the first process of a container without a network.

    with booted(debian, room) as guest:
        guest.write("/etc/motd", "hello")
        guest.run("systemctl", "is-system-running")

To be used in mount and process namespaces of one's own (`prove` makes them): whatever is mounted or started here
ends with them. Nothing is ever ended by a number that could be another's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import roots
from roots import Debian, UnavailableError

PATIENCE_S = 40.0
"""How long anything that must happen may take: far more than it needs, for a machine that does other things too."""
_LOOK_AGAIN_S = 0.1
_GROUPS = Path("/sys/fs/cgroup")
_OURS = "vmwatch-test-"
_LONG_AGO_S = 3600
"""A control group of ours that is older than this was left behind by a run that was killed."""
_NSPAWN = (
    *("--register=no", "--keep-unit", "--private-network", "--console=pipe", "--link-journal=no"),
    *("--capability=CAP_BPF,CAP_NET_ADMIN,CAP_PERFMON", "--system-call-filter=bpf", "--boot"),
)


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str


class Files:
    """A root's files, as they are reached from outside. Not for /run, /tmp and /dev, which a guest has of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, path: str) -> Path:
        return self._folder / path.lstrip("/")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def remove(self, *paths: str) -> None:
        for file in map(self.path, paths):
            if file.is_dir() and not file.is_symlink():
                shutil.rmtree(file)
            else:
                file.unlink(missing_ok=True)


class Guest(Files):
    def __init__(self, debian: Debian, folder: Path, leader: int) -> None:
        super().__init__(folder)
        self.debian = debian
        self._leader = leader

    def run(self, *command: str, told: str = "", check: bool = True, within: float = 90) -> Ran:
        """A command inside, as root, with an environment of its own; `told` is its standard input."""
        enter = (
            "nsenter",
            "--target",
            str(self._leader),
            "--all",
            "env",
            "-i",
            "LANG=C.UTF-8",
            "PATH=/usr/sbin:/usr/bin",
        )
        ended = subprocess.run(
            [*enter, *command],
            input=told,
            text=True,
            errors="replace",
            capture_output=True,
            timeout=within,
            check=False,
        )
        assert not (check and ended.returncode), f"{' '.join(command)}: {ended.stdout}{ended.stderr}"
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).out.strip()


def until(condition: Callable[[], bool], within: float = PATIENCE_S) -> bool:
    """Look again and again whether something is so; False when it takes too long."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True


class Room:
    """Memory to work in: unpacked roots, and what each guest changes in them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def unpacked(self, tar: Path) -> Path:
        folder = self._folder / tar.stem
        if not folder.exists():
            folder.mkdir()
            _do("tar", "-C", str(folder), "-xf", str(tar))
        return folder

    def over(self, *below: Path) -> Path:
        """A folder that shows all of these, the first on top; what is written there stays out of them."""
        self._count += 1
        upper, work, merged = (self._folder / f"{name}{self._count}" for name in ("upper", "work", "merged"))
        for folder in (upper, work, merged):
            folder.mkdir()
        lower = ":".join(map(str, below))
        _do("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", str(merged))
        return merged


def make_room() -> Room:
    """Memory on /run, and control groups where nspawn looks for them: for this mount namespace alone."""
    _do("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    _do("umount", "--recursive", str(_GROUPS))
    _do("mount", "-t", "cgroup2", "cgroup2", str(_GROUPS))
    folder = Path("/run/room")
    folder.mkdir()
    return Room(folder)


@contextmanager
def group() -> Iterator[None]:
    """A control group of our own, in which the guests' are made; none of them is left behind."""
    for left in _GROUPS.glob(f"{_OURS}*"):
        if time.time() - left.stat().st_mtime > _LONG_AGO_S:
            _remove_group(left)
    ours = _GROUPS / f"{_OURS}{os.urandom(4).hex()}"
    ours.mkdir()
    before = _GROUPS / Path("/proc/self/cgroup").read_text().split("0::/")[1].strip()
    (ours / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (before / "cgroup.procs").write_text(str(os.getpid()))
        until(lambda: _remove_group(ours), 5)


def _remove_group(top: Path) -> bool:
    """Whether it is gone; one that is in use stays."""
    if "populated 1" in (top / "cgroup.events").read_text():
        return False
    for folder, _, _ in os.walk(top, topdown=False):
        Path(folder).rmdir()
    return True


@contextmanager
def booted(
    debian: Debian, room: Room, *more: Path, prepare: Callable[[Path], None] = lambda _: None
) -> Iterator[Guest]:
    """Boot it, with these folders laid over its root, and after `prepare` had its way with the files."""
    folder = room.over(*more, room.unpacked(roots.root(debian)))
    prepare(folder)
    console = folder.with_suffix(".console")
    tools = roots.tools()
    with console.open("w") as said:
        process = subprocess.Popen(
            [str(tools / "usr/bin/systemd-nspawn"), "--directory", str(folder), *_NSPAWN],
            env=os.environ | {"LD_LIBRARY_PATH": str(_libraries(tools))},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            yield _up(Guest(debian, folder, _leader(process, console)), console)
        finally:
            _end(process)
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def _libraries(tools: Path) -> Path:
    return next(tools.glob("usr/lib/*/systemd/libsystemd-shared-*.so")).parent


def _leader(process: subprocess.Popen[bytes], console: Path) -> int:
    """The guest's first process, nspawn's child that comes to stay."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def first() -> int:
        found = children.read_text().split() if process.poll() is None else []
        return int(found[0]) if len(found) == 1 else 0

    def is_systemd() -> bool:
        if process.poll() is not None:
            raise UnavailableError(f"systemd-nspawn does not run here: {console.read_text()[-600:].strip()}")
        return first() > 1 and Path(f"/proc/{first()}/comm").read_text().strip() == "systemd"

    if not until(is_systemd):
        raise UnavailableError(f"the guest did not boot: {console.read_text()[-600:].strip()}")
    return first()


def _up(guest: Guest, console: Path) -> Guest:
    """The guest, once everything that starts at boot has started."""

    def running() -> bool:
        state = guest.run("systemctl", "is-system-running", check=False).out.strip()
        return state in ("running", "degraded")

    if not until(running):
        jobs = guest.run("systemctl", "list-jobs", check=False)
        raise UnavailableError(f"the guest did not come up: {jobs.out}{jobs.err}{console.read_text()[-600:]}")
    return guest


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM asks the guest to shut down; when that takes too long, nspawn goes and takes it along."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _do(*command: str) -> None:
    ended = subprocess.run(command, text=True, capture_output=True, check=False)
    if ended.returncode:
        raise UnavailableError(f"{command[0]} is refused here: {ended.stderr.strip()}")


def missing() -> str:
    """What this machine lacks for all this, as a sentence; nothing where it lacks nothing."""
    if os.uname().sysname != "Linux":
        return "a booted systemd needs Linux"
    if os.geteuid() != 0:
        return "a booted systemd needs root"
    gone = [
        name
        for name in ("apt-get", "dpkg", "perl", "unshare", "setpriv", "nsenter", "mount", "tar")
        if not shutil.which(name)
    ]
    return f"a booted systemd needs {', '.join(gone)}" if gone else ""
