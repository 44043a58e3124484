"""What is answered to whom, at the address that the configuration of the moment names."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Self

from vmwatch import settings
from vmwatch.errors import ConfigError, LedgerError, ListenError, UsageError, VmwatchError
from vmwatch.ledger import Ledger
from vmwatch.web.acts import Hands
from vmwatch.web.asked import Answer, BodyError, Request
from vmwatch.web.door import refusal
from vmwatch.web.facts import HEALTH, Facts
from vmwatch.web.kept import Kept
from vmwatch.web.listener import Beside, Listener
from vmwatch.web.page import SHOWN, Page
from vmwatch.web.query import NotThereError, Wanted, wanted

log = logging.getLogger(__name__)

_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - it is what a person may have written
Tell = Callable[[Wanted], Awaitable[Answer]]


class Web:
    """`async with`, then `use`, and again after each reload."""

    _stack: AsyncExitStack

    def __init__(self, facts: Facts, hands: Hands | None = None, beside: Beside | None = None) -> None:
        """Without `hands` the page has no buttons."""
        self._facts = facts
        self._hands = hands
        self._beside = beside
        self._settings = settings.Web(listen="")
        self._listener: Listener | None = None
        self._tell: Mapping[str, Tell] = {}
        self._kept: Kept[Answer] = Kept()
        self._page: Page | None = None

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()
        await self._stack.aclose()

    @property
    def port(self) -> int | None:
        """Where it is listened, if it is."""
        return self._listener.port if self._listener else None

    @property
    def address(self) -> str | None:
        """What a person on this machine opens in a browser."""
        if self._listener is None:
            return None
        host = self._settings.address[0]
        if host in _ANYWHERE:
            host = self._settings.hosts[0] if self._settings.hosts else "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self._listener.port}"

    async def use(self, wanted: settings.Web) -> None:
        """Answer as these settings say. Raises ListenError, ConfigError, LedgerError; all stays as it was then."""
        before, self._settings = self._settings, wanted
        if self._page is not None and wanted != before:
            self._page.end_streams()
        if self._listener is not None and wanted.listen == before.listen:
            return
        await self._close()  # first: the new address may hold the old one, as 0.0.0.0 does
        try:
            self._listener = await self._opened(wanted)
        except VmwatchError:
            self._settings = before
            await self._reopen(before)
            raise

    async def _reopen(self, before: settings.Web) -> None:
        try:
            self._listener = await self._opened(before)
        except VmwatchError as error:
            log.error("%s", error)  # noqa: TRY400 - a sentence

    async def _opened(self, wanted: settings.Web) -> Listener | None:
        if not wanted.listen:
            return None
        await self._look()
        try:
            return await Listener.open(*wanted.address, self._answer, self._beside)
        except OSError as error:
            trouble = _trouble(wanted, error)
        if wanted.is_asked_for:
            raise trouble
        log.warning('%s; vmwatch goes on without: set web.listen to another address, or to ""', trouble)
        return None

    async def _look(self) -> None:
        """Have a connection to the store that can't write, and on which nobody else waits."""
        if not self._tell:
            ledger = await Ledger.look(self._facts.url)
            self._stack.push_async_callback(ledger.close)
            self._page = Page(self._facts, ledger, self._hands, lambda: self._settings)
            self._tell = {path: partial(tell, ledger) for path, tell in self._facts.by_path().items()}

    async def _close(self) -> None:
        listener, self._listener = self._listener, None
        if self._page is not None:
            self._page.end_streams()
        if listener is not None:
            await listener.close()

    async def _answer(self, request: Request) -> Answer:
        page = self._page
        assert page is not None, "there is one before anything is listened on"  # noqa: S101
        is_link = bool(self._settings.public_url) and page.is_link(request.path)
        is_known = request.path in page.open_paths or request.path == "/login" or page.is_known(request)
        paths = (*self._tell, *SHOWN, *sorted(page.open_paths))
        against = refusal(request, self._settings, paths, page.forms, is_known=is_known, is_link=is_link)
        if against is not None and against.status == 401 and (request.path == "/" or "text/html" in request.accept):
            return page.login_form(request)
        if against is not None:
            return against
        return await (page.tapped(request) if is_link else self._looked_up(page, request))

    async def _looked_up(self, page: Page, request: Request) -> Answer:
        try:
            if request.path not in self._tell:
                return await page.answer(request)
            return await self._told(request.path, wanted(request))
        except NotThereError as error:
            return page.refusal(request, 404, str(error))
        except UsageError as error:
            return page.refusal(request, 400, str(error))
        except BodyError as error:
            return page.refusal(request, error.status, str(error))
        except LedgerError as error:
            return page.refusal(request, 503, str(error))

    async def _told(self, path: str, options: Wanted) -> Answer:
        if path == HEALTH:  # which no look-up of others, however slow, makes wait
            return await self._tell[path](options)
        return await self._kept.get((path, options), partial(self._tell[path], options))


def _trouble(wanted: settings.Web, error: OSError) -> VmwatchError:
    """What a restart may mend, for its holder may go or the network come up; and what only a person can."""
    sentence = f"web.listen: {wanted.listen} can't be listened on: {os.strerror(error.errno or 0)}"
    return ConfigError((sentence,)) if isinstance(error, PermissionError) else ListenError(sentence)
