"""What the command line understands."""

from __future__ import annotations

import argparse
from typing import Any

from vmwatch import __version__

_CONFIG = "the configuration file (default: $VMWATCH_CONFIG, ./config.toml, /etc/vmwatch/config.toml)"
_LINE = "a line's name or number"
_MESSAGE = "a message's id, or as much of its beginning as no other has"
UNITS = (
    *("vmwatch.service", "vmwatch-failed@.service"),
    *("lan-only.conf", "notify-reload.conf", "on-failure.conf", "static-user.conf"),
)
"""What is in systemd/, the unit itself first."""


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="vmwatch",
        description="Watches the voicemail boxes of your phone lines and tells you who called.",
        epilog="Exit status: 0 done; 1 something asked about is in trouble; 2 wrong usage; "
        "75 the store or the address of web.listen is in use, or can't be had; 78 the configuration is refused.",
    )
    main.add_argument("--version", action="version", version=f"vmwatch {__version__}")
    main.add_argument("--config", metavar="FILE", help=_CONFIG)
    verbs = _Verbs(main)
    _beginning(verbs)
    _running(verbs)
    _looking(verbs)
    _acting(verbs)
    _keeping(verbs)
    _for_systemd(verbs)
    return main


class _Verbs:
    def __init__(self, main: argparse.ArgumentParser) -> None:
        self._verbs = main.add_subparsers(dest="verb", metavar="VERB", required=True)

    def add(self, name: str, does: str, *, json: bool = False) -> argparse.ArgumentParser:
        verb = self._verbs.add_parser(name, help=does, description=does[0].upper() + does[1:] + ".")
        # Also understood behind the verb; SUPPRESS, so that leaving it out there does not undo it in front.
        verb.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help=_CONFIG)
        if json:
            verb.add_argument("--json", action="store_true", help="for scripts: JSON, times in UTC")
        return verb


def _beginning(verbs: _Verbs) -> None:
    init = verbs.add("init", "write a first configuration: asks for what it needs, tries it, says how to go on")
    init.add_argument("--directory", metavar="DIR", help="where to (default: /etc/vmwatch for root, else this folder)")
    init.add_argument("--number", metavar="NUMBER", help="the line's, with + and country code")
    pin = init.add_mutually_exclusive_group()
    pin.add_argument("--pin-file", metavar="FILE", help="a file that holds the line's PIN; it is copied")
    pin.add_argument("--pin-stdin", action="store_true", help="the PIN is the first line of standard input")
    channel = "a file that holds a channel's Apprise URL, which is copied; NAME is `phone` by default; may be repeated"
    init.add_argument("--channel-url-file", action="append", default=[], metavar="[NAME=]FILE", help=channel)
    init.add_argument("--name", default="home", help="the line's name: a-z, 0-9 and _ (default: home)")
    init.add_argument("--label", default="", help="what alerts call the line (default: its name)")
    init.add_argument("--base-url", metavar="URL", help="another operator's address, such as `vmwatch simulate`'s")
    init.add_argument("--store", metavar="URL", help="where the store is to be, as store.url has it")
    init.add_argument("--no-test", action="store_true", help="send no test alert")
    init.add_argument(
        "--no-online", action="store_true", help="do not log in at the operator to see whether the PIN is right"
    )


def _keeping(verbs: _Verbs) -> None:
    backup = verbs.add("backup", "copy the store to a new file, also while the daemon runs, without PINs and URLs")
    backup.add_argument("file", metavar="FILE", help="must not be there yet")
    restore = verbs.add("restore", "put a backup in the store's place, and keep what was there; no daemon may run")
    restore.add_argument("file", metavar="FILE", help="what `vmwatch backup` wrote")
    move = verbs.add("move-store", "copy the whole store into an empty one, such as PostgreSQL's; no daemon may run")
    move.add_argument("url", nargs="?", metavar="NEW_URL", help="where to, as store.url has it; without a password")
    move.add_argument("--url-file", metavar="FILE", help="a file that holds it, if it has a password")
    verbs.add("health", "whether a daemon runs on the store and does its rounds", json=True)


def _running(verbs: _Verbs) -> None:
    run = verbs.add("run", "the daemon, in the foreground")
    run.add_argument("--log-format", choices=("text", "json"), default="text")
    run.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    demo = verbs.add("demo", "everything at once, with nothing to configure and nothing touched")
    demo.add_argument("--seconds", type=_positive, metavar="N", help="stop by itself after N seconds")
    simulate = verbs.add("simulate", "the simulated operator alone, to develop against")
    simulate.add_argument("--port", type=_port, default=8479, metavar="P", help="on 127.0.0.1 (default: 8479)")


