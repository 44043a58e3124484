"""What a quiet poll costs at 1,000 lines and at 50,000, 500 polls a second each: side by side, thread by thread.

    python -m benchmarks.growth [--quick] [--json FILE]

Both daemons live at once and their windows take turns. The oldest thread is the event loop's; then come SQLite's
writing one and its reading one.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from benchmarks.bench import Daemon, Operator, options, report, spread
from benchmarks.lever import begun
from benchmarks.poll_cost import Size, settle

SIZES = (Size(1_000, 2, 5), Size(50_000, 100, 5))
QUICK = (Size(100, 2, 2), Size(1_000, 20, 2))
WINDOWS, QUICK_WINDOWS = 9, 2
THREADS = ("loop", "writer", "reader")


def main() -> None:
    chosen = options(__doc__ or "")
    sizes, windows = (QUICK, QUICK_WINDOWS) if chosen.quick else (SIZES, WINDOWS)
    with ExitStack() as stack:
        subjects = {size: begun(stack, size) for size in sizes}
        for size, (_, asked) in subjects.items():
            settle(asked, size)
        found: dict[Size, list[list[float]]] = {size: [] for size in sizes}
        for _ in range(windows):
            for size, subject in subjects.items():
                found[size].append(window(*subject, size.window_s))
    columns = {size.lines: list(zip(*samples, strict=True)) for size, samples in found.items()}
    rows = [[f"{lines:,}", *map(spread, column)] for lines, column in columns.items()]
    report("growth, µs a poll", ("lines", "whole", *THREADS), rows, columns, chosen.json)


def window(subject: Daemon, asked: Operator, seconds: float) -> list[float]:
    """Microseconds of CPU a poll: the whole process, then its threads."""
    polls, before = asked.answered(), subject.cpu_s_by_thread()
    time.sleep(seconds)
    count, after = asked.answered() - polls, subject.cpu_s_by_thread()
    used = [(after[thread] - before.get(thread, 0)) / max(count, 1) * 1e6 for thread in sorted(after)]
    return [sum(used), *used[: len(THREADS)]]


if __name__ == "__main__":
    main()
