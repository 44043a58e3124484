"""vmwatch as a service in a guest, with the simulated operator, a webhook and a mail server beside it.

The unit is the shipped one; what only a test needs (less patience) goes into a drop-in. Each `fresh` start has a
line of its own at the operator, so that nothing of one scenario is seen in another.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import roots
from guest import PATIENCE_S, Files, Guest, Ran, Room, booted, until
from roots import CACHE, PROJECT, Debian

UNIT = (PROJECT / "systemd/vmwatch.service").read_text()
CONFIG, CREDENTIALS, STATE = "/etc/vmwatch/config.toml", "/etc/vmwatch/credentials", "/var/lib/private/vmwatch"
DROP_INS = "/etc/systemd/system/vmwatch.service.d"
STORE = f"{STATE}/vmwatch.db"
QUICK = """\
[Unit]
StartLimitIntervalSec=0
[Service]
RestartSec=1s
WatchdogSec=6s
TimeoutStartSec=20s
"""
"""Less patience: the only thing that a test changes of the unit."""
_INSIDE = Path(__file__).parent / "inside"
_HEARD = "/var/lib/beside.jsonl"
_OPERATOR = """\
[Service]
ExecStart=/opt/vmwatch/bin/vmwatch simulate
[Install]
WantedBy=multi-user.target
"""
_BESIDE = f"""\
[Service]
Type=exec
ExecStart=/opt/vmwatch/bin/python /opt/beside/beside.py {_HEARD}
Environment=PYTHONPATH=/opt/beside/lib
[Install]
WantedBy=multi-user.target
"""
_ASK = """\
import json, sys, urllib.request
path, told = json.load(sys.stdin)
told = None if told is None else json.dumps(told).encode()
with urllib.request.urlopen(f"http://127.0.0.1:8479/_simulator/{path}", told, timeout=10) as answer:
    sys.stdout.write(answer.read().decode())
