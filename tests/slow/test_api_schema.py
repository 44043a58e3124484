"""The API keeps what its OpenAPI document promises: schemathesis asks a real daemon what that allows, and forbids."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest
from receivers import Webhook
from world import PIN, WRONG_PIN, World, until, world_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]
EXAMPLES = 150
"""Of each kind, for each path."""
TOKEN = "hidden-token-of-the-api"


@pytest.mark.parametrize("token", ["", TOKEN], ids=["open", "with a token"])
async def test_schemathesis_finds_nothing(tmp_path: Path, token: str) -> None:
    async with world_in(tmp_path / "world") as world, Webhook() as hook:
        world.config["web"] = {"listen": "127.0.0.1:0"} | ({"token": token} if token else {})
        home = world.line("home")
        world.line("wrong", pin=PIN, told=WRONG_PIN)
        world.channel("phone", hook.url)
        for caller, name in (("+4520305071", "Mette Sørensen"), (None, None)):
            world.operator.leave(home, caller=caller, name=name)
        async with world.running() as daemon:
            await until(world.state_is("wrong", "rejected"))
            await until(lambda: len(hook.record) >= 2)
            port = re.findall(r"answering on http://\S+:(\d+)", daemon.said())[-1]
            status, said = await _schemathesis(f"http://127.0.0.1:{port}/api/openapi.json", token, tmp_path)
            await _is_as_it_was(world)
    print(said[said.rfind("SUMMARY") :])
    assert status == 0, said


async def _schemathesis(url: str, token: str, folder: Path) -> tuple[int | None, str]:
    options = ["--checks", "all", "--max-examples", str(EXAMPLES), "--mode", "all", "--request-timeout", "10"]
    options += ["--header", f"Authorization: Bearer {token}"] if token else []
    command = (sys.executable, "-m", "schemathesis.cli", "--no-color", "run", url, *options)
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=PIPE, stderr=STDOUT)
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 200)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, said.decode()


async def _is_as_it_was(world: World) -> None:
    """It was asked hundreds of times, and nothing is changed by that."""
    lines = (await world.look())["lines"]
    assert [(line["name"], line["state"]) for line in lines] == [("home", "ok"), ("wrong", "rejected")]
    assert len(world.logins("wrong")) == 1
