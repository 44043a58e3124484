"""What the benchmarks share: processes pinned to a core, what the kernel says they used, tables and JSON."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
SUBJECT_CORE, OTHER_CORE = 0, (os.cpu_count() or 1) - 1  # what is measured has a core to itself
CHANNELS = {"phone": "/channel"}
PATIENCE_S = 600.0


def number_of(place: int) -> str:
    return f"+45{20_000_000 + place}"


def options(about: str, *further: str) -> argparse.Namespace:
    """`further` are arguments of the benchmark's own."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in further:
        parser.add_argument(name)
    parser.add_argument("--quick", action="store_true", help="smaller and shorter: does it run at all?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser.parse_args()


# ---- processes ----


def _pinned(core: int) -> Callable[[], None]:
    return lambda: os.sched_setaffinity(0, {core})


@contextlib.contextmanager
def process(*command: str, core: int, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A process on one core, killed at the end."""
    child = subprocess.Popen(command, cwd=ROOT, preexec_fn=_pinned(core), text=True, **more)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


class Operator:
    """The cheap operator in its process, on the other core."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}"

    def ask(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return json.load(connection.getresponse())

    def answered(self) -> int:
        count: int = self.ask("/_count")
        return count


@contextlib.contextmanager
def operator() -> Iterator[Operator]:
    command = (sys.executable, "-m", "benchmarks.operator")
    with process(*command, core=OTHER_CORE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        yield Operator(int(child.stdout.readline()))


@dataclass(frozen=True)
class Daemon:
    """A `vmwatch run`, from the moment that it said READY."""

    process: subprocess.Popen[str]
    ready_s: float
    folder: Path

    def cpu_s(self) -> float:
        """User and system time of all its threads until now."""
        return sum(self.cpu_s_by_thread().values())

    def cpu_s_by_thread(self) -> dict[int, float]:
        """The same by the thread's number, which grows from the oldest on; the scheduler counts in nanoseconds."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return {int(each.parent.name): int(each.read_text().split()[0]) / 1e9 for each in threads}

    def status(self, name: str) -> int:
        """A figure of /proc/PID/status: VmRSS and VmHWM are in kB."""
        return _figure(f"/proc/{self.process.pid}/status", name)

    def written(self) -> int:
        """Bytes that it caused to be written to a disk."""
        return _figure(f"/proc/{self.process.pid}/io", "write_bytes")


def _figure(file: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", Path(file).read_text(), re.MULTILINE)
    assert found
    return int(found[1])


@contextlib.contextmanager
def daemon(config: Mapping[str, Mapping[str, Any]], *, fast: bool = False, before: str = "") -> Iterator[Daemon]:
    """`vmwatch run` on a fresh store, ready; stopped at the end, which must go well.

    `fast`: with uvloop. `before` is Python that its process runs first.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(_notices()) as notices:
        file = Path(folder, "config.toml")
        file.write_text("".join(f"[{name}]\n{_toml(table)}\n" for name, table in config.items()))
        more = {"NOTIFY_SOCKET": "@" + notices.getsockname()[1:].decode()}
        if not fast:
            more["PYTHONPATH"] = str(ROOT / "benchmarks" / "without_uvloop")
        start = ("-c", f"{before}\n{_VMWATCH}") if before else ("-m", "vmwatch")
        command = (sys.executable, *start, "--config", str(file), "run")
        with Path(folder, "said").open("w+") as said:
            began = time.monotonic()
            with process(*command, core=SUBJECT_CORE, env=os.environ | more, stderr=said) as child:
                while not _is_ready(notices):
                    assert child.poll() is None, said.seek(0) or said.read()[-2000:]
                yield Daemon(child, time.monotonic() - began, Path(folder))
                if child.poll() == -signal.SIGKILL:
                    return  # whoever measured wanted it dead
                child.send_signal(signal.SIGTERM)
                assert child.wait(60) == 0, said.seek(0) or said.read()[-2000:]


_VMWATCH = "import runpy; runpy.run_module('vmwatch', run_name='__main__', alter_sys=True)"


def _notices() -> socket.socket:
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(f"\0vmwatch-bench-{os.getpid()}-{time.monotonic_ns()}")
    notices.settimeout(1)
    return notices


def _is_ready(notices: socket.socket) -> bool:
    try:
        return b"READY=1" in notices.recv(65536)
    except TimeoutError:
        return False


def config_of(
    operator: Operator,
    lines: int,
    interval_s: float,
    *,
    concurrency: int = 100,
    jitter: float = 0.1,
    channels: Mapping[str, str] = CHANNELS,
) -> dict[str, dict[str, Any]]:
    """Lines `line0`, `line1`… of the operator; `channels` are paths at its address."""
    tables: dict[str, dict[str, Any]] = {
        "operator": {"base_url": operator.base_url, "concurrency": concurrency},
        "polling": {"interval": f"{interval_s}s", "jitter": jitter, "first_poll": "silent"},
        "web": {"listen": "127.0.0.1:0"},
    }
    tables |= {
        f"channels.{name}": {"url": f"json://127.0.0.1:{operator.port}{path}"} for name, path in channels.items()
    }
    return tables | {f"lines.line{place}": {"number": number_of(place), "pin": "1234"} for place in range(lines)}


def _toml(table: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


def wait_for_polls(operator: Operator, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while operator.answered() < count:
        assert time.monotonic() < deadline, "the lines were not all read in time"
        time.sleep(0.2)


# ---- figures ----


def share(samples: Sequence[float], part: float) -> float:
    """What no more than so large a part of the samples stays below."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def spread(samples: Sequence[float], form: str = "{:.0f}") -> str:
    """`181 (176-190)`: the median, the least and the most."""
    return f"{form.format(median(samples))} ({form.format(min(samples))}-{form.format(max(samples))})"


def report(name: str, titles: Sequence[str], rows: Sequence[Sequence[str]], figures: Any, file: Path | None) -> None:
    """Print a table as it can stand in a document, and write the figures to a file if there is one."""
    machine = f"{os.cpu_count()} cores, {_processor()}, {platform.python_implementation()} {platform.python_version()}"
    print(f"\n{name}: {machine}\n")
    for row in (titles, ["---"] * len(titles), *rows):
        print(f"| {' | '.join(row)} |", flush=True)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"benchmark": name, "machine": machine, "figures": figures}, indent=1) + "\n")


def _processor() -> str:
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()
