"""The Debian package under a real systemd: python3 packaged.py RELEASE PACKAGE NEWER-PACKAGE [SAMPLES]

Installed, configured by `vmwatch init`, enabled, upgraded while it runs and while it is stopped, removed, purged. It
prints a sentence for each thing that held; the samples are what docs/install.md shows.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "systemd"))

import prove
from guest import Guest, booted, group, make_room, until
from roots import DEBIANS

NUMBER, PIN = "+4571919998", "1234"
_HOOK = """\
from http.server import BaseHTTPRequestHandler, HTTPServer
class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
HTTPServer(("127.0.0.1", 8081), Hook).serve_forever()
"""


def play(guest: Guest, samples: Path | None) -> None:
    guest.run("apt-get", "install", "--yes", "/opt/vmwatch.deb")
    holds("installed: neither enabled nor started", state(guest) == ("disabled", "inactive"), state(guest))
    configure(guest)
    guest.run("systemctl", "enable", "--now", "vmwatch")
    holds("configured by `vmwatch init` and enabled, it runs", is_well(guest), status(guest))
    holds("`vmwatch status` finds its store", "home" in guest.run("vmwatch", "status").out)
    if samples:
        keep(guest, samples)
    back_up_and_restore(guest)
    first = guest.show("vmwatch", "MainPID")
    upgrade(guest)
    holds("an upgrade restarts it", is_well(guest) and guest.show("vmwatch", "MainPID") != first, status(guest))
    guest.run("systemctl", "stop", "vmwatch")
    guest.run("dpkg", "--install", "/opt/vmwatch.deb")
    upgrade(guest)
    holds("an upgrade leaves it stopped if it was", state(guest) == ("enabled", "inactive"), status(guest))
    guest.run("systemctl", "start", "vmwatch")
    guest.run("apt-get", "remove", "--yes", "vmwatch")
    gone = guest.show("vmwatch", "ActiveState") == "inactive" and guest.show("vmwatch", "LoadState") == "not-found"
    holds("removing it stops it", gone, status(guest))
    guest.run("apt-get", "install", "--yes", "/opt/vmwatch.deb")
    holds("installed again, it is enabled as before", state(guest)[0] == "enabled", state(guest))
    said = guest.run("apt-get", "purge", "--yes", "vmwatch").out
    kept = guest.path("/var/lib/private/vmwatch/vmwatch.db").exists() and not guest.path("/etc/vmwatch").exists()
    wanted = guest.path("/etc/systemd/system/multi-user.target.wants/vmwatch.service")
    holds("purged, it leaves the store alone", kept and "store is kept" in said and not wanted.is_symlink(), said)


def configure(guest: Guest) -> None:
    guest.write("/opt/hook.py", _HOOK)
    guest.run("systemd-run", "--unit=hook", "python3", "/opt/hook.py")
    guest.run("systemd-run", "--unit=operator", "vmwatch", "simulate")
    assert until(lambda: all(listens(guest, port) for port in (8081, 8479)))
    guest.write("/opt/pin", f"{PIN}\n")
    guest.write("/opt/url", "json://127.0.0.1:8081/hook\n")
    flags = ("--number", NUMBER, "--pin-file", "/opt/pin", "--channel-url-file", "/opt/url")
    guest.run("vmwatch", "init", *flags, "--base-url", "http://127.0.0.1:8479")


def listens(guest: Guest, port: int) -> bool:
    script = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
    return guest.run("python3", "-c", script, check=False).status == 0


def back_up_and_restore(guest: Guest) -> None:
    """As docs/install.md has it."""
    guest.run("vmwatch", "backup", "/root/vmwatch.db")
    refused = guest.run("vmwatch", "restore", "/root/vmwatch.db", check=False)
    holds("a backup is made while it runs, and is not restored while it runs", refused.status == 75, refused)
    guest.run("systemctl", "stop", "vmwatch")
    guest.run("vmwatch", "restore", "/root/vmwatch.db")
    guest.run("systemctl", "start", "vmwatch", check=False)
    holds("it runs on the store that was restored", is_well(guest), status(guest))


def upgrade(guest: Guest) -> None:
    guest.run("apt-get", "install", "--yes", "/opt/newer.deb")


def is_well(guest: Guest) -> bool:
    return until(lambda: "1 of 1 lines ok" in guest.show("vmwatch", "StatusText")) and state(guest)[1] == "active"


def state(guest: Guest) -> tuple[str, str]:
    return guest.show("vmwatch", "UnitFileState"), guest.show("vmwatch", "ActiveState")


def status(guest: Guest) -> str:
    return guest.run("systemctl", "status", "--no-pager", "--full", "vmwatch", check=False).out


def keep(guest: Guest, samples: Path) -> None:
    """What a person sees: all is well, a wrong PIN, a refused configuration; and all is well again."""
    samples.mkdir(parents=True, exist_ok=True)
    guest.run("journalctl", "--sync")
    (samples / "status.txt").write_text(status(guest))
    (samples / "journal.txt").write_text(guest.run("journalctl", "--no-pager", "--unit=vmwatch").out)
    for name, file, told in (
        ("wrong-pin", "/etc/vmwatch/credentials/lines__home__pin", "4321\n"),
        ("refused", "/etc/vmwatch/config.toml", '[polling]\ninterval = "soon"\n'),
    ):
        before = guest.path(file).read_text()
        guest.path(file).write_text(told if name == "wrong-pin" else f"{told}{before}")
        guest.run("systemctl", "restart", "vmwatch", check=False)
        until(lambda: "1 of 1 lines ok" not in guest.show("vmwatch", "StatusText"), 5)
        until(lambda: "rejected sent" in status(guest), 5)
        guest.run("journalctl", "--sync")
        (samples / f"{name}.txt").write_text(status(guest))
        guest.path(file).write_text(before)
    guest.run("systemctl", "restart", "vmwatch")
    assert is_well(guest), status(guest)


def holds(sentence: str, condition: object, seen: object = "") -> None:
    assert condition, f"{sentence}: seen: {seen}"
    print(sentence, flush=True)


def main(release: str, package: str, newer: str, samples: str | None = None) -> int:
    debian = DEBIANS[int(release)]
    room = make_room()

    def bring(folder: Path) -> None:
        shutil.copy(package, folder / "opt/vmwatch.deb")
        shutil.copy(newer, folder / "opt/newer.deb")

    with group(), booted(debian, room, prepare=bring) as guest:
        play(guest, Path(samples) if samples else None)
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        sys.exit(main(*sys.argv[2:]))
    alone = [*prove.ALONE, sys.executable, "-B", __file__, "--inside", *sys.argv[1:]]
    sys.exit(subprocess.run(alone, check=False, timeout=300).returncode)
