"""The life of the service: started, hardened, reloaded, hung, killed, stopped, restarted."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from functools import partial

from guest import until
from house import CONFIG, CREDENTIALS, QUICK, STATE, STORE, House, Proof

SHIPPED = {
    "Type": "notify",
    "NotifyAccess": "main",
    "WatchdogUSec": "2min",
    "Restart": "on-failure",
    "RestartUSec": "1min",
    "StartLimitBurst": "5",
    "StartLimitIntervalUSec": "30min",
}
ITS_OWN = {STATE, "/tmp", "/var/tmp"}
_NOT_THE_UNITS = re.compile("/sys/fs/cgroup/.*/memory.pressure|/run/host/.*")
"""What systemd 254 gives each service of its own, and what nspawn mounts into a guest."""
RESTARTS = 20
_EXPOSURE = re.compile(r"exposure level for vmwatch.service: ([0-9.]+)")


def is_installed(house: House, proof: Proof) -> None:
    house.fresh(drop_in="")
    unit = "/etc/systemd/system/vmwatch.service"
    verified = house.guest.run("systemd-analyze", "verify", "--man=no", unit, check=False)
    proof.that("systemd-analyze verify is silent", verified == type(verified)(0, "", ""), verified)
    scored = house.guest.run(
        "systemd-analyze", "security", "--offline=true", "--threshold=11", "--no-pager", unit, check=False
    )
    level = _EXPOSURE.search(scored.out)
    proof.that("its exposure is 1.1 at most", scored.status == 0 and level, scored.out[-200:])
    proof.sample("security", scored.out)


def starts(house: House, proof: Proof) -> None:
    house.fresh(drop_in="[Service]\nTimeoutStartSec=20s\n" if proof.quiet else "")
    ran = house.start()
    told = house.show("StatusText")
    proof.that("start blocks until READY", ran.status == 0 and "lines ok" in told, f"{ran.err} StatusText={told}")
    found = {name: house.show(name) for name in SHIPPED}
    proof.that("the shipped unit says what systemd goes by", found == SHIPPED, found)
    house.leave("Grandma Duck")
    for how in ("webhook", "mail"):
        proof.comes(
            f"an alert is delivered from inside the sandbox by {how}",
            partial(_heard_once, house, how, "Grandma Duck"),
            lambda: house.record() + house.status(),
        )
    proof.that("nothing was sent that must never be sent", '"violations": []' in house.ask("log"))
    proof.sample("status-running", house.status())
    proof.sample("journal-start", house.journal())


def _heard_once(house: House, how: str, words: str) -> bool:
    return len(house.heard(how, words)) == 1


def is_nobody(house: House, proof: Proof) -> None:
    house.fresh()
    house.started()
    status = house.guest.run("cat", f"/proc/{house.pid}/status").out
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    uid = fields["Uid"].split()[0]
    known = house.guest.run("getent", "-s", "files", "passwd", "vmwatch", check=False)
    proof.that(
        "its user is a dynamic one, made for it alone", 61184 <= int(uid) <= 65519 and known.status, fields["Uid"]
    )
    sets = [fields[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
    proof.that("it has no capability and can get none", {int(one, 16) for one in sets} == {0}, sets)
    proof.that("it can gain no rights", fields["NoNewPrivs"] == "1", status)
    proof.that("its system calls are filtered", fields["Seccomp"] == "2", fields["Seccomp"])
    folder = house.guest.run("stat", "-c", "%a %u", STATE).out.split()
    proof.that("its state directory is its own, 0700", folder == ["700", uid], folder)
    files = house.guest.run("find", STATE, "-type", "f", "-printf", "%m %U %f\n").out.splitlines()
    proof.that(
        "the store's files are its own, 0600", files and all(one.startswith(f"600 {uid} ") for one in files), files
    )
    look = f"sqlite3.connect('file:{STORE}?mode=ro', uri=True).execute('PRAGMA journal_mode').fetchone()"
    mode = house.guest.run("python3", "-c", f"import sqlite3; print({look})").out
    proof.that("SQLite's WAL works in there", "wal" in mode and any(one.endswith(".db-wal") for one in files), mode)


def writes_nowhere_else(house: House, proof: Proof) -> None:
    house.fresh()
    house.started()
    pid, uid = house.pid, house.guest.run("stat", "-c", "%u", STATE).out.strip()
    enter = ("nsenter", "--target", pid, "--mount", "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
    walk = house.guest.path("/opt/beside/walk.py").read_text()
    found = house.guest.run(*enter, "python3", "-", told=walk, within=120).out.splitlines()
    others = _others(found)
    proof.that("nothing but its own places can be written by it", STATE in found and not others, others)
    mounts = house.guest.run("cat", f"/proc/{pid}/mountinfo").out.splitlines()
    others = _others(filter(None, map(_mounted_writable, mounts)))
    proof.that("nor are other places mounted so that anybody could", mounts and not others, others)


def _others(places: Iterable[str]) -> list[str]:
    return [place for place in places if place not in ITS_OWN and not _NOT_THE_UNITS.fullmatch(place)]


def _mounted_writable(mount: str) -> str:
    """Where it is mounted, if it can be written through there. Of /proc and /dev the walk tells more."""
    fields = mount.split()
    kind = fields[fields.index("-") + 1]
    return fields[4] if "rw" in fields[5].split(",") and not (kind == "proc" or fields[4].startswith("/dev/")) else ""


def keeps_secrets(house: House, proof: Proof) -> None:
    house.fresh()
    house.started()
    house.leave("Huey")
    until(house.told_once("Huey"))
    folder = "/run/credentials/vmwatch.service"
    files = house.guest.run("ls", folder, check=False).out.split()
    proof.that("each credential is there, by its name", len(files) >= 3 and "vmwatch_lines__home__pin" in files, files)
    strangers = [
        _as_stranger(house, uid, f"cat {folder}/* {CREDENTIALS}/*; ls {folder} {STATE}") for uid in (65534, 61999)
    ]
    proof.that("nobody else reads the credentials, nor the store", not any(strangers), strangers)
    watched = {
        "environments": "cat /proc/[0-9]*/environ",
        "command lines": "cat /proc/[0-9]*/cmdline",
        "systemctl show": "systemctl show vmwatch; systemctl cat vmwatch; systemctl status --no-pager vmwatch",
        "journal": "journalctl --sync; journalctl --no-pager --output=export",
        "store": f"cat {STATE}/*",
    }
    for name, command in watched.items():
        seen = house.guest.run("sh", "-c", f"{{ {command}; }} 2>/dev/null", check=False).out
        sang = [secret for secret in (house.pin, house.token) if secret in seen]
        proof.that(f"no secret is in the {name}", seen and not sang, sang)


def _as_stranger(house: House, uid: int, command: str) -> str:
    stranger = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "sh", "-c")
    return house.guest.run(*stranger, f"{{ {command}; }} 2>/dev/null", check=False).out


def reloads(house: House, proof: Proof) -> None:
    house.fresh()
    house.started()
    pid = house.pid
    house.label = f"Cottage {house.place}"
    house.configure()
    ran = house.systemctl("reload", "vmwatch", check=False)
    house.leave("Dewey")
    proof.that("a reload succeeds", ran.status == 0, ran.err + house.status())
    proof.comes("it takes effect", house.told_once("Dewey"), house.record)
    proof.that("it keeps the process", house.pid == pid)
    house.configure(interval="soon")
    ran, seen = house.systemctl("reload", "vmwatch", check=False), len(house.logins())
    proof.that("a refused reload fails", ran.status != 0, ran)
    proof.comes("it leaves the old process running", lambda: (house.pid, house.state) == (pid, "active"), house.status)
    proof.comes("which goes on polling", lambda: len(house.logins()) > seen + 1, house.status)
    told = house.show("StatusText")
    proof.that("STATUS says why it was refused", "polling.interval" in told and "refused" in told, told)
    proof.sample("status-reload-refused", house.status())
    house.configure()
    house.systemctl("reload", "vmwatch", check=False)
    told = house.show("StatusText")
    proof.that("STATUS forgets it once the file is right", "refused" not in told, told)


def survives_being_killed(house: House, proof: Proof) -> None:
    house.fresh()
    house.started()
    house.receivers("stop")
    house.leave("Louie")
    until(lambda: "phone" in house.show("StatusText"))
    house.signal("KILL")
    house.receivers("start")
    proof.comes("killed, it is started again", lambda: house.restarted(1), house.status)
    proof.comes("what it owed is delivered then, once", house.told_once("Louie"), house.record)


def survives_being_stopped_dead(house: House, proof: Proof) -> None:
    """SIGSTOP: nothing in the process runs any more."""
    house.fresh()
    house.started()
    house.signal("STOP")
    house.leave("Scrooge")
    proof.comes("a process that stands still is ended and started again", lambda: house.restarted(1), house.status)
    _was_told_why(house, proof, "stands still")
    proof.comes("what came meanwhile is told, once", house.told_once("Scrooge"), house.record)


def survives_a_hung_loop(house: House, proof: Proof) -> None:
    """A library that waits for ever, in the event loop's thread."""
    house.fresh(QUICK + "Environment=PYTHONPATH=/opt/beside/hang\n")
    house.started()
    house.receivers("stop")
    house.leave("Gladstone")
    until(lambda: "phone" in house.show("StatusText"))
    house.signal("USR1")
    house.leave("Gyro")
    house.receivers("start")
    proof.comes("a hung event loop is ended by the watchdog", lambda: house.restarted(1), house.status)
    _was_told_why(house, proof, "hangs")
    proof.that("the stack names the place where it hung", "in hang" in house.journal(), house.journal())
    proof.comes("what it owed is delivered, once", house.told_once("Gladstone"), house.record)
    proof.comes("and what came meanwhile", house.told_once("Gyro"), house.record)
    proof.sample("journal-watchdog", house.journal())


