"""A server that speaks what vmwatch uses of ntfy's API, and the app that shows what it was sent, on 127.0.0.1.

    async with NtfyServer() as ntfy:                     # or NtfyServer(old=True): before 2.16
        await channel.send(...)                          # to ntfy.url ("ntfy://127.0.0.1:PORT/alerts")
        assert ntfy.screen() == ["Voicemail from Donald Duck"]

It follows docs.ntfy.sh/publish and server/server.go: paths, JSON, headers, and the codes of what it refuses.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from receivers import Request, Webhook

TOPIC = "alerts"
_WORD = "[-_A-Za-z0-9]{1,64}"
_TOPIC = re.compile(f"/({_WORD})")
_UPDATE = re.compile(f"/({_WORD})/({_WORD})")
_CLEAR = re.compile(f"/({_WORD})/({_WORD})/(?:read|clear)")


@dataclass
class Event:
    """What the server hands to the apps."""

    event: str
    topic: str
    sequence: str
    title: str = ""
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)


class NtfyServer(Webhook):
    """`login`: the Authorization header that it wants; `old`: a server that knows no sequences."""

    def __init__(self, *, old: bool = False, login: str | None = None) -> None:
        super().__init__()
        self.old = old
        self.login = login
        self.events: list[Event] = []
        self._ids = (f"id{number:08}" for number in itertools.count())

    @property
    def url(self) -> str:
        return f"ntfy://127.0.0.1:{self.port}/{TOPIC}"

    def screen(self, topic: str = TOPIC) -> list[str]:
        """The titles that the app shows, the one that came first on top."""
        shown: dict[str, str] = {}
        for each in self.events:
            if each.topic != topic:
                continue
            if each.event == "message":
                shown[each.sequence] = each.title
            else:
                shown.pop(each.sequence, None)
        return list(shown.values())

    def sounds(self) -> int:
        """How often the app made one: not for what replaces something that is on the screen."""
        shown: set[tuple[str, str]] = set()
        count = 0
        for each in self.events:
            if each.event != "message":
                shown.discard((each.topic, each.sequence))
            elif (each.topic, each.sequence) not in shown:
                shown.add((each.topic, each.sequence))
                count += 1
        return count

    def published(self) -> list[Event]:
        return [each for each in self.events if each.event == "message"]

    def cleared(self) -> list[str]:
        return [each.sequence for each in self.events if each.event == "message_clear"]

    def _yes(self, request: web.BaseRequest, read: str) -> web.Response:
        if self.login is not None and request.headers.get("Authorization") != self.login:
            return _refused(403, 40301, "forbidden")
        found = self._event(request, read)
        if isinstance(found, web.Response):
            return found
        self.events.append(found)
        id_ = next(self._ids)
        found.sequence = found.sequence or id_
        told: dict[str, Any] = {"id": id_, "time": 1, "event": found.event, "topic": found.topic}
        if found.sequence != id_:
            told["sequence_id"] = found.sequence
        return web.json_response(told | {"title": found.title, "message": found.message or "triggered"})

    def _event(self, request: web.BaseRequest, read: str) -> Event | web.Response:
        method, path = request.method, request.path
        if method in ("PUT", "POST") and path == "/":
            told = json.loads(read)
            if not isinstance(told.get("topic"), str) or not re.fullmatch(_WORD, told["topic"]):
                return _refused(400, 40009, "invalid topic: path invalid")
            return self._published(request, told["topic"], told)
        if method in ("PUT", "POST") and (there := _TOPIC.fullmatch(path)):
            return self._published(request, there[1], {"message": read})
        if not self.old and method in ("PUT", "POST") and (there := _UPDATE.fullmatch(path)):
            return self._published(request, there[1], {"message": read}, there[2])
        if not self.old and method == "DELETE" and (there := _UPDATE.fullmatch(path)):
            return Event("message_delete", there[1], there[2])
        if not self.old and method in ("PUT", "GET") and (there := _CLEAR.fullmatch(path)):
            return Event("message_clear", there[1], there[2])
        return _refused(404, 40401, "page not found")

    def _published(
        self, request: web.BaseRequest, topic: str, told: dict[str, Any], sequence: str = ""
    ) -> Event | web.Response:
        sequence = sequence or request.headers.get("X-Sequence-ID", "") or told.get("sequence_id", "")
        if sequence and not re.fullmatch(_WORD, sequence):
            return _refused(400, 40049, "invalid request: sequence ID invalid")
        headers = {name: value for name, value in request.headers.items() if name.startswith("X-")}
        known = "" if self.old else sequence
        return Event("message", topic, known, told.get("title", ""), told.get("message", ""), headers)


def _refused(status: int, code: int, error: str) -> web.Response:
    return web.json_response({"code": code, "http": status, "error": error}, status=status)


def as_sent(request: Request) -> dict[str, Any]:
    """What of a request says something to ntfy; not what every client adds."""
    said = {name.title(): value for name, value in request.headers.items()}
    wanted = ("Authorization", "Content-Type", "User-Agent")
    kept = {name: value for name, value in said.items() if name.startswith("X-") or name in wanted}
    return {"method": request.method, "path": request.path, "body": request.body, **kept}
