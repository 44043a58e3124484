"""The drop-ins that stand ready in systemd/drop-ins, each with the shipped unit."""

from __future__ import annotations

from guest import until
from house import DROP_INS, House, Proof
from roots import PROJECT

FOLDER = PROJECT / "systemd/drop-ins"
_FAILED = "vmwatch-failed@.service"


def _with(house: House, name: str) -> None:
    house.fresh()
    _put_in(house, name)


def _put_in(house: House, name: str) -> None:
    house.guest.write(f"{DROP_INS}/{name}.conf", (FOLDER / f"{name}.conf").read_text())
    house.systemctl("daemon-reload")


def works_with_notify_reload(house: House, proof: Proof) -> None:
    if house.guest.debian.systemd < 253:
        return
    _with(house, "notify-reload")
    house.started()
    pid = house.pid
    house.label = f"Cottage {house.place}"
    house.configure()
    ran = house.systemctl("reload", "vmwatch", check=False)
    house.leave("Donna")
    proof.that("notify-reload: a reload succeeds, and keeps the process", (ran.status, house.pid) == (0, pid), ran)
    proof.comes("notify-reload: it takes effect", house.told_once("Donna"), house.status)
    house.configure(interval="soon")
    house.systemctl("reload", "vmwatch", check=False)
    told = house.show("StatusText")
    proof.that("notify-reload: STATUS says why a reload was refused", "refused" in told, told)
    proof.that("notify-reload: and the old process stays", (house.pid, house.state) == (pid, "active"), house.status())


def works_with_a_static_user(house: House, proof: Proof) -> None:
    house.fresh()
    house.started()
    house.leave("Fethry")
    until(house.told_once("Fethry"))
    house.systemctl("stop", "vmwatch")  # as long as it runs, its dynamic user has that name
    house.guest.run("useradd", "--system", "--home-dir", "/var/lib/vmwatch", "vmwatch")
    try:
        _put_in(house, "static-user")
        _goes_on_as_static_user(house, proof)
    finally:
        house.systemctl("stop", "vmwatch", check=False)
        house.guest.run("userdel", "vmwatch")


def _goes_on_as_static_user(house: House, proof: Proof) -> None:
    ran = house.start()
    owner = house.guest.run("stat", "-c", "%U %a", "/var/lib/vmwatch").out.split()
    proof.that("static user: it takes the store over", (ran.status, owner) == (0, ["vmwatch", "700"]), owner)
    house.leave("Dickie")
    proof.comes("static user: it goes on", house.told_once("Dickie"), house.status)
    proof.that("static user: nothing is told twice", house.told_once("Fethry")(), house.record())


def works_in_the_lan_only(house: House, proof: Proof) -> None:
    _with(house, "lan-only")
    house.started()
    house.leave("Newton")
    proof.comes("LAN only: what is in the own network is reached", house.told_once("Newton"), house.status)
    denied = house.show("IPAddressDeny")
    proof.that("LAN only: nothing else is", "::/0" in denied and "0.0.0.0/0" in denied, denied)


def tells_its_failure(house: House, proof: Proof) -> None:
    _with(house, "on-failure")
    house.guest.write(f"/etc/systemd/system/{_FAILED}", (PROJECT / "systemd" / _FAILED).read_text())
    house.systemctl("daemon-reload")
    house.configure(interval="soon")
    before = len(_lines(house))
    house.start()
    proof.comes("on failure: both channels are told, once", lambda: len(_lines(house)) == before + 2, house.status)
    told = _lines(house)[before:]
    proof.that("on failure: it says what failed", told and all("vmwatch" in text for text in told), told)
    proof.sample("journal-on-failure", house.guest.run("journalctl", "--no-pager", "-u", "vmwatch-failed@*").out)
    unit = f"/etc/systemd/system/{_FAILED}"
    verified = house.guest.run("systemd-analyze", "verify", "--man=no", unit.replace("@", "@vmwatch"), check=False)
    proof.that("on failure: its unit is verified without a word", not verified.out + verified.err, verified)


def _lines(house: House) -> list[str]:
    return house.record().splitlines()


VARIANTS = (works_with_notify_reload, works_with_a_static_user, works_in_the_lan_only, tells_its_failure)
