"""What the systemd units call besides `run`: `reload`, and `tell-failure` once the daemon is not started again."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack

from vmwatch import config, signals
from vmwatch.cli import desk
from vmwatch.cli.parser import Options
from vmwatch.errors import ConfigError, LedgerError, VmwatchError
from vmwatch.ledger import Ledger
from vmwatch.models import SECOND, Duration, Outcome
from vmwatch.wording import Text

RELOAD_S = 20.0
"""How long a reload may take: its writing may have to wait for another process that holds the store."""
LOOK_AGAIN_S = 0.1
SENDING: Duration = 30 * SECOND
_MEANINGS = {
    "75": "the store or the address of web.listen is in use, or can't be had",
    "78": "the configuration is refused",
    "203": "the command can't be run",
    "243": "the credentials can't be read",
    "ABRT": "it hung, and the watchdog ended it",
    "KILL": "it was killed; there may have been too little memory",
}


# ---- reload ----


async def reload(options: Options) -> int:
    """Send SIGHUP, and wait for what comes of it. Raises ConfigError where the new configuration is refused.

    The signal is sent whatever is wrong with the store; what came of it can't be told then (LedgerError).
    """
    async with AsyncExitStack() as stack:
        try:
            ledger = await stack.enter_async_context(desk.store(options.config))
            before, _ = await ledger.last_reload()
        finally:
            _signal(options.pid)
        refusal = await _refusal(ledger, before)
    if refusal:
        raise ConfigError((f"the new configuration is refused, the old one stays: {refusal}",))
    return 0


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signals.RELOAD)
    except OSError as error:
        raise VmwatchError(f"process {pid} can't be told to reload: {error.strerror}") from None


async def _refusal(ledger: Ledger, before: int) -> str:
    """Why the next reload was refused; nothing if it was not."""
    try:
        async with asyncio.timeout(RELOAD_S):
            while True:
                count, refusal = await ledger.last_reload()
                if count > before:
                    return refusal
                await asyncio.sleep(LOOK_AGAIN_S)
    except TimeoutError:
        unknown = f"the daemon did not say within {RELOAD_S:g} s what came of the reload; its log does"
        raise LedgerError(unknown) from None


# ---- tell-failure ----


async def tell_failure(options: Options) -> int:
    """By nothing but the credentials, for the configuration may be what failed. Raises ConfigError without any."""
    from vmwatch.channels import prepare

    urls = config.channels_alone(os.environ)
    if not urls:
        raise ConfigError(("no channel's URL is among the credentials (channels__NAME__url): nobody can be told",))
    prepare()
    text = failure(options.unit, socket.gethostname(), os.environ)
    sent = await asyncio.gather(*(_told(name, url, text) for name, url in urls.items()))
    return 0 if all(sent) else 1


async def _told(name: str, url: str, text: Text) -> bool:
    from vmwatch.channels import Channel

    receipt = await Channel(name, url).send(text, SENDING)
    detail = f" ({receipt.detail})" if receipt.detail else ""
    desk.say(f"channel {name}: {receipt.outcome}{detail}")
    return receipt.outcome is Outcome.SENT


def failure(unit: str, host: str, environ: Mapping[str, str]) -> Text:
    """What is told. systemd 251 and newer says in $MONITOR_… how the unit ended, where it was a single one."""
    told = {name: environ.get(f"MONITOR_{name}", "") for name in ("SERVICE_RESULT", "EXIT_STATUS")}
    status = told["EXIT_STATUS"]
    ended = f"It ended with {told['SERVICE_RESULT']}, status {status}" if status else "systemd does not say why"
    why = f"{ended}: {_MEANINGS[status]}." if status in _MEANINGS else f"{ended}."
    body = (
        f"{unit} failed on {host} and is not started again. {why}",
        "Until it runs again nobody hears of new voicemails; none is lost.",
        f"See why: systemctl status {unit}",
        f"Start it again: systemctl restart {unit}",
    )
    return Text(f"{unit} failed on {host}", "\n".join(body))
