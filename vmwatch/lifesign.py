"""The dead-man's switch: somebody elsewhere is told once a minute that vmwatch watches, and notices when that stops.

Services that are pinged so (healthchecks, Uptime Kuma's push) are told of trouble by the same way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit, urlunsplit

import aiohttp

log = logging.getLogger(__name__)

EVERY_S = 60.0
PATIENCE_S = 10.0
_SUCCESS = 2
"""The first digit of what means it; a redirect is not followed, and so is none."""
_UPTIME_KUMA = "/api/push/"


class LifeSign:
    """Told how each round ended; pings are tasks of `tasks`, whose owner ends them. Nothing waits for them."""

    def __init__(self, tasks: asyncio.TaskGroup, now: Callable[[], float] = time.monotonic) -> None:
        self._tasks = tasks
        self._now = now
        self._url: str | None = None
        self._last: float | None = None
        self._under_way: asyncio.Task[None] | None = None
        self._said = ""

    def use(self, url: str | None) -> None:
        if url != self._url:
            self._url, self._last = url, None

    def round_ended(self, *, well: bool) -> None:
        """Ping, unless that was done within the last minute or is being done."""
        is_early = self._last is not None and self._now() - self._last < EVERY_S
        if self._url is not None and not is_early and self._under_way is None:
            self._last = self._now()
            self._under_way = self._tasks.create_task(
                self._ping(target(self._url, well=well)), name="ping heartbeat.url"
            )

    async def stop(self) -> None:
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.wait([self._under_way])

    async def _ping(self, url: str) -> None:
        try:
            self._say(await _ask(url))
        finally:
            self._under_way = None

    def _say(self, trouble: str) -> None:
        """Once when it begins to fail, once when it is over."""
        if trouble and trouble != self._said:
            log.warning("heartbeat.url can't be pinged: %s", trouble)
        elif self._said and not trouble:
            log.info("heartbeat.url can be pinged again")
        self._said = trouble


async def _ask(url: str) -> str:
    """What went wrong, in words that have no URL in them."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(url, allow_redirects=False, headers={"User-Agent": "vmwatch"}) as answer,
        ):
            return "" if answer.status // 100 == _SUCCESS else f"HTTP {answer.status}"
    except TimeoutError:
        return f"no answer in {PATIENCE_S:.0f} s"
    except (aiohttp.ClientError, OSError, ValueError):
        return "no connection"


def target(url: str, *, well: bool) -> str:
    """Where to tell how it is: healthchecks is told of trouble at `/fail`, Uptime Kuma by `status=down`."""
    parts = urlsplit(url)
    if _UPTIME_KUMA in parts.path:
        status = urlencode({"status": "up" if well else "down", "msg": "OK" if well else "vmwatch is in trouble"})
        return urlunsplit(parts._replace(query=status, fragment=""))
    return url if well else urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/fail"))
