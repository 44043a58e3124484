"""The limit: aiohttp's own GET and nothing else, in a process of its own that bursts when it is told to.

    python -m benchmarks.bare BASE_URL CONNECTIONS [uvloop]

For each line `REQUESTS` on standard input it makes so many, each of its workers one after the other, and prints
the seconds of CPU that took.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Iterator

import aiohttp
from yarl import URL

from benchmarks.bench import number_of


async def main(base_url: str, connections: int) -> None:
    urls = [URL(f"{base_url}/mvno/voicemail/%2B{number_of(n)[1:]}/1234?box=NEW", encoded=True) for n in range(1000)]
    connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=90)
    async with aiohttp.ClientSession(connector=connector) as session:
        for line in iter(sys.stdin.readline, ""):
            print(await burst(session, urls, int(line), connections), flush=True)


async def burst(session: aiohttp.ClientSession, urls: list[URL], requests: int, connections: int) -> float:
    turns = iter(range(requests))
    before = _cpu_s()
    async with asyncio.TaskGroup() as workers:
        for _ in range(connections):
            workers.create_task(ask(session, urls, turns))
    return _cpu_s() - before


async def ask(session: aiohttp.ClientSession, urls: list[URL], turns: Iterator[int]) -> None:
    for turn in turns:
        async with session.get(urls[turn % len(urls)], allow_redirects=False) as response:
            await response.read()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    if sys.argv[3:] == ["uvloop"]:
        import uvloop

        uvloop.run(main(sys.argv[1], int(sys.argv[2])))
    else:
        asyncio.run(main(sys.argv[1], int(sys.argv[2])))
