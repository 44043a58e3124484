"""From the operator's answer that first lists a message to the channel's hearing of it, while another channel hangs.

Messages are left one by one at an even pace; each line is polled once a second. Answer and receipt are stamped by one
clock, in the operator's process, which is also the channel: what lies between them is vmwatch and Apprise. Polls begin
at heartbeats, so at 10 alerts a second ten answers come at once, and the channel is told of them one after the other.
"""

from __future__ import annotations

import time
from itertools import count

from benchmarks.bench import Operator, config_of, daemon, number_of, operator, options, report, share, wait_for_polls

RATES = (1, 10, 100)
SECONDS = {1: 60, 10: 30, 100: 15}
QUICK_S = 5
CHANNELS = {"phone": "/channel", "hanging": "/hanging"}


def main() -> None:
    chosen = options(__doc__)
    figures = [measure(rate, QUICK_S if chosen.quick else SECONDS[rate]) for rate in RATES]
    titles = ("alerts a second", "alerts", "p50, ms", "p99, ms", "max, ms")
    rows = [[f"{figure:.0f}" for figure in one.values()] for one in figures]
    report("alert_latency", titles, rows, figures, chosen.json)


def measure(rate: int, seconds: int) -> dict[str, float]:
    with operator() as asked, daemon(config_of(asked, max(rate, 10), 1, channels=CHANNELS)):
        wait_for_polls(asked, 2 * max(rate, 10))
        leave(asked, rate, seconds)
        waited = latencies(asked, rate * seconds)
    return {
        "rate": rate,
        "alerts": len(waited),
        "p50": share(waited, 0.5),
        "p99": share(waited, 0.99),
        "max": max(waited),
    }


def leave(asked: Operator, rate: int, seconds: int) -> None:
    began = time.monotonic()
    for turn in range(rate * seconds):
        time.sleep(max(0, began + turn / rate - time.monotonic()))
        asked.ask(f"/_leave/%2B{number_of(turn % max(rate, 10))[1:]}/caller{turn}")


def latencies(asked: Operator, expected: int) -> list[float]:
    """Milliseconds of every alert; waits for the last of them."""
    for _ in count():
        times = asked.ask("/_alerts").values()
        if len(times) == expected and all(heard for _, heard in times):
            return [(heard - answered) * 1000 for answered, heard in times]
        time.sleep(1)
    return []


if __name__ == "__main__":
    main()
