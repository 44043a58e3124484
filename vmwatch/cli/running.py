"""The verbs that go on until they are told to stop: run, demo, simulate."""

from __future__ import annotations

import asyncio
import gc
import logging
import os

from tzlocal import get_localzone

from vmwatch import logs, signals, systemd
from vmwatch.channels import prepare
from vmwatch.cli import desk
from vmwatch.cli.parser import Options
from vmwatch.config import Loaded
from vmwatch.daemon import Daemon
from vmwatch.errors import VmwatchError

log = logging.getLogger(__name__)

CRASHED = 1
SAMPLE_NUMBER, SAMPLE_PIN = "+4571919998", "1234"
YOUNG = 10_000
"""So many new objects before the garbage collector looks at them. Those of a bunch of polls all live until its end:
after Python's own 700 each would be looked at several times over, for a fifth of what a quiet poll costs.
"""
_INVITATION = """\
The simulated operator listens on {base_url} (Ctrl-C ends it). It has one line, {number} with PIN {pin}.

  [operator]
  base_url = "{base_url}"

  [lines.home]
  number = "{number}"
  pin = "{pin}"

Leave another message:
  curl -d '{{"number": "{number}", "caller": "+4520305071", "name": "Mette Sørensen", "length": 12}}' \\
    {base_url}/_simulator/messages
"""


async def run(options: Options) -> int:
    """What keeps it from starting, or ends it, stays visible in `systemctl status`."""
    try:
        return await _run(options)
    except VmwatchError as error:
        systemd.tell(str(error))
        raise


async def _run(options: Options) -> int:
    prepare()
    loaded = desk.read(options.config)
    _spare_the_collector()
    redaction = desk.redaction(loaded)
    logs.set_up(redaction, options.log_format, options.log_level)
    log.debug("the event loop is %s's", type(asyncio.get_running_loop()).__module__.partition(".")[0])

    def load_again() -> Loaded:
        again = desk.read(options.config)
        redaction.add(again.secrets, again.names)
        return again

    return await _live(Daemon(loaded, load_again, get_localzone()))


def _spare_the_collector() -> None:
    """What is there by now, modules and the configuration, is never garbage: it need not be looked at again."""
    gc.set_threshold(YOUNG)
    gc.collect()
    gc.freeze()


async def _live(daemon: Daemon) -> int:
    try:
        await daemon.run()
    except VmwatchError:
        raise
    except Exception:
        # The one supervisor: a part died, so the whole does, with its traceback behind the log's redaction.
        log.critical("vmwatch stops because a part of it failed; this is a bug, please report it", exc_info=True)
        systemd.tell("vmwatch stopped because a part of it failed; the journal says where")
        return CRASHED
    return 0


async def demo(options: Options) -> int:
    from vmwatch.demo import Demo

    prepare()
    logging.getLogger("vmwatch").setLevel(logging.CRITICAL)  # The demo tells its own story.
    await Demo(get_localzone()).run(options.seconds)
    return 0


async def simulate(options: Options) -> int:
    from vmwatch.simulator import Simulator

    stop, simulator = asyncio.Event(), Simulator()
    try:
        base_url = await simulator.start(port=options.port)
    except OSError as error:
        why = os.strerror(error.errno or 0)  # asyncio's own text says the address once more
        raise VmwatchError(f"127.0.0.1:{options.port} can't be listened on: {why}") from None
    simulator.add_line(SAMPLE_NUMBER, SAMPLE_PIN)
    simulator.leave(SAMPLE_NUMBER, caller="+4599778822", name="Donald Duck", length=37)
    desk.out().print(_INVITATION.format(base_url=base_url, number=SAMPLE_NUMBER, pin=SAMPLE_PIN), markup=False)
    with signals.heard(dict.fromkeys((*signals.STOP, signals.RELOAD), stop.set)):
        await stop.wait()
        await simulator.stop()
    return 0
