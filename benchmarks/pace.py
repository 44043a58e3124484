"""What a GET of aiohttp's own costs by how the requests come: flat out, in bunches, or one by one.

    python -m benchmarks.pace [--quick] [--json FILE]

500 requests a second, but for those that are flat out, without a line of vmwatch's: the paces take turns, and each
cell is the median of the rounds, with the least and the most. A daemon that sleeps between bunches finds the
processor's caches cold; this tells how much of its distance to the bare loop is that.
"""

from __future__ import annotations

import asyncio
import os
import time

import aiohttp
from yarl import URL

from benchmarks import bare
from benchmarks.bench import SUBJECT_CORE, number_of, operator, options, report, spread

CONNECTIONS = 100
PACES = {"flat out": (500, 0.0), "500 each second": (500, 1.0), "250 each half a second": (250, 0.5)} | {
    "50 each tenth of a second": (50, 0.1),
    "one by one, each 2 ms": (1, 0.002),
}
"""How many at once, and every how many seconds."""


async def main(base_url: str, rounds: int, requests: int) -> dict[str, list[float]]:
    """Microseconds of CPU a GET, by pace."""
    urls = [URL(f"{base_url}/mvno/voicemail/%2B{number_of(n)[1:]}/1234?box=NEW", encoded=True) for n in range(1000)]
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=90)
    found: dict[str, list[float]] = {pace: [] for pace in PACES}
    async with aiohttp.ClientSession(connector=connector) as session:
        await bare.burst(session, urls, requests, CONNECTIONS)  # the connections
        for _ in range(rounds):
            for pace, (at_once, every) in PACES.items():
                used = await window(session, urls, requests, at_once, every)
                found[pace].append(used / requests * 1e6)
    return found


async def window(session: aiohttp.ClientSession, urls: list[URL], requests: int, at_once: int, every: float) -> float:
    """Seconds of CPU that so many requests took, the waiting in between included."""
    before, began = time.process_time(), time.monotonic()
    for place in range(requests // at_once):
        await asyncio.sleep(max(0.0, began + place * every - time.monotonic()))
        await bare.burst(session, urls, at_once, min(at_once, CONNECTIONS))
    return time.process_time() - before


if __name__ == "__main__":
    chosen = options(__doc__ or "")
    os.sched_setaffinity(0, {SUBJECT_CORE})
    with operator() as cheap:
        figures = asyncio.run(main(cheap.base_url, 2 if chosen.quick else 7, 500 if chosen.quick else 1500))
    rows = [[pace, spread(samples)] for pace, samples in figures.items()]
    report("pace", ("500 GETs a second", "µs of CPU a GET"), rows, figures, chosen.json)
