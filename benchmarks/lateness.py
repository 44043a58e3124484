"""How late due polls start: 10,000 lines every 60 s, by the operator's own log of logins.

Without jitter a line is due at the same place of every minute, which follows from the numbers; what is later than
that by the operator's clock is late. Rounds come each tenth of a second, so half of that is the mean of a machine that
is infinitely fast.
"""

from __future__ import annotations

import time

from benchmarks.bench import config_of, daemon, number_of, operator, options, report, share, wait_for_polls
from vmwatch import decide

LINES, INTERVAL_S, WINDOWS, WINDOW_S = 10_000, 60, 5, 60
QUICK = 200, 5, 2, 10  # whole intervals: in a part of one, places fall as they may


def main() -> None:
    chosen = options(__doc__)
    lines, interval_s, windows, window_s = QUICK if chosen.quick else (LINES, INTERVAL_S, WINDOWS, WINDOW_S)
    with operator() as asked, daemon(config_of(asked, lines, interval_s, jitter=0)):
        wait_for_polls(asked, lines)
        time.sleep(interval_s)
        asked.ask("/_logins")
        found = []
        for _ in range(windows):
            time.sleep(window_s)
            found.append(late(asked.ask("/_logins"), lines, interval_s * 1000))
    titles = ("window", "polls", "p50, ms", "p99, ms", "max, ms")
    figures = [
        {"polls": len(samples), "p50": share(samples, 0.5), "p99": share(samples, 0.99), "max": max(samples)}
        for samples in found
    ]
    rows = [(str(turn), *(f"{figure:,}" for figure in one.values())) for turn, one in enumerate(figures, 1)]
    report(f"lateness, {lines:,} lines every {interval_s} s", titles, rows, figures, chosen.json)
    assert all(len(samples) >= 0.98 * lines * window_s / interval_s for samples in found), "lines were left out"


def late(logins: dict[str, list[int]], lines: int, interval: int) -> list[int]:
    """By how many ms each poll came after its place in the interval."""
    numbers = list(map(number_of, range(lines)))
    grid = decide.grid_of(interval, 0, numbers)
    places = {number: grid.following(number, 0) for number in numbers}
    return [(at - places[number.replace("%2B", "+")]) % interval for number, times in logins.items() for at in times]


if __name__ == "__main__":
    main()
