"""SIGHUP: what a changed configuration does to lines, channels, and whatever is under way."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from receivers import ACCEPT, HANG, Webhook, late, refuse
from world import PIN, WRONG_PIN, Running, World, number_of, until

from vmwatch.simulator import Odd

NEVER = "1h"


async def reloaded(world: World, daemon: Running) -> None:
    world.write()
    times = daemon.notices.listen().count("READY=1")
    daemon.send(signal.SIGHUP)
    await until(daemon.has_noticed("READY=1", times + 1))


def titles(hook: Webhook) -> list[str]:
    return [request.body["title"] for request in hook.record]


# ---- lines ----


async def test_every_kind_of_change_to_lines_takes_effect_at_once(world: World, hook: Webhook) -> None:
    for name in ("kept", "renamed", "renumbered", "disabled", "enabled", "removed", "slow"):
        more = {"slow": {"interval": NEVER}, "enabled": {"enabled": False}}.get(name, {})
        world.line(name, **more)
    world.channel("phone", hook.url)
    old, fresh = world.numbers["renumbered"], number_of(50)
    async with world.running() as daemon:
        for name in ("kept", "renamed", "renumbered", "disabled", "removed", "slow"):
            await until(world.state_is(name, "ok"))
        assert not world.logins("enabled")

        world.config["lines.new_name"] = world.config.pop("lines.renamed")
        world.numbers["new_name"] = world.numbers["renamed"]
        world.operator.add_line(fresh, PIN)
        world.config["lines.renumbered"]["number"] = world.numbers["renumbered"] = fresh
        world.config["lines.disabled"]["enabled"] = False
        world.config["lines.enabled"]["enabled"] = True
        del world.config["lines.removed"], world.config["lines.slow"]["interval"]
        world.line("added")
        await reloaded(world, daemon)

        spent = {name: len(world.operator.logins(world.numbers[name])) for name in ("disabled", "removed")}
        spent["old"] = len(world.operator.logins(old))
        names = ("kept", "new_name", "renumbered", "enabled", "slow", "added")
        for name in names:
            await until(world.state_is(name, "ok"))
        await until(lambda: all(len(world.logins(name)) > 1 for name in names))
        for name in ("kept", "new_name", "slow"):
            await until(world.polled(name, 1))
        seen = (await world.look())["lines"]
        assert {line["name"] for line in seen} == {*names, "disabled"}
        assert await world.state_is("disabled", "paused", "disabled")()
        for name, before in spent.items():
            number = old if name == "old" else world.numbers[name]
            assert len(world.operator.logins(number)) <= before + 1, "but for one that was under way"
        assert "STATUS=7 of 7 lines ok" in daemon.notices.listen()
    assert hook.record == []
    assert not [number for number in world.numbers.values() if world.operator.failed_logins(number)]


async def test_a_message_that_a_poll_under_way_brings_is_announced_whatever_the_reload_changed(
    world: World, hook: Webhook
) -> None:
    """Its line is renamed, its channel gets another name: the alert finds both."""
    home = world.line("home")
    world.channel("phone", hook.url)
    world.operator.leave(home)
    world.operator.delay = 1500
    async with world.running() as daemon:
        await until(lambda: bool(world.logins("home")))
        world.config["lines.house"] = world.config.pop("lines.home")
        world.config["channels.mobile"] = world.config.pop("channels.phone")
        await reloaded(world, daemon)
        await reloaded(world, daemon)
        assert hook.record == []
        await hook.heard(1)
        world.operator.delay = 0
        await until(world.polled("home", 2))
    assert titles(hook) == ["Voicemail from Donald Duck"]
    assert world.operator.most_at_once(home) == 1


async def test_a_pin_corrected_while_the_wrong_one_is_on_its_way_is_tried_once(world: World, hook: Webhook) -> None:
    home = world.line("home", told=WRONG_PIN)
    world.channel("phone", hook.url)
    world.operator.delay = 1500
    async with world.running() as daemon:
        await until(lambda: bool(world.logins("home")))
        right = world.new_pin("home")
        world.operator.set_pin(home, right)
        world.config["lines.home"]["pin"] = right
        await reloaded(world, daemon)
        world.operator.delay = 0
        await until(world.state_is("home", "ok"), within=45)  # when the old attempt's claim has run out
    assert len(world.operator.failed_logins(home)) <= 1
    assert "rejected" not in " ".join(titles(hook))


async def test_a_reload_shortens_no_lock_out_whatever_it_changes(world: World, hook: Webhook) -> None:
    home = world.line("home")
    world.channel("phone", hook.url)
    for _ in range(3):
        world.operator.login(home, WRONG_PIN, "NEW")
    async with world.running() as daemon:
        await until(world.state_is("home", "locked"))
        waits = (await world.line_seen("home"))["next_poll_at"]
        world.config["lines.home"] |= {"pin": world.new_pin("home"), "interval": "2s", "label": "Home"}
        await reloaded(world, daemon)
        world.config["lines.house"] = world.config.pop("lines.home")
        await reloaded(world, daemon)
        assert (await world.line_seen("house"))["next_poll_at"] == waits
        del world.config["lines.house"]
        world.line("office")
        await reloaded(world, daemon)
        world.config["lines.home"] = {"number": home, "pin": PIN}
        await reloaded(world, daemon)
        assert (await world.line_seen("home"))["next_poll_at"] == waits
    assert len(world.logins("home")) == 4, "the three that locked it, and one"


async def test_a_longer_interval_is_kept_from_the_next_poll_on(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await until(world.state_is("home", "ok"))
        world.config["polling"]["interval"] = NEVER
        await reloaded(world, daemon)
        spent = len(world.logins("home"))
        world.line("office", interval="1s")
        await reloaded(world, daemon)
        await until(world.polled("office", 4))
        assert len(world.logins("home")) <= spent + 1, "the one that was due by the old interval"


async def test_a_poll_that_hangs_holds_no_reload_up_and_is_not_doubled_by_it(world: World, hook: Webhook) -> None:
    home = world.line("home")
    world.channel("phone", hook.url)
    world.operator.odd(home, Odd.HANG)
    async with world.running() as daemon:
        await until(lambda: bool(world.logins("home")))
        world.line("office")
        await reloaded(world, daemon)
        await until(world.state_is("office", "ok"))
        assert world.operator.most_at_once(home) == 1
        assert len(world.logins("home")) == 1
        daemon.process.kill()
        await daemon.process.wait()


# ---- channels ----


async def test_what_is_pending_on_a_channel_goes_where_its_name_or_its_url_went(world: World, tmp_path: Path) -> None:
    """Renamed: the new name gets it. A new URL: that gets it. Gone and back: it gets it then."""
    async with Webhook(refuse(500)) as renamed, Webhook(refuse(500)) as moved, Webhook(refuse(500)) as gone:
        home = world.line("home")
        world.config["delivery"] = {"retry": {"initial": "1s", "max": "1s"}}
        hooks = {"one": renamed, "two": moved, "three": gone}
        for name, webhook in hooks.items():
            world.channel(name, webhook.url, events=["voicemail"])
        world.operator.leave(home)
        async with Webhook() as elsewhere, world.running() as daemon:
            await asyncio.gather(*(webhook.heard(1) for webhook in hooks.values()))
            world.config["channels.uno"] = world.config.pop("channels.one")
            world.config["channels.two"]["url"] = elsewhere.url
            three = world.config.pop("channels.three")
            await reloaded(world, daemon)
            for webhook in hooks.values():
                webhook.manner = ACCEPT
            await elsewhere.heard(1)
            await until(lambda: states_are(world, {"uno": "sent", "two": "sent", "three": "pending"}))
            assert len(gone.record) <= 2, "but for one that was under way"
            world.config["channels.three"] = three
            await reloaded(world, daemon)
            await until(lambda: states_are(world, {"uno": "sent", "two": "sent", "three": "sent"}))


async def states_are(world: World, wanted: dict[str, str]) -> bool:
    return {one["channel"]: one["state"] for one in await world.outbox()} == wanted


async def test_a_delivery_that_hangs_survives_its_channel_s_new_name(world: World, hook: Webhook) -> None:
    """It is noted as unknown under the old name, and tried again under the new one."""
    hook.manner = HANG
    world.config["delivery"] = {"timeout": "1500ms", "retry": {"initial": "500ms", "max": "500ms"}}
    world.operator.leave(world.line("home"))
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await hook.heard(1)
        world.config["channels.mobile"] = world.config.pop("channels.phone")
        await reloaded(world, daemon)
        hook.manner = ACCEPT
        await hook.heard(2)
        await until(lambda: states_are(world, {"mobile": "sent"}))
    assert "may be a repeat" in hook.record[1].body["message"]


async def test_a_delivery_under_way_is_sent_once_across_reloads(world: World, hook: Webhook) -> None:
    hook.manner = late(1)
    world.operator.leave(world.line("home"))
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await hook.heard(1)
        for _ in range(3):
            await reloaded(world, daemon)
        await until(lambda: states_are(world, {"phone": "sent"}))
    assert len(hook.record) == 1


async def test_a_line_is_heard_of_on_the_channels_that_it_has_now(world: World, hook: Webhook) -> None:
    home = world.line("home", channels=["phone"])
    world.channel("phone", hook.url)
    async with Webhook() as other, world.running() as daemon:
        world.channel("other", other.url)
        world.config["lines.home"]["channels"] = ["other"]
        await until(world.state_is("home", "ok"))
        await reloaded(world, daemon)
        world.operator.leave(home)
        await other.heard(1)
        await until(lambda: states_are(world, {"other": "sent"}))
    assert hook.record == []


# ---- what is said of it ----


async def test_two_words_to_reload_in_a_row_end_with_the_last_file(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        world.line("office")
        world.write()
        daemon.send(signal.SIGHUP)
        world.line("shop")
        world.write()
        daemon.send(signal.SIGHUP)
        await until(daemon.has_noticed("STATUS=3 of 3 lines ok"))
        await until(world.state_is("shop", "ok"))
        said = [word for word in daemon.notices.listen() if word in ("RELOADING=1", "READY=1")]
        assert said[0] == "READY=1"
        assert said[1::2] == ["RELOADING=1"] * len(said[1::2])
        assert said[2::2] == ["READY=1"] * len(said[1::2]), "every reload is followed by its READY"


async def test_a_file_that_is_slow_to_read_holds_up_no_poll(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await until(world.state_is("home", "ok"))
        world.line("office")
        world.write()
        new = world.file.read_bytes()
        world.file.unlink()
        os.mkfifo(world.file)  # whoever reads it waits for somebody to write
        times = daemon.notices.listen().count("READY=1")
        daemon.send(signal.SIGHUP)
        await until(daemon.has_noticed("RELOADING=1"))
        await until(world.polled("home", 2))
        assert daemon.notices.listen().count("READY=1") == times
        await asyncio.to_thread(world.file.write_bytes, new)
        await until(daemon.has_noticed("READY=1", times + 1))
        await until(world.state_is("office", "ok"))


async def test_a_refused_file_stays_in_the_status_until_a_good_one_is_read(world: World, hook: Webhook) -> None:
    home = world.line("home", told=WRONG_PIN)
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await until(world.state_is("home", "rejected"))
        world.config["lines.home"] |= {"pin": "12", "colour": "red"}
        await reloaded(world, daemon)
        refused = "0 of 1 lines ok; the new configuration is refused, the old one stays: config.toml:"
        (status,) = {word for word in daemon.notices.listen() if word.startswith(f"STATUS={refused}")}
        assert "lines.home.pin: must be 4 to 10 digits, in quotes; config.toml:" in status
        assert status.endswith("; home: the operator rejected the PIN")
        assert '"12"' not in status

        right = world.new_pin("home")
        world.operator.set_pin(home, right)
        world.config["lines.home"] = {"number": home, "pin": right}
        await reloaded(world, daemon)
        await until(daemon.has_noticed("STATUS=1 of 1 lines ok"))
    assert len(world.operator.failed_logins(home)) == 1


@pytest.mark.parametrize("refused", [False, True])
async def test_the_verb_that_systemd_calls_waits_for_what_comes_of_it(
    world: World, hook: Webhook, refused: bool
) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        world.line("office", told="12" if refused else PIN)
        ran = await world.vmwatch("reload", str(daemon.process.pid))
        if refused:
            assert ran.status == 78
            assert ran.err.startswith("the new configuration is refused, the old one stays: config.toml:")
            assert "lines.office.pin: must be 4 to 10 digits, in quotes" in ran.err
        else:
            assert (ran.status, ran.out, ran.err.count("refused")) == (0, "", 0)
            assert "READY=1" in daemon.notices.listen()
        assert [line["name"] for line in (await world.look())["lines"]] == ["home", "office"][: 1 if refused else 2]


async def test_a_file_that_is_no_toml_at_all_is_told_by_the_daemon_too(world: World, hook: Webhook) -> None:
    """The verb itself can't know where the store is then; the signal is sent all the same."""
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        world.file.write_text("[lines.home\n")
        ran = await world.vmwatch("reload", str(daemon.process.pid), config=False)
        assert ran.status == 78
        assert ran.err.startswith("config.toml:1: is not valid TOML")
        await until(daemon.has_said("the new configuration is refused, the old one stays: config.toml:1: is not valid"))


async def test_the_verb_says_when_there_is_nobody_to_reload(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    await world.vmwatch("poll")
    ran = await world.vmwatch("reload", str(2**22 - 1))
    assert (ran.status, ran.err) == (1, f"process {2**22 - 1} can't be told to reload: No such process\n")
    for wrong in ("0", "1", "-1", "x"):
        assert (await world.vmwatch("reload", "--", wrong)).status == 2
