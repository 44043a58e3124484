"""The page's style sheet, script and icon: files of the package, which browsers keep until they are others."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from vmwatch.web.asked import Answer, Request

FOLDER = Path(__file__).parent / "static"
_KINDS = {
    "/page.css": "text/css; charset=utf-8",
    "/page.js": "text/javascript; charset=utf-8",
    "/icon.svg": "image/svg+xml",
}


class Statics:
    def __init__(self) -> None:
        self._files = {path: (FOLDER / path[1:]).read_bytes() for path in _KINDS}
        self.tags: Mapping[str, str] = {path: f'"{_digest(content)}"' for path, content in self._files.items()}

    def answer(self, request: Request) -> Answer:
        path = request.path
        kept = ("ETag", self.tags[path]), ("Cache-Control", "no-cache")  # to be asked for, and seldom sent
        if self.tags[path] in (tag.strip().removeprefix("W/") for tag in request.known_tag.split(",")):
            return Answer(304, _KINDS[path], b"", kept)
        return Answer(200, _KINDS[path], self._files[path], kept)


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=9).hexdigest()
