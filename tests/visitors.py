"""A visitor of vmwatch's HTTP server who sends what it is told to, byte by byte, and reads to the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 15.0


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    """By their names in small letters."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


async def ask(
    port: int,
    target: str = "/api/status",
    method: str = "GET",
    *,
    host: str | None = "127.0.0.1",
    body: bytes = b"",
    **headers: str,
) -> Reply:
    """One request; `host=None` sends no Host header, names of headers are written with _ for -."""
    lines = [f"{method} {target} HTTP/1.1", *([f"Host: {host}"] if host is not None else [])]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}"] if body else []
    return await send(port, "\r\n".join([*lines, "", ""]).encode("latin-1") + body)


async def send(port: int, raw: bytes) -> Reply:
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(raw)
            return _reply(await reader.read())
        finally:
            writer.close()
            await writer.wait_closed()


def _reply(raw: bytes) -> Reply:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in rest)
    return Reply(int(first.split()[1]), {name.lower(): value for name, value in headers.items()}, body)
