"""A cheap operator and two channels in a process of their own, so that what is measured is vmwatch and not them.

    python -m benchmarks.operator            prints its port, and serves until it is killed

It answers every list call at once with an unchanging mailbox. Beside that:

    GET  /_count              how many list calls it answered
    GET  /_logins             when it was asked for each number: {number: [ms since 1970, …]}, and forgets them
    GET  /_leave/NUMBER/NAME  leave a message from a caller of this name
    GET  /_alerts             {name: [when the message was first answered, when the channel first heard of it]}
    POST /channel             a channel that takes everything at once
    POST /hanging             a channel that never answers
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import defaultdict

_CALLER = re.compile(rb"caller\d+")


class Operator:
    def __init__(self) -> None:
        self.answered = 0
        self.logins: defaultdict[str, list[int]] = defaultdict(list)
        self.boxes: dict[str, list[str]] = {}
        self.first_answered: dict[str, float] = {}
        self.first_heard: dict[str, float] = {}
        self._quiet = _response(_mailbox([]))

    def answer(self, method: str, path: str, body: bytes) -> bytes | None:
        """The whole response to one request; None where there is none."""
        if path.startswith("/mvno/voicemail/"):
            return self._list(path.split("/")[3])
        if method == "POST":
            return self._hear(path, body)
        return _response(json.dumps(self._asked(path)).encode())

    def _list(self, number: str) -> bytes:
        self.answered += 1
        self.logins[number].append(time.time_ns() // 1_000_000)
        names = self.boxes.get(number)
        if not names:
            return self._quiet
        for name in names:
            self.first_answered.setdefault(name, time.time())
        return _response(_mailbox(names))

    def _hear(self, path: str, body: bytes) -> bytes | None:
        if path == "/hanging":
            return None
        for name in _CALLER.findall(body):
            self.first_heard.setdefault(name.decode(), time.time())
        return _response(b"")

    def _asked(self, path: str) -> object:
        if path == "/_logins":
            logins, self.logins = self.logins, defaultdict(list)
            return logins
        if path.startswith("/_leave/"):
            _, _, number, name = path.split("/")
            self.boxes.setdefault(number, []).append(name)
        if path == "/_alerts":
            return {name: [at, self.first_heard.get(name)] for name, at in self.first_answered.items()}
        return self.answered


class _Connection(asyncio.Protocol):
    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, received: bytes) -> None:
        self._received += received
        while b"\r\n\r\n" in self._received:
            head, _, rest = self._received.partition(b"\r\n\r\n")
            length = int(found[1]) if (found := re.search(rb"(?i)content-length: (\d+)", head)) else 0
            if len(rest) < length:
                return
            self._received = rest[length:]
            method, path, _ = head.split(b" ", 2)
            if answer := self._operator.answer(method.decode(), path.decode(), rest[:length]):
                self._transport.write(answer)


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _mailbox(names: list[str]) -> bytes:
    """As the operator's documentation shows it [api:mvno:voicemail:list], with two messages that were always there."""
    messages = [
        {
            "_id": f"12345678901234567890{name}",
            "voiceAccount": "123457890123457890AAAA",
            "customer": "12345678901234567890ABCD",
            "from": "+4599778822",
            "fromName": name,
            "to": "+4571919998",
            "callId": "cu3848vi34jf03hf9ejhfnihw3ihfnnefu93h9r9tg",
            "date": "2024-01-01T00:00:00.000Z",
            "length": 37,
            "box": "INBOX",
            "played": False,
        }
        for name in ["Donald Duck", "Daisy Duck", *names]
    ]
    box = {"newCount": len(messages), "oldCount": 0, "savedCount": 10, "voicemails": messages}
    return json.dumps(box).encode()


async def main() -> None:
    operator = Operator()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(operator), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
