"""What stands beside vmwatch inside the guest: a webhook and a mail server that write down what they get."""

import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

from aiosmtpd.controller import Controller

RECORD, LOCK = Path(sys.argv[1]), Lock()


def note(how: str, what: str) -> None:
    with LOCK, RECORD.open("a") as record:
        record.write(json.dumps([how, what]) + "\n")


class Webhook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        note("webhook", f"{json.loads(body)['title']}\n{json.loads(body)['message']}")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """The address has a secret in it."""


class Mail:
    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        import email
        import email.policy

        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        body = letter.get_body(("plain", "html"))
        note("mail", f"{letter['Subject']}\n{body.get_content() if body else ''}")
        return "250 yes"


mail = Controller(Mail(), hostname="127.0.0.1", port=2525, enable_SMTPUTF8=True)
mail.start()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer(("127.0.0.1", 8081), Webhook).serve_forever()