"""


class Proof:
    """What was asserted, and what of it did not hold; a line for each."""

    def __init__(self, where: str, samples: Path | None = None) -> None:
        self.where = where
        self.kept: list[str] = []
        self.broken: list[str] = []
        self.quiet = False
        self.patience_s = PATIENCE_S
        self._samples = samples

    def that(self, sentence: str, holds: object, seen: object = "") -> bool:
        (self.kept if holds else self.broken).append(sentence)
        if not self.quiet:
            found = "" if holds else f"\n        seen: {str(seen).strip()[-1500:]}"
            print(f"{'ok     ' if holds else 'NOT OK '} {self.where}: {sentence}{found}", flush=True)
        return bool(holds)

    def comes(self, sentence: str, condition: Callable[[], bool], seen: Callable[[], object] = str) -> bool:
        """The same for what takes its time."""
        holds = until(condition, self.patience_s)
        return self.that(sentence, holds, "" if holds else seen())

    def sample(self, name: str, text: str) -> None:
        """Keep what a person would see, for the documentation."""
        if self._samples and not self.quiet:
            self._samples.mkdir(parents=True, exist_ok=True)
            shown = re.sub(r"(?m)^ +Drop-In: .*\n +└─test.conf\n", "", text)
            (self._samples / f"{self.where}-{name}.txt".replace(" ", "")).write_text(shown)


class House:
    def __init__(self, guest: Guest, place: int = 0) -> None:
        self.guest = guest
        self.place = place
        self.shipped = UNIT
        self.since = "@0"
        self.number = self.pin = self.label = self.token = ""

    # ---- moving in ----

    def fresh(self, drop_in: str = QUICK) -> None:
        """As after the installation: nothing runs, nothing is stored, nothing was tried."""
        self.place += 1
        self.systemctl("stop", "vmwatch", check=False)
        self.systemctl("reset-failed", "vmwatch", check=False)
        self.guest.remove("/var/lib/vmwatch", STATE, DROP_INS, "/etc/vmwatch")
        self.number, self.pin = f"+45{71920000 + self.place}", _pin(self.place)
        self.label, self.token = f"Home {self.place}", f"canary{self.place}x7fq"
        self.ask("lines", number=self.number, pin=self.pin)
        self.configure()
        self.credentials()
        self.unit(drop_in)
        self.since = f"@{time.time():.3f}"

    @property
    def next_pin(self) -> str:
        """The PIN that the next `fresh` will have."""
        return _pin(self.place + 1)

    def unit(self, drop_in: str = QUICK) -> None:
        self.guest.write("/etc/systemd/system/vmwatch.service", self.shipped)
        self.guest.remove(DROP_INS)
        if drop_in:
            self.guest.write(f"{DROP_INS}/test.conf", drop_in)
        self.systemctl("daemon-reload")

    def configure(self, *, label: str = "", interval: str = "1s") -> None:
        write_configuration(self.guest, self.number, label or self.label, interval)

    def credentials(self, **other: str | None) -> None:
        write_credentials(self.guest, self.pin, self.token, other)

    # ---- the service ----

    def systemctl(self, *arguments: str, check: bool = True) -> Ran:
        return self.guest.run("systemctl", *arguments, check=check)

    def start(self) -> Ran:
        return self.systemctl("start", "vmwatch", check=False)

    def started(self) -> None:
        """Started, and the first polls made."""
        ran = self.start()
        assert ran.status == 0, self.status()
        assert until(lambda: len(self.logins()) > 0), self.status()

    def signal(self, name: str) -> None:
        self.systemctl("kill", "--signal", name, "--kill-whom=main", "vmwatch")

    def show(self, name: str) -> str:
        return self.guest.show("vmwatch", name)

    @property
    def pid(self) -> str:
        pid = self.show("MainPID")
        assert int(pid) > 1, self.status()
        return pid

    @property
    def state(self) -> str:
        return self.show("ActiveState")

    def restarted(self, times: int) -> bool:
        return self.show("NRestarts") == str(times) and self.state == "active"

    def status(self) -> str:
        """What a person asks first. Only this scenario's lines of the journal."""
        shown = self.systemctl("status", "--no-pager", "--full", "--lines=0", "vmwatch", check=False).out
        return f"{shown}\n{self.journal(12)}"

    def journal(self, lines: int = 1000) -> str:
        """Its last lines. Of `--lines` with `--since`, systemd 252 would show the first ones."""
        self.guest.run("journalctl", "--sync")
        said = self.guest.run("journalctl", "--no-pager", "--unit=vmwatch", f"--since={self.since}").out
        return "\n".join(said.splitlines()[-lines:]) + "\n"

    def polls_anew(self, before: str) -> bool:
        """Whether another process than that is ready, and has fed the watchdog, which it does after a round."""
        names = ("MainPID", "ActiveState", "ActiveEnterTimestampMonotonic", "WatchdogTimestampMonotonic")
        shown = self.systemctl("show", *(f"--property={name}" for name in names), "vmwatch").out
        facts = dict(line.split("=", 1) for line in shown.splitlines())
        pid, state, ready, fed = (facts[name] for name in names)
        return pid not in ("0", before) and state == "active" and int(fed) > int(ready) + 20_000

    def vmwatch(self, *arguments: str) -> Ran:
        """A verb, as the administrator would use it."""
        command = ("env", "STATE_DIRECTORY=/var/lib/vmwatch", "/opt/vmwatch/bin/vmwatch", "--config", CONFIG)
        return self.guest.run(*command, *arguments, check=False)

    # ---- the others ----

    def ask(self, what: str, **told: object) -> str:
        """Steer the operator; what is told goes by standard input, where no process list shows it."""
        return self.guest.run("python3", "-c", _ASK, told=json.dumps([what, told or None])).out

    def leave(self, caller: str) -> None:
        self.ask("messages", number=self.number, caller="+4520305071", name=caller, length=12)

    def logins(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.ask(f"log?number=%2B{self.number[1:]}"))["logins"]
        return found

    def heard(self, how: str, words: str) -> list[str]:
        """What a receiver got that has these words and this line's number in it."""
        file = self.guest.path(_HEARD)
        record = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [text for kind, text in record if kind == how and words in text and self._ours(text)]

    def told_once(self, caller: str) -> Callable[[], bool]:
        """Whether both channels told of that caller, once each."""
        return lambda: all(len(self.heard(how, caller)) == 1 for how in ("webhook", "mail"))

    def record(self) -> str:
        """Everything the receivers got."""
        return self.guest.path(_HEARD).read_text() if self.guest.path(_HEARD).exists() else ""

    def _ours(self, text: str) -> bool:
        return self.number in re.sub(r"[ \u00a0]", "", text) or self.label in text

    def receivers(self, act: str) -> None:
        self.systemctl(act, "beside")
        if act == "start":
            self.settled()

    def settled(self) -> None:
        """Wait until the operator and the receivers listen."""
        script = "import socket\nfor port in (8479, 8081, 2525): socket.create_connection(('127.0.0.1', port), 2)"
        assert until(lambda: self.guest.run("python3", "-c", script, check=False).status == 0)


