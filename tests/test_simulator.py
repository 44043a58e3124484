"""The simulated operator: what it knows, what it says, and how it is steered from another process."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import aiohttp
import pytest

from vmwatch.models import HOUR, SECOND, Box
from vmwatch.reading import mailbox
from vmwatch.simulator import CALLERS, Odd, Simulator, Verdict, random_caller
from vmwatch.simulator.exchange import Exchange

NUMBER = "+4571919998"
PIN = "0735"
NOW = 1_704_067_200_000


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def exchange(clock: Clock) -> Exchange:
    found = Exchange(clock, lock_after=3, lock_for=HOUR)
    found.add_line(NUMBER, PIN)
    return found


@pytest.fixture
async def operator(clock: Clock) -> AsyncIterator[Simulator]:
    async with Simulator(now=clock) as simulator:
        simulator.add_line(NUMBER, PIN)
        yield simulator


@pytest.fixture
async def session(operator: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(operator.base_url) as client:
        yield client


def tried(exchange: Exchange, *pins: str, number: str = NUMBER) -> list[Verdict]:
    return [exchange.login(number, pin, "NEW") for pin in pins]


def test_three_wrong_pins_lock_a_line_for_the_right_one_too(exchange: Exchange) -> None:
    assert tried(exchange, "1", "2", "3", PIN, "4") == [Verdict.PIN_INVALID] * 3 + [Verdict.LOCKED] * 2
    assert len(exchange.failed_logins(NUMBER)) == 4
    assert len(exchange.logins(NUMBER)) == 5


def test_a_right_pin_forgives_the_wrong_ones_before(exchange: Exchange) -> None:
    assert tried(exchange, "1", "2", PIN, "3", "4", PIN)[-1] is Verdict.OK


def test_a_lock_ends_by_itself_or_by_hand(exchange: Exchange, clock: Clock) -> None:
    tried(exchange, "1", "2", "3")
    clock.now += HOUR - 1
    assert tried(exchange, PIN) == [Verdict.LOCKED]
    clock.now += 1
    assert tried(exchange, "1", "2", "3", PIN)[-1] is Verdict.LOCKED
    exchange.unlock(NUMBER)
    assert tried(exchange, PIN) == [Verdict.OK]


def test_a_lock_may_be_without_an_end(exchange: Exchange, clock: Clock) -> None:
    exchange.lock_for = None
    tried(exchange, "1", "2", "3")
    clock.now += 1000 * HOUR
    assert tried(exchange, PIN) == [Verdict.LOCKED]


def test_a_line_without_a_pin_rejects_every_pin(exchange: Exchange) -> None:
    exchange.set_pin(NUMBER, None)
    assert tried(exchange, PIN, PIN, PIN, PIN) == [Verdict.NO_PIN] * 3 + [Verdict.LOCKED]


def test_what_a_person_may_switch(exchange: Exchange) -> None:
    exchange.set_line(NUMBER, enabled=False)
    assert tried(exchange, PIN) == [Verdict.NOT_ENABLED]
    exchange.set_line(NUMBER, known=False)
    assert tried(exchange, PIN) == [Verdict.UNKNOWN_NUMBER]
    exchange.blacklist()
    assert tried(exchange, PIN) == [Verdict.BLACKLISTED]
    exchange.blacklist(False)
    exchange.set_line(NUMBER)
    exchange.set_pin(NUMBER, "4444")
    assert tried(exchange, PIN, "4444") == [Verdict.PIN_INVALID, Verdict.OK]
    assert tried(exchange, PIN, number="+4571919901") == [Verdict.UNKNOWN_NUMBER]


def test_the_log_holds_no_pin(exchange: Exchange) -> None:
    tried(exchange, PIN, "98765")
    assert PIN not in repr(exchange.logins(NUMBER))
    assert "98765" not in repr(exchange.logins(NUMBER))


def test_a_message_is_written_as_documented(exchange: Exchange) -> None:
    known = exchange.leave(NUMBER)
    (message,) = exchange.listing(NUMBER, Box.NEW)["voicemails"]
    assert re.fullmatch("[0-9a-f]{24}", known)
    assert {name: message[name] for name in ("_id", "from", "fromName", "to", "date", "length", "box", "played")} == {
        "_id": known,
        "from": "+4599778822",
        "fromName": "Donald Duck",
        "to": NUMBER,
        "date": "2024-01-01T00:00:00.000Z",
        "length": 37,
        "box": "INBOX",
        "played": False,
    }
    assert set(message) - {"voiceAccount", "customer", "callId"} == {
        "_id", "from", "fromName", "to", "date", "length", "box", "played",
    }  # fmt: skip


def test_a_withheld_number_is_left_out_and_any_field_can_be_odd(exchange: Exchange) -> None:
    exchange.leave(NUMBER, caller=None, name=None, date=None, extra=[1])
    (message,) = exchange.listing(NUMBER, Box.NEW)["voicemails"]
    assert not {"from", "fromName"} & set(message)
    assert (message["date"], message["extra"]) == (None, [1])


def test_a_message_moves_through_the_boxes(exchange: Exchange) -> None:
    first, second = exchange.leave(NUMBER), exchange.leave(NUMBER)

    def seen() -> list[tuple[int, list[tuple[str, str, bool]]]]:
        listings = [exchange.listing(NUMBER, box) for box in Box]
        assert len({(each["newCount"], each["oldCount"], each["savedCount"]) for each in listings}) == 1
        counts = [listings[0][count] for count in ("newCount", "oldCount", "savedCount")]
        messages = [[(m["_id"], m["box"], m["played"]) for m in each["voicemails"]] for each in listings]
        return list(zip(counts, messages, strict=True))

    assert seen() == [(2, [(first, "INBOX", False), (second, "INBOX", False)]), (0, []), (0, [])]
    exchange.hear(NUMBER, first)
    assert seen() == [(1, [(second, "INBOX", False)]), (1, [(first, "INBOX", True)]), (0, [])]
    exchange.save(NUMBER, first)
    assert seen() == [(1, [(second, "INBOX", False)]), (0, []), (1, [(first, "SAVED", True)])]
    exchange.delete(NUMBER, second)
    exchange.delete(NUMBER, first)
    assert seen() == [(0, [])] * 3
    with pytest.raises(KeyError):
        exchange.hear(NUMBER, first)


def test_callers_are_of_every_kind() -> None:
    rng = Random(1)
    assert {random_caller(rng) for _ in range(1000)} == set(CALLERS)
    assert {(caller.number is None, caller.name is None) for caller in CALLERS} == {
        (False, False), (False, True), (True, False), (True, True),
    }  # fmt: skip


def list_call(pin: str = PIN, number: str = NUMBER, **query: str) -> str:
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    return f"/mvno/voicemail/{number}/{pin}?{asked}"


async def test_errors_have_the_documented_body(session: aiohttp.ClientSession) -> None:
    async with session.get(list_call("9999")) as response:
        assert response.status == 422
        assert await response.json() == {"error": {"message": "Pin code is invalid", "code": "pin", "status": 422}}


@pytest.mark.parametrize("number", [NUMBER, NUMBER.replace("+", "%2B")])
async def test_the_plus_may_be_escaped(session: aiohttp.ClientSession, operator: Simulator, number: str) -> None:
    operator.leave(NUMBER)
    async with session.get(list_call(number=number)) as response:
        assert len(mailbox(await response.read()).messages) == 1


async def test_the_pin_check_is_a_login_too(session: aiohttp.ClientSession, operator: Simulator) -> None:
    async with session.get(f"/mvno/voicemail/{NUMBER}/{PIN}/pin") as response:
        assert await response.json() == {"success": True}
    async with session.get(f"/mvno/voicemail/{NUMBER}/9999/pin") as response:
        assert response.status == 422
    assert [login.pin_ok for login in operator.logins(NUMBER)] == [True, False]


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", f"/mvno/voicemail/{NUMBER}/{PIN}/pin", {}),
        ("POST", f"/mvno/voicemail/{NUMBER}/{PIN}", {}),
        ("HEAD", f"/mvno/voicemail/{NUMBER}/{PIN}", {}),
        ("DELETE", f"/mvno/voicemail/{NUMBER}/{PIN}", {}),
        ("GET", f"/mvno/voicemail/{NUMBER}/{PIN}", {"Authorization": "Basic YTpi"}),
        ("GET", f"/mvno/voicemail/{NUMBER}/{PIN}", {"Cookie": "a=b"}),
        ("GET", "/pbx/voicemail/1/read", {}),
        ("GET", "/", {}),
    ],
)
async def test_what_a_client_must_never_send_is_a_violation(
    session: aiohttp.ClientSession, operator: Simulator, method: str, path: str, headers: dict[str, str]
) -> None:
    async with session.request(method, path, headers=headers) as response:
        assert response.status == 405
    assert len(operator.violations()) == 1
    assert operator.logins(NUMBER) == []
    assert operator.lines[NUMBER].pin == PIN


async def test_a_box_that_is_none_is_an_error(session: aiohttp.ClientSession) -> None:
    async with session.get(list_call(box="INBOX")) as response:
        assert response.status == 422


async def test_requests_under_way_at_once_are_counted_for_each_line(
    session: aiohttp.ClientSession, operator: Simulator
) -> None:
    operator.delay = 50

    async def ask(number: str) -> None:
        async with session.get(list_call(number=number)) as response:
            await response.read()

    await asyncio.gather(ask(NUMBER), ask(NUMBER), ask("+4571919901"))
    await ask(NUMBER)
    assert (operator.most_at_once(NUMBER), operator.most_at_once("+4571919901")) == (2, 1)
    assert operator.most_at_once("+4571919902") == 0


async def test_a_client_that_went_away_is_no_longer_under_way(
    session: aiohttp.ClientSession, operator: Simulator
) -> None:
    operator.odd(NUMBER, Odd.HANG, times=2)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await session.get(list_call(), timeout=aiohttp.ClientTimeout(total=0.1))
    async with session.get(list_call()) as response:
        assert response.status == 200
    assert operator.most_at_once(NUMBER) == 1


async def test_oddities_are_queued_then_standing_then_over(session: aiohttp.ClientSession, operator: Simulator) -> None:
    async def status() -> int:
        async with session.get(list_call()) as response:
            return response.status

    operator.odd(NUMBER, Odd.INTERNAL_ERROR)
    operator.odd(NUMBER, "502", times=2)
    operator.odd(NUMBER, "504", times=1)
    assert [await status() for _ in range(5)] == [502, 502, 504, 500, 500]
    operator.odd(NUMBER, None)
    assert await status() == 200
    with pytest.raises(ValueError, match="nonsense"):
        operator.odd(NUMBER, "nonsense")


async def test_an_odd_answer_counts_its_login_and_never_opens_a_locked_line(
    session: aiohttp.ClientSession, operator: Simulator
) -> None:
    operator.odd(NUMBER, Odd.ONLY_IDS)
    for expected in (422, 422, 422, 403):
        async with session.get(list_call("9999")) as response:
            assert response.status == expected
    assert len(operator.failed_logins(NUMBER)) == 4


@pytest.mark.parametrize("what", [Odd.HANG, Odd.DRIP, Odd.GIGANTIC])
async def test_it_stops_at_once_while_an_answer_has_no_end(what: Odd) -> None:
    async with aiohttp.ClientSession() as client, Simulator() as simulator:
        simulator.add_line(NUMBER, PIN)
        simulator.odd(NUMBER, what)
        asked = asyncio.create_task(client.get(simulator.base_url + list_call()))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        await simulator.stop()
        assert time.monotonic() - started < 1
        (outcome,) = await asyncio.gather(asked, return_exceptions=True)
        assert isinstance(outcome, (aiohttp.ClientError, aiohttp.ClientResponse))
        if isinstance(outcome, aiohttp.ClientResponse):
            outcome.close()


async def test_a_taken_port_is_an_oserror_and_leaves_nothing_open(operator: Simulator) -> None:
    other = Simulator()
    with pytest.raises(OSError, match="address"):
        await other.start(port=int(operator.base_url.rpartition(":")[2]))


async def test_it_logs_no_pin(
    session: aiohttp.ClientSession, operator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for what in (None, Odd.CUT, Odd.DROP, Odd.RESET):
        operator.odd(NUMBER, what)
        try:
            async with session.get(list_call()) as response:
                await response.read()
        except aiohttp.ClientError:
            continue
    assert PIN not in caplog.text


async def steer(session: aiohttp.ClientSession, verb: str, /, **wanted: Any) -> dict[str, Any]:
    async with session.post(f"/_simulator/{verb}", json=wanted) as response:
        return {"status": response.status, **(await response.json())}


async def test_it_is_steered_from_another_process(session: aiohttp.ClientSession, operator: Simulator) -> None:
    number = "+4571919901"
    assert await steer(session, "lines", number=number, pin="1111") == {"status": 200}
    left = [
        (await steer(session, "messages", number=number, caller=None, length=3, date="2020-01-01"))["id"]
        for _ in range(4)
    ]
    await steer(session, "hear", number=number, id=left[0])
    await steer(session, "save", number=number, id=left[1])
    await steer(session, "delete", number=number, id=left[2])
    async with session.get(list_call("1111", number)) as response:
        found = mailbox(await response.read())
    assert ([message.id for message in found.messages], found.old, found.saved) == ([left[3]], 1, 1)
    assert (found.messages[0].caller, found.messages[0].length) == (None, 3)
    await steer(session, "set_pin", number=number, pin="2222")
    await steer(session, "odd", number=number, what="502", times=1)
    async with session.get(list_call("2222", number)) as response:
        assert response.status == 502
    await steer(session, "odd", number=number, what=None)
    for expected in (422, 422, 422, 403):
        async with session.get(list_call("1111", number)) as response:
            assert response.status == expected
    await steer(session, "unlock", number=number)
    await steer(session, "flags", number=number, enabled=False)
    async with session.get(list_call("2222", number)) as response:
        assert (await response.json())["error"]["code"] == "number"
    await steer(session, "blacklist", on=True)
    async with session.get(list_call()) as response:
        assert (await response.json())["error"]["code"] == "blacklisted"
    assert operator.violations() == []


async def test_the_log_can_be_read_from_another_process(session: aiohttp.ClientSession, clock: Clock) -> None:
    for pin, number in ((PIN, NUMBER), ("9999", NUMBER), (PIN, "+4571919901")):
        clock.now += SECOND
        await (await session.get(list_call(pin, number))).read()
    await (await session.head(list_call())).read()
    async with session.get("/_simulator/log") as response:
        log = await response.json()
    assert [(login["number"], login["verdict"], login["pin_ok"]) for login in log["logins"]] == [
        (NUMBER, "ok", True),
        (NUMBER, "pin_invalid", False),
        ("+4571919901", "unknown_number", False),
    ]
    assert len(log["violations"]) == 1
    async with session.get("/_simulator/log", params={"number": NUMBER}) as response:
        assert len((await response.json())["logins"]) == 2


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        ("nonsense", {}),
        ("lines", {"number": NUMBER}),
        ("messages", {"number": "+4571919901"}),
        ("hear", {"number": NUMBER, "id": "nobody"}),
        ("odd", {"number": NUMBER, "what": "nonsense"}),
        ("unlock", {"number": NUMBER, "more": 1}),
    ],
)
async def test_steering_wrongly_is_answered_with_400(
    session: aiohttp.ClientSession, what: str, wanted: dict[str, Any]
) -> None:
    assert (await steer(session, what, **wanted))["status"] == 400


async def test_steering_with_anything_but_an_object_is_answered_with_400(session: aiohttp.ClientSession) -> None:
    for body in (b"", b"[1]", b"{"):
        async with session.post("/_simulator/lines", data=body) as response:
            assert response.status == 400
