"""CardDAV servers for tests: Radicale, a real one, and one that answers what it is told to."""

from __future__ import annotations

import logging
import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import quote
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from radicale import config as radicale_config
from radicale.app import Application
from radicale.log import logger as radicale_logger

from vmwatch.settings import CardDav

USER, PASSWORD = "mette", "hidden-pässword"
_BOOK = """<?xml version="1.0"?><create xmlns="DAV:" xmlns:CR="urn:ietf:params:xml:ns:carddav"><set><prop>
<resourcetype><collection/><CR:addressbook/></resourcetype></prop></set></create>"""


@dataclass(frozen=True)
class Asked:
    method: str
    depth: str
    body: str
    authorization: str

    @property
    def hrefs(self) -> list[str]:
        return re.findall(r"<D:href>(.*?)</D:href>", self.body)


@dataclass
class Server:
    """Something that listens; what it was asked is in `record`."""

    url: str
    record: list[Asked] = field(default_factory=list)

    def settings(self, **changes: Any) -> CardDav:
        return CardDav.model_validate({"url": self.url, "user": USER, "password": PASSWORD} | changes)

    @property
    def methods(self) -> list[str]:
        return [asked.method for asked in self.record]


@dataclass
class Radicale(Server):
    def put(self, name: str, *lines: str) -> None:
        text = "\r\n".join(("BEGIN:VCARD", "VERSION:3.0", f"UID:{name}", *lines, "END:VCARD", ""))
        self.ask("PUT", quote(name), text, {"Content-Type": "text/vcard"})

    def delete(self, name: str) -> None:
        self.ask("DELETE", quote(name))

    def ask(self, method: str, name: str, body: str = "", headers: dict[str, str] | None = None) -> None:
        import base64

        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        more = {"Authorization": f"Basic {login}", **(headers or {})}
        request = urllib.request.Request(self.url + name, body.encode(), more, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10):
            self.record.clear()


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


@contextmanager
def _serving(server: Server, app: Callable[[Any, Any], Any], path: str) -> Iterator[None]:
    def recorded(environ: Any, start_response: Any) -> Any:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(size)
        environ["wsgi.input"] = _Body(body)
        asked = (environ["REQUEST_METHOD"], environ.get("HTTP_DEPTH", ""), body.decode("utf-8", "replace"))
        server.record.append(Asked(*asked, environ.get("HTTP_AUTHORIZATION", "")))
        return app(environ, start_response)

    with make_server("127.0.0.1", 0, recorded, server_class=_Threaded, handler_class=_Quiet) as listener:
        server.url = f"http://127.0.0.1:{listener.server_port}{path}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            listener.shutdown()
            thread.join()


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, size: int = -1) -> bytes:
        size = len(self._content) if size < 0 else size
        part, self._content = self._content[:size], self._content[size:]
        return part


@contextmanager
def radicale(folder: Path) -> Iterator[Radicale]:
    """With one empty address book, of which it is the URL."""
    users = folder / "users"
    users.write_text(f"{USER}:{PASSWORD}\n")
    configuration = radicale_config.load()
    configuration.update(
        {
            "auth": {"type": "htpasswd", "htpasswd_filename": str(users), "htpasswd_encryption": "plain", "delay": "0"},
            "storage": {"filesystem_folder": str(folder / "collections")},
        },
        "test",
    )
    radicale_logger.setLevel(logging.CRITICAL)
    server = Radicale("")
    with _serving(server, Application(configuration), f"/{USER}/contacts/"):
        server.ask("MKCOL", "", _BOOK, {"Content-Type": "application/xml"})
        yield server


@contextmanager
def answering(answer: Callable[[Asked], tuple[str, dict[str, str], bytes]], path: str = "/book/") -> Iterator[Server]:
    """`answer` makes status (`207 Multi-Status`), headers and body of whatever is asked for."""
    server = Server("")

    def app(environ: Any, start_response: Any) -> Any:
        status, headers, body = answer(server.record[-1])
        start_response(status, list(headers.items()))
        return [body]

    with _serving(server, app, path):
        yield server
