"""The command line of the agent."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TextIO

from lamplighter.errors import LamplighterError
from lamplighter_worker.identity import Ec2Instance, Identity, JoinToken
from lamplighter_worker.machine import SESSION, Machine, Options, tell
from lamplighter_worker.metadata_service import MetadataService
from lamplighter_worker.notices import Notices, SpotWatch
from lamplighter_worker.runtimes import MachineFault
from lamplighter_worker.runtimes.choose import choose_runtime

_ABOUT = """\
Runs the work that a Lamplighter control plane has for this machine.

The agent registers with a join token, or as the EC2 instance it runs on, asks for work, runs one execution at a time, and
ends with exit code 0 when the control plane has no more work for this machine. Any other exit code is a fault: start it again,
it goes on where it was. Started a second time for the same --dir it exits at once with 0. SIGTERM stops the run with its grace
time, reports it as interrupted and ends.
"""
_EXAMPLE = """\
example:
  lamplighter-worker run --control-url https://ml.example.org --machine-id gpu-1 \\
      --dir /var/lib/lamplighter --join-token-file /etc/lamplighter/join-token
  lamplighter-worker run --control-url https://ml.example.org --identity ec2 \\
      --installation 01234567-89ab-7cde-8f01-23456789abcd --dir /var/lib/lamplighter
"""

_NEEDED = {"join-token": ("--machine-id", "--join-token-file"), "ec2": ("--installation",)}
"""The options that belong to each identity: all of them, and only with it."""


def main(arguments: list[str] | None = None) -> int:
    """The exit code of the process."""
    parser = _parser()
    given = parser.parse_args(arguments)
    _check_identity(parser, given)
    os.umask(0o022)
    given.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = given.dir.resolve()
    lock = _lock(directory)
    if lock is None:
        tell(f"another agent works in {directory}: nothing to do")
        return 0
    shutdown = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: shutdown.set())
    try:
        options = Options(
            control_url=given.control_url,
            identity=_identity(given),
            directory=directory,
            networks=given.input_networks,
            cache_mib=given.cache_mib,
            idle_power_off_seconds=given.idle_power_off_seconds,
            contact_file=given.contact_file,
        )
        notices = Notices()
        _watch(given, notices)
        reason = Machine(options, choose_runtime(given.runtime, directory / SESSION), shutdown, notices).live()
    except (LamplighterError, MachineFault, OSError) as e:
        tell(f"the agent cannot go on: {e}")
        return 1
    tell(f"the agent ends: {reason}")
    return 0


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("lamplighter-worker", description=_ABOUT, epilog=_EXAMPLE, formatter_class=raw)
    run = parser.add_subparsers(dest="command", required=True).add_parser(
        "run", help="work until there is no more work", description=_ABOUT, epilog=_EXAMPLE, formatter_class=raw
    )
    run.add_argument(
        "--control-url", required=True, metavar="URL", help="the control plane, e.g. https://ml.example.org"
    )
    run.add_argument(
        "--identity",
        choices=tuple(_NEEDED),
        default="join-token",
        help="how this machine proves who it is: with a token it was given (default), or ec2: with its instance role, as its"
        " metadata service tells",
    )
    run.add_argument("--machine-id", metavar="ID", help="with join-token: the id this machine was given at its launch")
    run.add_argument(
        "--dir", required=True, type=Path, help="where runs, cache and session are kept; one agent per directory"
    )
    run.add_argument(
        "--join-token-file",
        type=Path,
        metavar="FILE",
        help="with join-token: holds the token that lets this machine register",
    )
    run.add_argument(
        "--installation", metavar="ID", help="with ec2: the installation that this machine's proofs are good for"
    )
    run.add_argument(
        "--spot-watch",
        choices=("auto", "ec2", "none"),
        default="auto",
        help="ec2: ask the metadata service whether EC2 takes this machine back, and wind up in time; auto (default): as"
        " --identity says",
    )
    run.add_argument(
        "--runtime",
        choices=("auto", "docker", "process"),
        default="auto",
        help="auto (default): docker where an engine answers, else plain processes, which isolate nothing",
    )
    run.add_argument(
        "--input-networks",
        choices=("public", "private", "any"),
        default="public",
        help="where inputs may be fetched from: the internet only (default), private networks too, or any address, this"
        " machine's metadata service included; the control plane is always allowed",
    )
    run.add_argument(
        "--cache-mib",
        type=_count,
        default=10240,
        metavar="MIB",
        help="size of the input cache (default 10240; 0: no cache)",
    )
    run.add_argument(
        "--idle-power-off-seconds",
        type=_count,
        default=1800,
        metavar="S",
        help="end after this long without a run and without a word from the control plane, which may say otherwise at"
        " registration (default 1800; 0: never)",
    )
    run.add_argument(
        "--contact-file",
        type=Path,
        metavar="FILE",
        help="is kept at the time of the last word from the control plane, in whole seconds since boot, for who watches"
        " over the agent",
    )
    return parser


def _check_identity(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Ends the process with the usage when the options do not fit the identity."""
    for identity, names in _NEEDED.items():
        for name in names:
            value = getattr(given, name.removeprefix("--").replace("-", "_"))
            if identity == given.identity and not value:
                parser.error(f"--identity {identity} needs {name}")
            if identity != given.identity and value:
                parser.error(f"{name} has no meaning with --identity {given.identity}")


def _watch(given: argparse.Namespace, notices: Notices) -> None:
    """Listens to this machine's cloud from now on, where there is one to listen to."""
    if given.spot_watch == "ec2" or (given.spot_watch == "auto" and given.identity == "ec2"):
        SpotWatch(MetadataService.from_environment(), notices.hear).start()


def _identity(given: argparse.Namespace) -> Identity:
    if given.identity == "ec2":
        return Ec2Instance(MetadataService.from_environment(), given.installation)
    return JoinToken(given.machine_id, given.join_token_file)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _lock(directory: Path) -> TextIO | None:
    """Held as long as the process lives, whatever ends it; None when another process holds it."""
    file = (directory / "lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


if __name__ == "__main__":
    sys.exit(main())
