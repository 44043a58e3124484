"""Contacts in the daemon and on the command line: the book's name in alerts and lists, the operator's in the ledger."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from address_books import PASSWORD, Radicale, radicale
from receivers import Webhook
from visitors import ask
from world import World, until

METTE = "BEGIN:VCARD\nVERSION:3.0\nFN:Mette\nTEL:20 30 50 71\nEND:VCARD\n"
CALLER, OTHER = "+4520305071", "+4520305072"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Radicale]:
    with radicale(tmp_path) as running:
        yield running


def a_line(world: World, hook: Webhook) -> str:
    number = world.line("home")
    world.channel("phone", hook.url)
    return number


def with_contacts(world: World, text: str = METTE) -> Path:
    path = world.folder / "contacts.vcf"
    path.write_text(text)
    world.config["contacts"] = {"vcards": ["contacts.vcf"]}
    return path


def with_carddav(world: World, server: Radicale, password: str = PASSWORD) -> None:
    world.config["contacts.carddav"] = {"url": server.url, "user": "mette", "password": password}


async def test_alerts_and_lists_have_the_book_s_name_and_the_ledger_the_operator_s(world: World, hook: Webhook) -> None:
    home = a_line(world, hook)
    world.config["web"] = {"listen": "127.0.0.1:0"}
    with_contacts(world)
    async with world.running() as daemon:
        await until(world.state_is("home", "ok"))
        world.operator.leave(home, caller=CALLER, name="METTE S")
        world.operator.leave(home, caller=OTHER, name="Somebody")
        await until(lambda: len(hook.record) == 2)
        port = int(daemon.said().rpartition("answering on http://127.0.0.1:")[2].partition(":")[0])
        page = await ask(port, "/api/messages")
        listed = await world.vmwatch("messages", "--json")
        table = await world.vmwatch("messages")
    titles = {request.body["title"] for request in hook.record}
    assert titles == {"Voicemail from Mette", "Voicemail from Somebody"}
    names = {one["caller"]: (one["caller_name"], one["contact"]) for one in listed.json}
    assert names == {CALLER: ("METTE S", "Mette"), OTHER: ("Somebody", None)}
    assert page.json == listed.json
    assert "Mette" in table.out
    assert "METTE S" not in table.out


async def test_a_reload_takes_another_book(world: World, hook: Webhook) -> None:
    home = a_line(world, hook)
    async with world.running() as daemon:
        await until(world.state_is("home", "ok"))
        with_contacts(world)
        world.write()
        daemon.send(signal.SIGHUP)
        await until(daemon.has_said("the configuration was read again"))
        world.operator.leave(home, caller=CALLER, name="METTE S")
        await until(lambda: len(hook.record) == 1)
    assert hook.record[0].body["title"] == "Voicemail from Mette"


async def test_cron_s_poll_has_names_too(world: World, hook: Webhook, server: Radicale) -> None:
    home = a_line(world, hook)
    world.config["polling"]["first_poll"] = "each"
    with_carddav(world, server)
    server.put("a", "FN:Mette", "TEL:20305071")
    assert (await world.vmwatch("poll")).status == 0  # the first one brings the contacts
    server.record.clear()
    world.operator.leave(home, caller=CALLER, name="METTE S")
    assert (await world.vmwatch("poll", "home")).status == 0
    assert hook.record[0].body["title"] == "Voicemail from Mette"
    assert server.record == []  # the interval is not over


async def test_check_tells_how_many_contacts_there_are_and_where(world: World, hook: Webhook, server: Radicale) -> None:
    a_line(world, hook)
    path = with_contacts(world)
    with_carddav(world, server)
    server.put("a", "FN:Pia", "TEL:20305072", "TEL:20305073")
    checked = await world.vmwatch("check")
    assert f"contacts: 1 card in {path}\n" in checked.out
    assert "contacts: 0 cards from contacts.carddav, synchronised never\n" in checked.out
    assert "contacts: 1 number known, those without a country code as in DK\n" in checked.out
    assert server.record == []
    online = await world.vmwatch("check", "--online")
    assert "contacts: 1 card from contacts.carddav, synchronised " in online.out
    assert "contacts: 3 numbers known" in online.out
    found = (await world.vmwatch("check", "--json")).json["contacts"]
    assert found["vcards"] == [{"path": str(path), "cards": 1, "trouble": None}]
    assert (found["numbers"], found["region"]) == (3, "DK")
    assert found["carddav"]["cards"] == 1
    assert found["carddav"]["trouble"] is None
    assert PASSWORD not in checked.out + online.out


async def test_a_server_in_trouble_is_told_by_check_and_status_and_delays_nothing(
    world: World, hook: Webhook, server: Radicale
) -> None:
    home = a_line(world, hook)
    with_carddav(world, server, password="another-hidden")
    async with world.running() as daemon:
        await until(daemon.has_said("contacts: contacts.carddav: the user name or the password is not accepted"))
        world.operator.leave(home, caller=CALLER, name="METTE S")
        await until(lambda: len(hook.record) == 1)
        status = await world.vmwatch("status")
        checked = await world.vmwatch("check")
        assert daemon.said().count("contacts.carddav") == 1
        assert "hidden" not in daemon.said() + status.out + checked.out
    for told in (status, checked):
        assert "contacts.carddav, synchronised never; in trouble since " in told.out
        assert "the user name or the password is not accepted (HTTP 401)" in told.out
        assert told.status == 0
    assert hook.record[0].body["title"] == "Voicemail from METTE S"
    files = [path for path in world.folder.rglob("*") if path.is_file() and path.name.startswith("contacts")]
    assert [path.name for path in files] == ["contacts.cache"]
    assert "hidden" not in files[0].read_text()


async def test_lists_go_on_without_contacts_that_are_gone(world: World, hook: Webhook) -> None:
    home = a_line(world, hook)
    path = with_contacts(world)
    world.operator.leave(home, caller=CALLER, name="METTE S")
    assert (await world.vmwatch("poll")).status == 0
    path.unlink()
    listed = await world.vmwatch("messages", "--json")
    assert [one["contact"] for one in listed.json] == [None]
    assert "the contacts are left out: " in listed.err
    assert "contacts.vcf does not exist" in listed.err
    status = await world.vmwatch("status")
    assert "contacts.vcf does not exist" in status.out
