"""CPU a job of what people use instead: urlwatch, and a script of curl, jq and a file of ids."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bench import SUBJECT_CORE, Operator, number_of, process

URLWATCH = Path(sys.executable).with_name("urlwatch")
JOBS = 200
RUNS = 5
_SCRIPT = """
for number in {numbers}; do
  curl -s "{base_url}/mvno/voicemail/$number/1234?box=NEW" | jq -r '.voicemails[]._id' | sort > fresh
  comm -13 seen fresh; cp fresh seen
done
"""


def costs(asked: Operator) -> Iterator[tuple[str, list[float]]]:
    """Name, and microseconds of CPU a job in each run, of those that are installed."""
    if URLWATCH.exists():
        yield "urlwatch, a job of a warm batch", _runs(_urlwatch, asked)
    if shutil.which("curl") and shutil.which("jq"):
        yield "a script of curl and jq, a line", _runs(_script, asked)


def _runs(measure: Any, asked: Operator) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        measure(asked, Path(folder))  # so that it has seen everything once
        return [measure(asked, Path(folder)) for _ in range(RUNS)]


def _urlwatch(asked: Operator, folder: Path) -> float:
    """What `JOBS` jobs take beyond what one takes: its start, which a batch has once, is left out."""
    return (_batch(asked, folder, JOBS) - _batch(asked, folder, 1)) / (JOBS - 1) * 1e6


def _batch(asked: Operator, folder: Path, jobs: int) -> float:
    addresses = (f"url: {asked.base_url}/mvno/voicemail/%2B{number_of(n)[1:]}/1234?box=NEW\n" for n in range(jobs))
    (folder / f"{jobs}.yaml").write_text("---\n".join(addresses))
    (folder / "urlwatch.yaml").write_text("report: {}\n")
    files = {"--urls": f"{jobs}.yaml", "--config": "urlwatch.yaml", "--cache": f"{jobs}.db", "--hooks": "hooks.py"}
    return _cpu_s(str(URLWATCH), *(f"{key}={folder / name}" for key, name in files.items()))


def _script(asked: Operator, folder: Path) -> float:
    numbers = " ".join(number_of(place).replace("+", "%2B") for place in range(20))
    (folder / "seen").touch()
    script = f"cd {folder}\n" + _SCRIPT.format(numbers=numbers, base_url=asked.base_url)
    return _cpu_s("sh", "-c", script) / 20 * 1e6


def _cpu_s(*command: str) -> float:
    before = _children()
    with process(*command, core=SUBJECT_CORE, stdout=subprocess.DEVNULL) as child:
        assert child.wait(300) == 0, command
    return _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
