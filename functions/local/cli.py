"""The `lamplighter` command: start a server, look after its people, tokens, environments and stores."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from functions.settings import default_state, read_settings
from functions.version import VERSION
from lamplighter.errors import Invalid, LamplighterError

_EXAMPLES = """\
examples:
  lamplighter up                                      start a server on http://127.0.0.1:8000
  lamplighter up --port 0 --runtime process           any free port, steps as plain processes
  lamplighter doctor                                  what this machine lacks, and how to get it
  lamplighter user add ada                            somebody who may log in; asks for the password
  lamplighter token create ada --name ci              a token for scripts, shown this once
  lamplighter environment set local max_machines=4    run four steps at once
  lamplighter store add lake --bucket b --default     keep outputs in a bucket from now on
  lamplighter store default local                     and on this server's own disk again

All commands work on the same state folder: --state DIR, or LAMPLIGHTER_STATE, or ~/.local/share/lamplighter.

an installation on AWS, with your own AWS credentials:
  lamplighter --stack ml init --environment cpu --instance-type t3.medium --price 0.05
  lamplighter --stack ml doctor                       whether everything of the stack is there
  lamplighter --stack ml --region eu-north-1 user add ada
  lamplighter --stack ml environment add gpu 'options.instance_types=["g5.xlarge"]' max_machines=4

With --stack, every command but `up` works on that stack: user, token, environment, store, registry.
"""

_INIT_EXAMPLES = """\
examples:
  lamplighter --stack ml init
  lamplighter --stack ml init --environment cpu --instance-type t3.medium --instance-type t3a.medium --price 0.05
"""

_UP_EXAMPLES = """\
examples:
  lamplighter up --state ./state --port 8000
  lamplighter up --host 0.0.0.0 --url https://ml.example.org --behind-proxy
  LAMPLIGHTER_ADMIN_PASSWORD=... lamplighter up       choose the administrator's password yourself

