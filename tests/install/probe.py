"""Runs inside the newcomer's machine, as root and with nothing but the standard library: does what was installed work?

    probe.py service        configure by `vmwatch init`, then run what the installed unit would, as a user of no rights
    probe.py container      configure by files, then run the image's command as the image's user

It prints a sentence for each thing that held, and ends with an assertion for the first that did not.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

NUMBER, PIN, CALLER = "+4571919998", "1234", "Grandma Duck"
CONFIG, CREDENTIALS, STATE = Path("/etc/vmwatch/config.toml"), Path("/etc/vmwatch/credentials"), "/var/lib/vmwatch"
UNITS = (Path("/etc/systemd/system/vmwatch.service"), Path("/usr/lib/systemd/system/vmwatch.service"))
NOBODY = "61234"
PATIENCE_S = 60.0
_HIDDEN = ("/root/", "/home/", "/run/user/")


def holds(sentence: str, condition: object, seen: object = "") -> None:
    assert condition, f"{sentence}: seen: {seen}"
    print(sentence, flush=True)


def comes(sentence: str, condition: Callable[[], object], seen: Callable[[], object] = str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    holds(sentence, condition(), seen())


class Receiver:
    """A webhook: what arrived at it, as text."""

    def __init__(self) -> None:
        heard = self.heard = list[str]()

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                heard.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Hook)
        self.url = f"json://127.0.0.1:{server.server_port}/canary7x7fq"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def told(self, words: str) -> bool:
        return any(words in text for text in self.heard)


def simulated_operator() -> str:
    """Its address."""
    process = subprocess.Popen(["vmwatch", "simulate", "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
    holds("`vmwatch simulate` listens", found)
    assert found
    return found[0]


def leave_message(operator: str) -> None:
    message = {"number": NUMBER, "caller": "+4520305071", "name": CALLER, "length": 12}
    urllib.request.urlopen(f"{operator}/_simulator/messages", json.dumps(message).encode(), timeout=10).close()


def without_rights(uid: str) -> tuple[str, ...]:
    """How a command begins that runs as systemd and compose.yaml would have it."""
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--bounding-set=-all", "--no-new-privs")


def verb(*arguments: str, environ: Mapping[str, str] | None = None, uid: str = "0") -> str:
    ran = subprocess.run(
        [*(without_rights(uid) if uid != "0" else ()), "vmwatch", *arguments],
        env=os.environ | dict(environ or {}),
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    holds(f"`vmwatch {arguments[0]}` ends with 0", ran.returncode == 0, f"{ran.returncode}: {ran.stdout}{ran.stderr}")
    assert PIN not in ran.stdout.replace(NUMBER, "")
    assert "canary" not in ran.stdout + ran.stderr
    return ran.stdout


# ---- a service ----


def configure_by_init(operator: str, url: str) -> None:
    secret = Path("/tmp/phone.url")
    secret.write_text(f"{url}\n")
    Path("/tmp/pin").write_text(f"{PIN}\n")
    flags = ("--number", NUMBER, "--pin-file", "/tmp/pin", "--channel-url-file", f"phone={secret}")
    said = verb("init", *flags, "--base-url", operator)
    holds("it says what to run next", "systemctl enable --now vmwatch" in said, said)
    modes = [oct(path.stat().st_mode & 0o777) for path in (CONFIG, CREDENTIALS, *CREDENTIALS.iterdir())]
    holds("config.toml is 0644, the credentials 0700 and 0600", modes == ["0o644", "0o700", "0o600", "0o600"], modes)
    verb("check")


def the_units_command() -> list[str]:
    unit = next((path for path in UNITS if path.exists()), None)
    holds("there is a unit", unit, UNITS)
    assert unit
    found = re.search(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    assert found
    command = shlex.split(found[1])
    holds(f"its ExecStart is there: {command[0]}", os.access(command[0], os.X_OK))
    ask = "import sys, vmwatch; print(vmwatch.__file__, sys.base_prefix, sys.executable)"
    asked = [_interpreter(command[0]), "-I", "-c", ask]
    code = subprocess.run(asked, text=True, capture_output=True, check=True).stdout
    holds(
        "nothing of it lies where the sandbox hides it", not any(place in f"{command[0]} {code}" for place in _HIDDEN)
    )
    return command


def _interpreter(script: str) -> str:
    return Path(script).read_text().splitlines()[0].removeprefix("#!").split()[0]


def move_in(uid: str) -> dict[str, str]:
    """The state directory and the credentials as systemd would hand them over."""
    given = Path("/tmp/credentials")
    shutil.copytree(CREDENTIALS, given)
    for file in given.iterdir():
        file.rename(given / f"vmwatch_{file.name}")
    Path(STATE).mkdir(exist_ok=True)
    for path in (given, Path(STATE)):
        subprocess.run(["chown", "-R", f"{uid}:{uid}", path], check=True)
    return {"STATE_DIRECTORY": STATE, "CREDENTIALS_DIRECTORY": str(given)}


# ---- a container ----


def configure_by_files(operator: str, url: str, uid: str) -> None:
    """As docs/install.md has it for Docker: secrets of the container's user, a configuration without any."""
    CONFIG.write_text(f'[operator]\nbase_url = "{operator}"\n[lines.home]\nnumber = "{NUMBER}"\n')
    CONFIG.chmod(0o644)
    for name, secret in {"lines__home__pin": PIN, "channels__phone__url": url}.items():
        file = Path("/run/secrets", name)
        file.write_text(f"{secret}\n")
        file.chmod(0o400)
        os.chown(file, int(uid), int(uid))


# ---- both ----


def run(command: list[str], operator: str, hook: Receiver, environ: Mapping[str, str], uid: str, verbs: str) -> None:
    daemon = subprocess.Popen([*without_rights(uid), *command], env=os.environ | dict(environ))
    outside = dict(environ) if verbs != "0" else {}
    comes("it tells what waits in the mailbox", lambda: hook.told("Donald Duck") or daemon.poll())
    leave_message(operator)
    verb("poll", environ=outside, uid=verbs)
    comes("an alert is delivered", lambda: hook.told(CALLER), lambda: hook.heard)
    verb("status", environ=outside, uid=verbs)
    verb("health", environ=outside, uid=verbs)
    daemon.terminate()
    holds("SIGTERM ends it with 0", daemon.wait(30) == 0, daemon.returncode)


def service() -> None:
    operator, hook = simulated_operator(), Receiver()
    configure_by_init(operator, hook.url)
    holds("`init` sent its test alert", len(hook.heard) == 1, hook.heard)
    run(the_units_command(), operator, hook, move_in(NOBODY), NOBODY, verbs="0")


def container() -> None:
    uid, command = sys.argv[2].partition(":")[0], sys.argv[3:]
    operator, hook = simulated_operator(), Receiver()
    configure_by_files(operator, hook.url, uid)
    run(command, operator, hook, {}, uid, verbs=uid)
    written = subprocess.run(
        [*without_rights(uid), "sh", "-c", ": > /opt/vmwatch/x || : > /etc/x"], check=False, capture_output=True
    )
    holds("the root can't be written", written.returncode != 0)


if __name__ == "__main__":
    {"service": service, "container": container}[sys.argv[1]]()
