"""How long `vmwatch run` takes to be ready, how much memory it keeps, and how much it has written to the disk."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median
from typing import Any

from benchmarks.bench import SUBJECT_CORE, config_of, daemon, operator, options, process, report, wait_for_polls

RUNS = 5
MEMORY = {10: 1, 1_000: 5, 50_000: 120}
"""Lines, and how many seconds apart their polls are."""
WRITTEN_S = 300
QUICK_WRITTEN_S = 20


def main() -> None:
    chosen = options(__doc__)
    sizes = (10, 1_000) if chosen.quick else tuple(MEMORY)
    figures: dict[str, Any] = {
        "version_s": sorted(version_s() for _ in range(RUNS)),
        "ready_s": sorted(ready_s() for _ in range(RUNS)),
        "memory_mb": {lines: memory_mb(lines) for lines in sizes},
        "written": written(QUICK_WRITTEN_S if chosen.quick else WRITTEN_S),
    }
    report("footprint", ("what", "figure"), list(rows(figures)), figures, chosen.json)


def rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    per_day = figures["written"]["bytes_a_day"] / 1e6
    return [
        ("`vmwatch --version`", f"{median(figures['version_s']):.3f} s"),
        ("ready, 10 lines", f"{median(figures['ready_s']):.2f} s"),
        *((f"resident, {lines:,} lines, all read twice", f"{mb:.0f} MB") for lines, mb in figures["memory_mb"].items()),
        ("written, 5 lines every 60 s", f"{per_day / 24:.2f} MB an hour, {per_day:.0f} MB a day"),
    ]


def version_s() -> float:
    began = time.monotonic()
    with process(sys.executable, "-m", "vmwatch", "--version", core=SUBJECT_CORE, stdout=subprocess.PIPE) as child:
        child.communicate()
    return time.monotonic() - began


def ready_s() -> float:
    with operator() as asked, daemon(config_of(asked, 10, 60)) as subject:
        return subject.ready_s


def memory_mb(lines: int) -> float:
    """Once every line was read twice, so that every address, digest and row has been met."""
    with operator() as asked, daemon(config_of(asked, lines, MEMORY[lines])) as subject:
        wait_for_polls(asked, 2 * lines)
        return subject.status("VmRSS") / 1024


def written(seconds: float) -> dict[str, float]:
    """The kernel's own count of bytes that the process caused to be written to a disk; $TMPDIR must be on one."""
    with operator() as asked, daemon(config_of(asked, 5, 60)) as subject:
        wait_for_polls(asked, 10)
        before = subject.written()
        time.sleep(seconds)
        found = subject.written() - before
    return {"seconds": seconds, "bytes": found, "bytes_a_day": found / seconds * 86400}


if __name__ == "__main__":
    main()
