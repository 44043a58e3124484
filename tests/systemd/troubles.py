"""What a service meets that nobody wished for: each ends in a clear sentence, nothing lost, no login spent."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from guest import Files, Guest, until
from house import (
    CONFIG,
    CREDENTIALS,
    QUICK,
    STATE,
    STORE,
    UNIT,
    House,
    Proof,
    furnish,
    write_configuration,
    write_credentials,
)

Boot = Callable[[Callable[[Path], None]], AbstractContextManager[Guest]]
_PRIVATE = "/var/lib/private"
_CLOCK = "/etc/clock"
_ANOTHER_CLOCK = f"""\
Environment=LD_PRELOAD=/usr/$LIB/faketime/libfaketime.so.1 FAKETIME_TIMESTAMP_FILE={_CLOCK} FAKETIME_CACHE_DURATION=1
Environment=FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_DISABLE_SHM=1
"""
"""A wall clock for vmwatch alone: the guest's own is the machine's."""


def _refused(house: House, proof: Proof, what: str, words: str, status: str = "78") -> None:
    """It ends at once and for good, says so, and asked the operator nothing."""
    ran = house.start()
    ended = [house.show(name) for name in ("ExecMainStatus", "SubState", "NRestarts")]
    proof.that(
        f"{what}: it ends with {status}, and is not tried again", ran.status and ended == [status, "failed", "0"], ended
    )
    _says(house, proof, what, words)
    proof.that(f"{what}: no login was spent", not house.logins())


def _says(house: House, proof: Proof, what: str, words: str) -> None:
    shown = house.status()
    proof.that(f"{what}: systemctl status says so", re.search(words, shown), shown)
    proof.sample(f"status-{what.replace(' ', '-').replace('/', '')}", shown)


def has_no_configuration(house: House, proof: Proof) -> None:
    house.fresh()
    house.guest.remove(CONFIG)
    _refused(house, proof, "without a configuration", rf"{CONFIG}: there is no such file")


def misses_a_credential(house: House, proof: Proof) -> None:
    house.fresh()
    house.credentials(lines__home__pin=None)
    _refused(house, proof, "without a line's PIN", r"lines\.home\.pin")
    house.guest.remove(CREDENTIALS)
    house.systemctl("reset-failed", "vmwatch")
    _refused(house, proof, "without the credentials' folder", r"lines\.home\.pin")


def cannot_read_a_credential(house: House, proof: Proof) -> None:
    house.fresh()
    house.credentials(lines__home__pin="")
    _refused(house, proof, "with an empty credential", r"lines__home__pin.* empty")
    house.systemctl("reset-failed", "vmwatch")
    house.guest.path(f"{CREDENTIALS}/lines__home__pin").write_bytes(b"\xff\xfe\x00")
    _refused(house, proof, "with a credential that is no text", r"lines__home__pin.* not UTF-8")
    house.systemctl("reset-failed", "vmwatch")
    house.guest.remove(f"{CREDENTIALS}/lines__home__pin")
    house.guest.run("ln", "-s", "/nowhere", f"{CREDENTIALS}/lines__home__pin")
    _refused(house, proof, "with a credential that leads nowhere", r"lines\.home\.pin|credentials")


def finds_anothers_state(house: House, proof: Proof) -> None:
    """As a restored backup leaves it, or a service of before that had another user."""
    house.fresh()
    house.started()
    house.systemctl("stop", "vmwatch")
    house.guest.run("chown", "-R", "4711:4711", STATE)
    ran = house.start()
    proof.that("with a state directory of another user: it takes that over", ran.status == 0, house.status())
    house.leave("Gus")
    proof.comes("with a state directory of another user: nothing is lost", house.told_once("Gus"), house.status)
    house.systemctl("stop", "vmwatch")
    spent = len(house.logins())
    house.guest.run("chown", "0:0", STORE)
    house.start()
    proof.comes("with a store of another user: it fails", lambda: house.show("ExecMainStatus") == "75", house.status)
    _says(
        house, proof, "with a store of another user", r"vmwatch\.db.*(permission|read-?only|opened|not allowed|belongs)"
    )
    proof.that("with a store of another user: no login was spent", len(house.logins()) == spent, house.logins())


def finds_var_full(house: House, proof: Proof) -> None:
    house.fresh()
    house.guest.run("mkdir", "-p", "-m", "700", _PRIVATE)
    house.guest.run("mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", _PRIVATE)
    try:
        _full(house, proof)
    finally:
        house.systemctl("stop", "vmwatch", check=False)
        house.guest.run("umount", _PRIVATE)


def _full(house: House, proof: Proof) -> None:
    _fill(house)
    house.start()
    proof.comes("with /var full at the start: it fails", lambda: house.show("ExecMainStatus") == "75", house.status)
    _says(house, proof, "with /var full at the start", r"(full|no space|No space)")
    proof.that("with /var full at the start: no login was spent", not house.logins(), house.logins())
    _make_room(house)
    proof.comes("with room again, it starts by itself", lambda: len(house.logins()) > 0, house.status)
    house.leave("April")
    until(house.told_once("April"))
    _fill(house)
    proof.comes("with /var full: STATUS says so", lambda: "full" in house.show("StatusText"), house.status)
    _says(house, proof, "with /var full", r"full")
    house.leave("May")
    proof.that(
        "with /var full: it goes on running", house.state == "active" and house.show("NRestarts") != "", house.status()
    )
    _make_room(house)
    proof.comes("with room again, what came meanwhile is told, once", house.told_once("May"), house.status)
    proof.that("and nothing of before a second time", house.told_once("April")(), house.record())


def _fill(house: House) -> None:
    house.guest.run("dd", "if=/dev/zero", f"of={_PRIVATE}/fill", "bs=4k", check=False)


def _make_room(house: House) -> None:
    house.guest.run("rm", f"{_PRIVATE}/fill")


def starts_at_a_wrong_time(house: House, proof: Proof) -> None:
    """As a small computer without a battery does, until it has asked what time it is."""
    house.fresh(QUICK + _ANOTHER_CLOCK)
    config = house.guest.path(CONFIG).read_text()
    wrong = f"+45{72920000 + house.place}"
    house.ask("lines", number=wrong, pin="8352")
    house.guest.write(CONFIG, f'{config}[lines.shop]\nnumber = "{wrong}"\npin = "9461"\n')
    house.guest.write(_CLOCK, "+0\n")
    house.started()
    house.leave("Daisy")
    until(house.told_once("Daisy"))
    house.systemctl("stop", "vmwatch")
    house.guest.write(_CLOCK, "@2001-01-01 00:00:00\n")
    ran = house.start()
    proof.that("with a wrong time at the start: it starts", ran.status == 0, house.status())
    house.leave("Jones")
    proof.comes("with a wrong time at the start: it polls and tells", house.told_once("Jones"), house.status)
    _says(house, proof, "with a wrong time at the start", r"clock")
    house.guest.write(_CLOCK, "+0\n")
    proof.comes("when the clock is set, it says so", lambda: "the clock was set by" in house.journal(), house.status)
    house.leave("Rockerduck")
    proof.comes("when the clock is set, it goes on", house.told_once("Rockerduck"), house.status)
    again = [caller for caller in ("Daisy", "Jones") if not house.told_once(caller)()]
    proof.that("nothing was told twice for it", not again, again)
    spent = house.ask(f"log?number=%2B{wrong[1:]}").count('"at"')
    proof.that("nor a second login spent on a wrong PIN", spent == 1, spent)


# ---- at the boot itself ----

_NO_NETWORK = """\
[Unit]
Before=vmwatch.service
After=operator.service beside.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c "until ss -ltn | grep -q :8479 && ss -ltn | grep -q :8081; do sleep 0.1; done"
ExecStart=ip rule add lookup local pref 9
ExecStart=ip rule del pref 0
ExecStart=ip rule add unreachable to 127.0.0.0/8 pref 5
"""
"""By rules, for systemd 252 sets `lo` up again when it starts a service that has PrivateIPC."""


def boots_without_a_network(boot: Boot, proof: Proof) -> None:
    """The service is enabled, and comes up before the network does."""
    with boot(_without_network) as guest:
        house = House(guest)
        house.number, house.label = "+4571919998", "Home"
        proof.that("booted without a network: there is none", not _is_reached(guest))
        proof.that("enabled, it is started at boot", house.state == "active", house.status())
        proof.comes(
            "booted without a network: STATUS says so", lambda: "home:" in house.show("StatusText"), house.status
        )
        _says(house, proof, "booted without a network", r"0 of 1 lines ok; home: \S+")
        proof.that("booted without a network: it is not started again for that", house.show("NRestarts") == "0")
        guest.run("ip", "rule", "del", "pref", "5")
        house.settled()
        proof.comes("when the network is there, it polls and tells", house.told_once("Donald Duck"), house.status)
        proof.comes("and is well", lambda: house.show("StatusText") == "1 of 1 lines ok", house.status)


def _is_reached(guest: Guest) -> bool:
    connect = "import socket; socket.create_connection(('127.0.0.1', 8479), 2)"
    return guest.run("python3", "-c", connect, check=False).status == 0


def _without_network(folder: Path) -> None:
    furnish(folder)
    units = folder / "etc/systemd/system"
    (units / "no-network.service").write_text(_NO_NETWORK)
    (units / "vmwatch.service").write_text(UNIT)
    for name in ("no-network", "vmwatch"):
        (units / f"multi-user.target.wants/{name}.service").symlink_to(f"../{name}.service")
    files = Files(folder)
    write_configuration(files, "+4571919998", "Home")
    write_credentials(files, "1234", "canary")


TROUBLES = (
    has_no_configuration,
    misses_a_credential,
    cannot_read_a_credential,
    finds_anothers_state,
    finds_var_full,
    starts_at_a_wrong_time,
)
AT_BOOT = (boots_without_a_network,)
