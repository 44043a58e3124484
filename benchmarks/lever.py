"""What a change is worth that can be written as a line of Python: the CPU of a quiet poll with it and without.

    python -m benchmarks.lever 'import gc; gc.set_threshold = gc.freeze = lambda *_: None'

Two daemons at once, each with 1,000 lines, whose windows take turns: what the machine does otherwise meets both alike.
"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.bench import Daemon, Operator, config_of, daemon, operator, options, report, spread
from benchmarks.poll_cost import CONNECTIONS, Size, settle, window

SIZE, QUICK = Size(1_000, 2, 4), Size(100, 2, 2)
WINDOWS, QUICK_WINDOWS = 11, 2


def main() -> None:
    chosen = options(__doc__ or "", "python")
    size, windows = (QUICK, QUICK_WINDOWS) if chosen.quick else (SIZE, WINDOWS)
    with ExitStack() as stack:
        subjects = {before: begun(stack, size, before) for before in ("", chosen.python)}
        for _, asked in subjects.values():
            settle(asked, size)
        found: dict[str, list[float]] = {before: [] for before in subjects}
        for _ in range(windows):
            for before, (subject, asked) in subjects.items():
                found[before].append(window(subject, asked, size.window_s)[0] * 1e6)
    rows = [[f"`{before}`" if before else "as it is", spread(samples)] for before, samples in found.items()]
    report(f"lever, {size.lines:,} lines", ("", "µs a poll"), rows, found, chosen.json)


def begun(stack: ExitStack, size: Size, before: str = "") -> tuple[Daemon, Operator]:
    asked = stack.enter_context(operator())
    config = config_of(asked, size.lines, size.interval_s, concurrency=CONNECTIONS)
    return stack.enter_context(daemon(config, before=before)), asked


if __name__ == "__main__":
    main()