def _was_told_why(house: House, proof: Proof, what: str) -> None:
    journal = house.journal()
    proof.that(f"the journal says that the watchdog ended what {what}", "Watchdog timeout" in journal, journal)
    aborted = "Fatal Python error: Aborted" in journal and re.search(r'File ".*daemon.*", line \d+', journal)
    stack = aborted or ("Fatal Python error: Aborted" in journal and 'File "' in journal)
    proof.that(f"the journal has the Python stack of what {what}", stack, journal)


def stops(house: House, proof: Proof) -> None:
    house.fresh()
    house.systemctl("enable", "vmwatch")  # systemd forgets how an unit ended that nothing asks for
    house.started()
    began = time.monotonic()
    house.systemctl("stop", "vmwatch")
    took = time.monotonic() - began
    ended = {name: house.show(name) for name in ("ActiveState", "Result", "ExecMainCode", "ExecMainStatus")}
    well = {"ActiveState": "inactive", "Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0"}
    proof.that("stopped, it ends with 0", ended == well, ended)
    proof.that("within the time it was given", took < 15, took)
    house.systemctl("disable", "vmwatch")
    proof.sample("status-stopped", house.status())


def refuses_broken_configuration(house: House, proof: Proof) -> None:
    house.fresh()
    house.configure(interval="soon")
    ran = house.start()
    proof.that("with a broken configuration, start fails", ran.status != 0, ran)
    ended = [house.show(name) for name in ("ExecMainStatus", "SubState", "NRestarts")]
    proof.that("it ends with 78 and is not started again", ended == ["78", "failed", "0"], ended)
    shown = house.status()
    proof.that("systemctl status has the reason", f"{CONFIG}:5: polling.interval:" in shown, shown)
    proof.that("no login was spent on it", not house.logins())
    proof.sample("status-configuration-refused", shown)


