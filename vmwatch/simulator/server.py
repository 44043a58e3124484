"""The simulated operator as a server: the two documented calls, and the way to steer it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, Self

from aiohttp import web

from vmwatch.models import HOUR, SECOND, Box, Duration, Instant
from vmwatch.simulator.exchange import REFUSALS, Exchange, Login, Verdict, refused
from vmwatch.simulator.odd import Odd, json_answer, spoil

_PATIENCE = 0.05
"""Seconds that stopping waits for answers under way; hanging ones would never end."""


def _wall_clock() -> Instant:
    return time.time_ns() // 1_000_000


class Simulator(Exchange):
    """An operator at an address. `async with Simulator() as operator: operator.base_url`.

    `delay` (ms) is how long each ordinary answer takes. `now` is asked for dates and for lock-outs.
    """

    base_url: str
    _runner: web.AppRunner

    def __init__(
        self,
        *,
        lock_after: int = 3,
        lock_for: Duration | None = HOUR,
        delay: Duration = 0,
        now: Callable[[], Instant] = _wall_clock,
    ) -> None:
        super().__init__(now, lock_after, lock_for)
        self.delay = delay
        self._queued: defaultdict[str, deque[Odd]] = defaultdict(deque)
        self._standing: dict[str, Odd] = {}
        self._under_way: Counter[str] = Counter()
        self._most: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listens, and tells its address. Raises OSError when the port is taken."""
        # The access log would print PINs. A client that went away must not count as still under way.
        self._runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=_PATIENCE
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        address = self._runner.addresses[0]
        self.base_url = f"http://[{address[0]}]:{address[1]}" if ":" in host else f"http://{host}:{address[1]}"
        return self.base_url

    async def stop(self) -> None:
        await self._runner.cleanup()

    def odd(self, number: str, what: Odd | str | None, times: int | None = None) -> None:
        """The next `times` answers to this number are odd, after those queued before; None: all, from then on.

        `what` None: no more oddities. Raises ValueError for a word that Odd does not know.
        """
        if what is None:
            self._queued.pop(number, None)
            self._standing.pop(number, None)
        elif times is None:
            self._standing[number] = Odd(what)
        else:
            self._queued[number].extend([Odd(what)] * times)

    def most_at_once(self, number: str) -> int:
        """The greatest number of requests that were under way at once for one line."""
        return self._most[number]

    def _application(self) -> web.Application:
        application = web.Application()
        application.add_routes(
            [
                web.get("/mvno/voicemail/{number}/{pin}", self._list, allow_head=False),
                web.get("/mvno/voicemail/{number}/{pin}/pin", self._check, allow_head=False),
                web.get("/_simulator/log", self._show_log, allow_head=False),
                web.post("/_simulator/{what}", self._steer),
                web.route("*", "/{path:.*}", self._never),
            ]
        )
        return application

    async def _list(self, request: web.Request) -> web.StreamResponse:
        box = request.query.get("box", Box.NEW.value)
        return await self._answer(request, box, lambda number: self.listing(number, Box(box)))

    async def _check(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "", lambda _: {"success": True})

    async def _answer(
        self, request: web.Request, box: str, content: Callable[[str], dict[str, Any]]
    ) -> web.StreamResponse:
        number = request.match_info["number"]
        if "Authorization" in request.headers or "Cookie" in request.headers:
            return await self._never(request)
        with self._counted(number):
            verdict = self.login(number, request.match_info["pin"], box)
            if self.delay:
                await asyncio.sleep(self.delay / SECOND)
            return await self._spoilt(request, number, _ordinary(verdict, number, content))

    @contextmanager
    def _counted(self, number: str) -> Iterator[None]:
        self._under_way[number] += 1
        self._most[number] = max(self._most[number], self._under_way[number])
        try:
            yield
        finally:
            self._under_way[number] -= 1

    async def _spoilt(self, request: web.Request, number: str, ordinary: web.Response) -> web.StreamResponse:
        what = self._next_odd(number)
        if what is None:
            return ordinary
        with suppress(ConnectionError):  # the client had enough of it
            return await spoil(what, request, ordinary, self.now())
        return ordinary

    def _next_odd(self, number: str) -> Odd | None:
        queue = self._queued.get(number)
        return queue.popleft() if queue else self._standing.get(number)

    async def _never(self, request: web.Request) -> web.Response:
        """A POST would change the PIN, a HEAD is a login nobody reads, another address may do anything."""
        self._note_violation(request.match_info.get("number", ""))
        return json_answer({"error": {"message": "Not allowed", "code": "method", "status": 405}}, 405)

    async def _show_log(self, request: web.Request) -> web.Response:
        wanted = request.query.get("number")
        numbers = list(self.log) if wanted is None else [wanted]
        logins = [login for number in numbers for login in self.logins(number)]
        return json_answer({"logins": _as_json(logins), "violations": _as_json(self.violations())})

    async def _steer(self, request: web.Request) -> web.Response:
        try:
            done = _STEERING[request.match_info["what"]](self, **await request.json())
        except (KeyError, TypeError, ValueError) as error:
            return json_answer({"error": f"{type(error).__name__}: {error}"}, 400)
        return json_answer({"id": done} if done else {})


_STEERING: dict[str, Callable[..., str | None]] = {
    "lines": Simulator.add_line,
    "flags": Simulator.set_line,
    "messages": Simulator.leave,
    "hear": Simulator.hear,
    "save": Simulator.save,
    "delete": Simulator.delete,
    "set_pin": Simulator.set_pin,
    "unlock": Simulator.unlock,
    "blacklist": Simulator.blacklist,
    "odd": Simulator.odd,
}


def _ordinary(verdict: Verdict, number: str, content: Callable[[str], dict[str, Any]]) -> web.Response:
    if verdict in REFUSALS:
        return json_answer(refused(REFUSALS[verdict]), REFUSALS[verdict].status)
    try:
        return json_answer(content(number))
    except ValueError:
        return json_answer({"error": {"message": "Box is invalid", "code": "box", "status": 422}}, 422)


def _as_json(logins: list[Login]) -> list[dict[str, Any]]:
    return [asdict(login) for login in sorted(logins, key=lambda login: login.at)]