Every option can also be set as LAMPLIGHTER_<NAME>, e.g. LAMPLIGHTER_MAX_MACHINES=4. Stop with Ctrl-C: idle machines are
put out, runs that are under way go on and report when the server is back.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 for a failure that is explained, or 2 for a wrong command line."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if not getattr(parsed, "run", None):
        (getattr(parsed, "parser", None) or parser).print_help()
        return 2
    if parsed.state is None and not os.environ.get("LAMPLIGHTER_STATE"):
        parsed.state = str(default_state(os.environ))
    try:
        code: int = parsed.run(parsed)
    except LamplighterError as error:
        print(_told(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _told(error: LamplighterError) -> str:
    if not isinstance(error, Invalid):
        return f"lamplighter: {error}"
    lines = [
        f"lamplighter: {'' if name == 'non_field_errors' else name + ': '}{m if isinstance(m, str) else m[0]}"
        for name, messages in error.fields.items()
        for m in messages
    ]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    what = "Run machine-learning steps on machines that exist only while there is work."
    parser = _described(argparse.ArgumentParser(prog="lamplighter"), what, _EXAMPLES)
    parser.add_argument("--version", action="version", version=f"lamplighter {VERSION}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--state", metavar="DIR", help="the folder that holds everything of one server")
    parser.add_argument("--stack", metavar="NAME", help="the CloudFormation stack of an installation on AWS")
    parser.add_argument("--region", help="the region of the stack (that of your AWS profile)")
    parser.set_defaults(state=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_up(commands, common)
    _add_init(commands)
    _add_people(commands, common)
    _add_offers(commands, common)
    doctor = commands.add_parser("doctor", parents=[common], help="look at what this machine has and lacks")
    doctor.add_argument("--host", help="the address the server will listen on")
    doctor.add_argument("--port", help="the port the server will listen on")
    doctor.set_defaults(run=_doctor)
    version = commands.add_parser("version", parents=[common], help="print the version")
    version.set_defaults(run=_version)
    return parser


def _described(parser: argparse.ArgumentParser, text: str, examples: str) -> argparse.ArgumentParser:
    parser.description, parser.epilog = text, examples
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def _add_up(commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    up = _described(
        commands.add_parser("up", parents=[common], help="start a server"),
        "Start a server: API, web page, scheduler and workers of this machine in one process.",
        _UP_EXAMPLES,
    )
    up.add_argument("--host", help="the address to listen on (127.0.0.1); 0.0.0.0 lets other machines in")
    up.add_argument("--port", help="the port to listen on (8000); 0 takes any free one")
    up.add_argument("--url", help="the address that clients use, if it is another one")
    up.add_argument("--runtime", help="how steps run: docker, process (no container), or auto")
    up.add_argument("--max-machines", help="how many steps may run at once (2)")
    up.add_argument("--idle-seconds", help="how long a worker waits for more work before it ends (300)")
    up.add_argument("--input-networks", help="where inputs may be fetched from: public, private or any")
    up.add_argument(
        "--allow-private-git",
        action="store_const",
        const="true",
        help="repositories may be on this network, or on this disk as file://",
    )
    up.add_argument("--behind-proxy", action="store_const", const="true", help="believe X-Forwarded-* headers")
    up.set_defaults(run=_up)


def _add_people(commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    users = commands.add_parser("user", help="people who may log in")
    users.set_defaults(parser=users)
    user = users.add_subparsers(title="commands", metavar="COMMAND")
    add = _command(user, "add", "let somebody in", common, "user_add")
    add.add_argument("username")
    add.add_argument("--role", choices=("member", "admin"), default="member")
    add.add_argument("--email", default="")
    _password_option(add)
    _command(user, "list", "everybody", common, "user_list")
    password = _command(user, "password", "give somebody another password", common, "user_password")
    password.add_argument("username")
    _password_option(password)
    for name, text in (("disable", "keep somebody out, with all their tokens"), ("enable", "let them in again")):
        _command(user, name, text, common, f"user_{name}").add_argument("username")

    tokens = commands.add_parser("token", help="tokens for scripts and programs")
    tokens.set_defaults(parser=tokens)
    token = tokens.add_subparsers(title="commands", metavar="COMMAND")
    create = _command(token, "create", "make a token; its text is shown this once", common, "token_create")
    create.add_argument("username")
    create.add_argument("--name", required=True, help="what it is for")
    create.add_argument("--days", type=int, help="how long it lives, 1 to 36500 (for ever)")
    _command(token, "list", "somebody's tokens", common, "token_list").add_argument("username")
    _command(token, "revoke", "end a token", common, "token_revoke").add_argument(
        "token", help="its id or its beginning"
    )


def _add_offers(commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    environments = commands.add_parser("environment", help="kinds of machine on offer")
    environments.set_defaults(parser=environments)
    environment = environments.add_subparsers(title="commands", metavar="COMMAND")
    _command(environment, "list", "all of them", common, "environment_list")
    for name, text in (("set", "change one"), ("add", "offer another one")):
        command = _command(environment, name, text, common, f"environment_{name}")
        command.add_argument("slug")
        command.add_argument(
            "fields", nargs="+", metavar="field=value", help="e.g. max_machines=4 options.runtime=docker"
        )

    stores = commands.add_parser("store", help="where outputs and code are kept")
    stores.set_defaults(parser=stores)
    store = stores.add_subparsers(title="commands", metavar="COMMAND")
    _command(store, "list", "all of them", common, "store_list")
    add = _command(store, "add", "use a bucket of S3 or of a compatible server", common, "store_add")
    add.add_argument("name")
    add.add_argument("--bucket", required=True)
    add.add_argument("--prefix", default="")
    add.add_argument("--endpoint-url", help="of an S3-compatible server")
    add.add_argument("--region")
    add.add_argument("--access-key-id", help="the secret key is read from LAMPLIGHTER_STORE_SECRET_KEY, or asked for")
    add.add_argument("--no-conditional-writes", action="store_true", help="the server ignores If-None-Match")
    add.add_argument("--default", action="store_true", help="uploaded code, logs and outputs go here from now on")
    add.add_argument("--no-check", action="store_true", help="add it without writing and reading a small object first")
    default = _command(
        store, "default", "where uploaded code, logs and outputs go from now on", common, "store_default"
    )
    default.add_argument("name", help='one of `lamplighter store list`; "local" is this server\'s own disk')

    registries = commands.add_parser("registry", help="credentials for private image registries")
    registries.set_defaults(parser=registries)
    registry = registries.add_subparsers(title="commands", metavar="COMMAND")
    _command(registry, "list", "all of them", common, "registry_list")
    login = _command(registry, "add", "pull images of a registry with an account", common, "registry_add")
    login.add_argument(
        "address", help="as it stands before the image's name, e.g. ghcr.io or registry.example.org:5000"
    )
    login.add_argument("--username", required=True)
    _password_option(login)
    _command(registry, "remove", "forget the credentials", common, "registry_remove").add_argument("address")


def _command(
    group: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    common: argparse.ArgumentParser,
    function: str,
) -> argparse.ArgumentParser:
    parser = group.add_parser(name, parents=[common], help=text, description=text.capitalize() + ".")

    def run(parsed: argparse.Namespace) -> int:
        from functions.local import commands  # loads the use cases: not needed to print help

        return commands.run(function, _opened(parsed), parsed)

    parser.set_defaults(run=run)
    return parser


def _opened(parsed: argparse.Namespace) -> Any:
    from functions.local import commands

    if parsed.stack:
        from functions.aws import operator  # loads boto3

        return operator.opened(parsed.stack, parsed.region)
    known = {name: value for name, value in os.environ.items() if name == "LAMPLIGHTER_STATE"}
    return commands.opened(read_settings({"state": parsed.state}, known))


def _add_init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    init = _described(
        commands.add_parser("init", help="begin with a stack on AWS: its administrator and first environment"),
        "Make the administrator of a stack, whose password is shown this once, and its first environment. Repeatable.",
        _INIT_EXAMPLES,
    )
    init.add_argument("--environment", metavar="SLUG", help="the name of the first kind of machine on offer")
    init.add_argument("--instance-type", action="append", metavar="TYPE", help="an acceptable type; may be repeated")
    init.add_argument(
        "--purchase", choices=("spot", "on_demand", "spot_then_on_demand"), default="spot", help="how it is paid (spot)"
    )
    init.add_argument("--price", metavar="USD_PER_HOUR", help="what one costs at most; the daily budget counts with it")
    init.add_argument("--max-machines", type=int, help="how many of them may live at once (2)")
    init.add_argument(
        "--password-stdin", action="store_true", help="read the administrator's password from standard input"
    )
    init.set_defaults(run=_init)


def _init(parsed: argparse.Namespace) -> int:
    if not parsed.stack:
        raise Invalid(
            {"stack": ["Give the stack: lamplighter --stack NAME init. One server needs no init: lamplighter up"]}
        )
    if bool(parsed.environment) != bool(parsed.instance_type):
        raise Invalid({"environment": ["Give --environment and --instance-type together, or neither."]})
    if parsed.price is not None and not parsed.environment:
        raise Invalid({"price": ["Give --price together with --environment: it is what a machine of it costs."]})
    from functions.aws.operator import init  # loads boto3

    parsed.admin_password = sys.stdin.readline().rstrip("\n") if parsed.password_stdin else None
    return init(parsed.stack, parsed.region, parsed)


def _password_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--password-stdin", action="store_true", help="read the password from standard input instead of asking for it"
    )


def _up(parsed: argparse.Namespace) -> int:
    if parsed.stack:
        raise Invalid(
            {"stack": ["A stack runs by itself: `lamplighter up` starts a server on this machine, without --stack."]}
        )
    from functions.local.up import up  # loads the server

    return up(read_settings(vars(parsed), os.environ))


def _doctor(parsed: argparse.Namespace) -> int:
    if parsed.stack:
        from functions.aws import doctor as of_stack  # loads boto3

        return of_stack.doctor(parsed.stack, parsed.region)
    from functions.local.doctor import doctor

    return doctor(read_settings(vars(parsed), os.environ))


def _version(_: argparse.Namespace) -> int:
    print(f"lamplighter {VERSION}")
    return 0