def gives_up_a_crash_loop(house: House, proof: Proof) -> None:
    """By the limits of the shipped unit: only the pause between two starts is shorter."""
    house.fresh("[Service]\nRestartSec=200ms\n")
    house.systemctl("start", "vmwatch")
    until(lambda: len(house.logins()) > 0)
    house.systemctl("stop", "vmwatch")
    spent = len(house.logins())
    house.systemctl("reset-failed", "vmwatch", check=False)
    house.guest.run("sh", "-c", f"head -c 65536 /dev/urandom >{STORE}; rm -f {STORE}-wal {STORE}-shm")
    house.start()
    proof.comes("a crash loop ends", lambda: "repeated too quickly" in house.journal(), house.status)
    proof.that("in the state failed", until(lambda: house.state == "failed"), house.status())
    ended = house.journal().count("Main process exited")
    proof.that("after five starts", ended == 5, f"{ended}\n{house.journal()}")
    shown = house.status()
    proof.that(
        "systemctl status has the reason for it", re.search(r"vmwatch\.db.*is not a vmwatch store", shown), shown
    )
    proof.that("no login was spent on it either", len(house.logins()) == spent, house.logins())
    proof.sample("status-crash-loop", shown)


def spends_one_login(house: House, proof: Proof, restarts: int = RESTARTS) -> None:
    house.fresh(QUICK.replace("RestartSec=1s", "RestartSec=100ms"))
    house.credentials(lines__home__pin="9461")
    house.start()
    until(lambda: len(house.logins()) > 0 and "PIN" in house.show("StatusText"))
    shown = house.status()
    for count in range(restarts):
        _restart(house, count)
    many = {20: "twenty"}.get(restarts, str(restarts))
    logins = house.logins()
    proof.that(f"a wrong PIN costs one login over {many} restarts", len(logins) == 1, f"{len(logins)}: {logins[:3]}")
    told = [len(house.heard(how, "PIN")) for how in ("webhook", "mail")]
    proof.that("and one alert on each channel", told == [1, 1], house.record())
    proof.that("STATUS says that it needs a person", re.search(r"0 of 1 lines ok; home: .*PIN", shown), shown)
    proof.sample("status-wrong-pin", shown)


def _restart(house: House, count: int) -> None:
    """In turns as a person does it, the out-of-memory killer, and the watchdog; then a round of polls."""
    before = house.pid
    if count % 3:
        house.signal("KILL" if count % 3 == 1 else "ABRT")
    else:
        house.systemctl("restart", "vmwatch")
    assert until(lambda: house.polls_anew(before)), house.status()
    time.sleep(0.3)  # A poll that was begun would have reached the operator by then.


LIFE = (
    is_installed,
    starts,
    is_nobody,
    writes_nowhere_else,
    keeps_secrets,
    reloads,
    survives_being_killed,
    survives_being_stopped_dead,
    survives_a_hung_loop,
    stops,
    refuses_broken_configuration,
    gives_up_a_crash_loop,
    spends_one_login,
)