def _pin(place: int) -> str:
    """Eight digits that stand nowhere else by chance."""
    return str(83521907 + 7 * place)


# ---- how a house is built ----


def write_configuration(files: Files, number: str, label: str, interval: str = "1s") -> None:
    files.write(
        CONFIG,
        f"""\
[operator]
base_url = "http://127.0.0.1:8479"
timeout = "5s"
[polling]
interval = "{interval}"
jitter = 0
error_backoff = {{ initial = "1s", max = "2s" }}
[delivery]
retry = {{ initial = "1s", max = "2s", give_up_after = "7d" }}
[lines.home]
number = "{number}"
label = "{label}"
""",
    )


def write_credentials(
    files: Files, pin: str, token: str, other: Mapping[str, str | None] = MappingProxyType({})
) -> None:
    """The secrets' files; another text for some, None to leave one out."""
    mail = f"mailto://127.0.0.1:2525?mode=insecure&from={token}@example.com&to=donald@example.com"
    hook = f"json://127.0.0.1:8081/{token}"
    secrets = {"lines__home__pin": pin, "channels__phone__url": hook, "channels__mail__url": mail, **other}
    files.remove(CREDENTIALS)
    files.path(CREDENTIALS).mkdir(mode=0o700, parents=True)
    for name, text in secrets.items():
        if text is not None:
            files.write(f"{CREDENTIALS}/{name}", text, 0o600)


def furnish(folder: Path) -> None:
    """Before the boot: what stands beside vmwatch, and the unit, ready to be enabled."""
    shutil.copytree(_INSIDE, folder / "opt/beside", dirs_exist_ok=True)
    units = folder / "etc/systemd/system"
    wanted = units / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    for name, text in {"operator": _OPERATOR, "beside": _BESIDE}.items():
        (units / f"{name}.service").write_text(text)
        (wanted / f"{name}.service").symlink_to(f"../{name}.service")


def environment(debian: Debian, room: Room) -> Path:
    """A folder with opt/vmwatch (what vmwatch needs) and opt/beside/lib; made once by a guest, then kept as a tar."""
    kept = CACHE / roots.environment_name(debian)
    if not kept.exists():
        wheels = roots.wheels(debian)

        def bring(folder: Path) -> None:
            shutil.copytree(wheels, folder / "opt/wheels")

        with booted(debian, room, prepare=bring) as guest:
            _install(guest)
            fresh = guest.path("/opt/made.tar")
            guest.run("tar", "-C", "/", "-cf", "/opt/made.tar", "opt/vmwatch", "opt/beside")
            shutil.copy(fresh, kept.with_suffix(".new"))
            kept.with_suffix(".new").rename(kept)
    return room.unpacked(kept)


def _install(guest: Guest) -> None:
    offline = ("--quiet", "--no-index", "--find-links=/opt/wheels")
    guest.run("python3", "-m", "venv", "/opt/vmwatch")
    pip = ("/opt/vmwatch/bin/pip", "install", *offline)
    project = [one for one in roots.needed() if not one.startswith("aiosmtpd")]
    guest.run(*pip, *project, within=300)
    guest.run(*pip, "--target=/opt/beside/lib", "aiosmtpd", within=300)


def program(debian: Debian, room: Room, base: Path) -> Path:
    """A folder with vmwatch itself installed, to be laid over `environment`."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = roots.vmwatch_wheel(Path(folder))
        merged = room.over(base, room.unpacked(roots.root(debian)))
        shutil.copy(wheel, merged / "opt")
        pip = ("/opt/vmwatch/bin/pip", "install", "--quiet", "--no-index", "--no-deps", f"/opt/{wheel.name}")
        roots.do("chroot", str(merged), *pip, why="vmwatch can't be installed")
        roots.do("umount", str(merged))
    return merged.with_name(merged.name.replace("merged", "upper"))