def _looking(verbs: _Verbs) -> None:
    verbs.add("status", "lines and channels, what is wrong, and since when", json=True)
    messages = verbs.add("messages", "voicemails seen, the latest first", json=True)
    messages.add_argument("--line", metavar="LINE", help=_LINE)
    messages.add_argument("--new", action="store_true", help="only those that are still new")
    messages.add_argument("--limit", type=_positive, default=50, metavar="N", help="at most N (default: 50)")
    preview = verbs.add("preview", "what would be sent, from a stored or a sample message; sends nothing", json=True)
    preview.add_argument("--channel", metavar="CHANNEL", help="to this channel (default: each)")
    preview.add_argument("--kind", metavar="KIND", help="an alert of this kind (default: voicemail.new)")
    preview.add_argument("message", nargs="?", metavar="MESSAGE", help=_MESSAGE)
    route = verbs.add("route", "who would be told of a message, when, and why; sends nothing", json=True)
    route.add_argument("message", nargs="?", metavar="MESSAGE", help=_MESSAGE)
    route.add_argument("--from", dest="caller", metavar="NUMBER", help="a caller instead, or: withheld")
    route.add_argument("--line", metavar="LINE", help="with --from: which line was called")
    route.add_argument("--length", metavar="30s", help="with --from: how long the message is")
    route.add_argument("--at", metavar="TIME", help='such as 23:30 or "2026-12-24 23:30" (default: now)')
    outbox = verbs.add("outbox", "deliveries that are pending or dead, and what is to become of them", json=True)
    outbox.add_argument("--all", action="store_true", help="sent and withdrawn ones too")
    outbox.add_argument("--limit", type=_positive, default=100, metavar="N", help="at most N (default: 100)")
    outbox.add_argument("act", nargs="?", choices=("retry", "drop"), help="try again now (all dead ones) / give up")
    outbox.add_argument("ids", nargs="*", type=_positive, metavar="ID", help="deliveries")


def _acting(verbs: _Verbs) -> None:
    check = verbs.add("check", "read the configuration as `run` would, and show what it comes to", json=True)
    check.add_argument("--online", action="store_true", help="also poll each line once, with the same PIN safety")
    poll = verbs.add("poll", "one round now, delivering what is due (for cron)", json=True)
    poll.add_argument("lines", nargs="*", metavar="LINE", help=f"{_LINE} (default: all)")
    pause = verbs.add("pause", "stop polling a line", json=True)
    pause.add_argument("line", metavar="LINE", help=_LINE)
    pause.add_argument("--for", dest="span", metavar="2h", help="go on by itself after this long")
    resume = verbs.add("resume", "go on with a line; forgives a rejected PIN and allows one try", json=True)
    resume.add_argument("line", metavar="LINE", help=_LINE)
    ack = verbs.add("ack", "you see to these messages: nobody is reminded of them any more", json=True)
    ack.add_argument("messages", nargs="+", metavar="MESSAGE", help=_MESSAGE)
    snooze = verbs.add(
        "snooze", "nothing more about a message for a while; then a reminder, if it is still new", json=True
    )
    snooze.add_argument("message", metavar="MESSAGE", help=_MESSAGE)
    snooze.add_argument("span", metavar="1h", help="for how long")
    test = verbs.add("test", "send a test alert and tell each channel's result", json=True)
    test.add_argument("channels", nargs="*", metavar="CHANNEL", help="a channel's name (default: all)")


def _for_systemd(verbs: _Verbs) -> None:
    unit = verbs.add(
        "systemd-unit", "print the systemd unit with the path of this installation, or one of its drop-ins"
    )
    unit.add_argument("name", nargs="?", choices=UNITS, default=UNITS[0], metavar="NAME", help=f"{', '.join(UNITS)}")
    reload = verbs.add("reload", "have the daemon read its configuration again, and fail if that is refused")
    reload.add_argument("pid", type=_pid, metavar="PID", help="the daemon's process; $MAINPID in ExecReload=")
    failure = verbs.add("tell-failure", "tell that a unit failed, through the channels whose URLs are credentials")
    failure.add_argument("unit", metavar="UNIT", help="its name")


def _pid(text: str) -> int:
    return _between(text, 2, 2**22)


def _positive(text: str) -> int:
    return _between(text, 1, 10**9)


def _port(text: str) -> int:
    return _between(text, 0, 65535)


def _between(text: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}")
    return number


Options = Any
