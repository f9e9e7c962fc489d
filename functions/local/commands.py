"""What the command line does to an installation: a state folder, beside a running server or without one, or a stack."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from datetime import timedelta
from typing import Any, Protocol, get_type_hints

from functions.local.state import initialised, read_holder
from functions.settings import Settings
from functions.stores import ConfiguredStores, StoreRow, add_store, prove_store, set_default
from functions.wiring import Wired, wire
from lamplighter.domain.environments import Environment
from lamplighter.domain.projects import User
from lamplighter.errors import Invalid, NotFound
from lamplighter.ports import Metadata, Purpose, Store
from lamplighter.usecases import environments, people, registries
from lamplighter.usecases.access import organisation_of
from lamplighter.world import World

STORE_SECRET = "LAMPLIGHTER_STORE_SECRET_KEY"  # noqa: S105 - the name of a variable

MAX_TOKEN_DAYS = 36_500


class Installed(Protocol):
    """An installation as the commands reach it, wherever it runs."""

    @property
    def world(self) -> World: ...

    @property
    def metadata(self) -> Metadata: ...

    @property
    def stores(self) -> ConfiguredStores: ...


def run(name: str, place: AbstractContextManager[Installed], arguments: argparse.Namespace) -> int:
    """Do one command; the exit code. Raises what opening the place raises."""
    with place as installed:
        _COMMANDS[name](installed, arguments)
    return 0


@contextmanager
def opened(settings: Settings) -> Iterator[Wired]:
    """One server's state. Raises `NotFound` for a folder on which no server has ever started."""
    if not initialised(settings.state):
        raise NotFound(
            f"There is no server's state in {settings.state}: start one with `lamplighter up`, or give --state."
        )
    wired = wire(settings, str(read_holder(settings.state).get("url") or "http://127.0.0.1:8000"))
    try:
        yield wired
    finally:
        wired.metadata.close()


def _user_add(place: Installed, given: argparse.Namespace) -> None:
    password = _password(given)
    user = people.create_user(None, given.username, password, role=given.role, email=given.email, world=place.world)
    print(f"{user.username} ({user.role}) may log in.")


def _user_list(place: Installed, _: argparse.Namespace) -> None:
    users = people.list_users(None, world=place.world)
    _table(
        ("username", "role", "enabled", "email", "since"),
        ((u.username, u.role, "yes" if u.enabled else "no", u.email, f"{u.ctime:%Y-%m-%d}") for u in users),
    )


def _user_password(place: Installed, given: argparse.Namespace) -> None:
    user = _user(place, given.username)
    people.set_password(None, user.id, _password(given), world=place.world)
    print(f"{user.username} has another password. Tokens stay valid: see `lamplighter token list {user.username}`.")


def _user_disable(place: Installed, given: argparse.Namespace) -> None:
    people.set_enabled(None, _user(place, given.username).id, False, world=place.world)
    print(f"{given.username} is kept out, with all tokens.")


def _user_enable(place: Installed, given: argparse.Namespace) -> None:
    people.set_enabled(None, _user(place, given.username).id, True, world=place.world)
    print(f"{given.username} may log in again.")


def _token_create(place: Installed, given: argparse.Namespace) -> None:
    if given.days is not None and not 1 <= given.days <= MAX_TOKEN_DAYS:
        raise Invalid({"days": [f"A token lives from 1 to {MAX_TOKEN_DAYS} days, or for ever without --days."]})
    until = place.world.now() + timedelta(days=given.days) if given.days is not None else None
    user = _user(place, given.username)
    _, text = people.create_token(user.id, given.name, expires_at=until, world=place.world)
    print(text)
    print("This is shown only now. Use it as: Authorization: Token <token>", file=sys.stderr)


def _token_list(place: Installed, given: argparse.Namespace) -> None:
    tokens = people.list_tokens(_user(place, given.username).id, world=place.world)
    now = place.world.now()
    rows = [
        (
            t.hint + "...",
            t.name,
            "revoked" if t.revoked else "expired" if t.expires_at and t.expires_at <= now else "valid",
            f"{t.expires_at:%Y-%m-%d}" if t.expires_at else "never",
            t.sha256[:16],
        )
        for t in tokens
    ]
    _table(("token", "name", "state", "expires", "id"), rows)


def _token_revoke(place: Installed, given: argparse.Namespace) -> None:
    token = people.revoke_token(None, given.token.removesuffix("..."), world=place.world)
    print(f"The token {token.hint}... ({token.name}) is revoked.")


def _environment_list(place: Installed, _: argparse.Namespace) -> None:
    found = environments.list_environments(None, world=place.world)
    waiting = environments.unfinished_counts([e.id for e in found], world=place.world)
    rows = [
        (
            e.slug,
            e.name,
            e.cloud,
            "yes" if e.enabled else "no",
            str(e.max_machines),
            str(e.idle_seconds),
            str(waiting[e.id]),
            json.dumps(dict(e.options)),
        )
        for e in found
    ]
    _table(("slug", "name", "cloud", "enabled", "machines", "idle s", "unfinished", "options"), rows)


def _environment_set(place: Installed, given: argparse.Namespace) -> None:
    current = environments.get_environment(None, given.slug, world=place.world)
    changes = _environment_fields(given.fields, current.options)
    changed = environments.update_environment(None, given.slug, changes, world=place.world)
    print(f"{changed.slug}: {', '.join(f'{name}={changes[name]}' for name in sorted(changes))}")


def _environment_add(place: Installed, given: argparse.Namespace) -> None:
    wanted = {
        "name": given.slug,
        "cloud": next(iter(place.world.clouds)),
        **_environment_fields(given.fields, {}),
        "slug": given.slug,
    }
    made = environments.create_environment(None, wanted, world=place.world)
    print(f"{made.slug} is on offer: {made.name}, cloud {made.cloud}, at most {made.max_machines} machines.")


def _store_list(place: Installed, _: argparse.Namespace) -> None:
    default = place.stores.home("outputs")
    _table(
        ("name", "type", "default", "where"),
        (
            (r.name, r.type, "yes" if r.name == default else "", place.stores.uri(r.name, ""))
            for r in place.stores.rows()
        ),
    )


def _store_add(place: Installed, given: argparse.Namespace) -> None:
    options: dict[str, Any] = {"bucket": given.bucket}
    options |= {k: v for k in ("prefix", "endpoint_url", "region") if (v := getattr(given, k))}
    options |= {"conditional_writes": False} if given.no_conditional_writes else {}
    credentials = {}
    if given.access_key_id:
        secret = os.environ.get(STORE_SECRET) or _asked("Secret access key: ", f"set {STORE_SECRET}")
        credentials = {"access_key_id": given.access_key_id, "secret_access_key": secret}
    row = StoreRow(given.name, "s3", options, default=given.default)
    prove: Callable[[Store], None] = _nothing if given.no_check else prove_store
    made = add_store(place.metadata, place.world.secrets, row, credentials, prove=prove, built_in=place.stores.built_in)
    print(f"{made.name} is a store now: {place.stores.uri(made.name, '')}" + (", the default" if made.default else ""))


def _nothing(_: Store) -> None:
    """What is looked at when nobody wants a look."""


def _store_default(place: Installed, given: argparse.Namespace) -> None:
    set_default(place.metadata, given.name, built_in=place.stores.built_in)
    goes: dict[Purpose, str] = {"code": "uploaded code", "logs": "logs", "outputs": "outputs"}
    moved = [text for purpose, text in goes.items() if place.stores.home(purpose) == given.name]
    print(f"{', '.join(moved).capitalize()}: to {given.name} from now on; what lies elsewhere stays there.")


def _registry_list(place: Installed, _: argparse.Namespace) -> None:
    found = registries.list_registries(_organisation(place), world=place.world)
    _table(("address", "username"), ((r.address, r.username) for r in found))


def _registry_add(place: Installed, given: argparse.Namespace) -> None:
    password = _password(given)
    made = registries.set_registry(_organisation(place), given.address, given.username, password, world=place.world)
    print(f"Images of {made.address} are pulled as {made.username} from now on.")


def _registry_remove(place: Installed, given: argparse.Namespace) -> None:
    registries.remove_registry(_organisation(place), given.address, world=place.world)
    print(f"The credentials for {given.address} are forgotten.")


def _organisation(place: Installed) -> str:
    return organisation_of(None, world=place.world)


def _user(place: Installed, username: str) -> User:
    for user in people.list_users(None, world=place.world):
        if user.username.casefold() == username.casefold():
            return user
    raise NotFound(f"There is no user {username}: see `lamplighter user list`.")


def _password(given: argparse.Namespace) -> str:
    if given.password_stdin:
        return sys.stdin.readline().rstrip("\n")
    password = _asked("Password: ", "give --password-stdin")
    if password != _asked("Again: ", "give --password-stdin"):
        raise Invalid({"password": ["The two are not the same: nothing was changed."]})
    return password


def _asked(prompt: str, otherwise: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise Invalid({"password": [f"Nobody is there to be asked for it: {otherwise}."]}) from None


def _environment_fields(pairs: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """`name=value` as fields; "options.x=y" changes one option, "options.x=null" removes it.

    Values are JSON where the field is no text.
    """
    wanted: dict[str, Any] = {}
    texts = {f.name for f in fields(Environment) if get_type_hints(Environment)[f.name] is str}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise Invalid({"fields": [f"{pair!r} must be written as field=value."]})
        if name.startswith("options."):
            known = {**wanted.get("options", options), name.removeprefix("options."): _value(value)}
            wanted["options"] = {option: v for option, v in known.items() if v is not None}
        elif name == "per_hour_price_usd" or name in texts:
            wanted[name] = value
        else:
            wanted[name] = _value(value)
    return wanted


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = [titles, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


_COMMANDS: Mapping[str, Callable[[Installed, argparse.Namespace], None]] = {
    "user_add": _user_add,
    "user_list": _user_list,
    "user_password": _user_password,
    "user_disable": _user_disable,
    "user_enable": _user_enable,
    "token_create": _token_create,
    "token_list": _token_list,
    "token_revoke": _token_revoke,
    "environment_list": _environment_list,
    "environment_set": _environment_set,
    "environment_add": _environment_add,
    "store_list": _store_list,
    "store_add": _store_add,
    "store_default": _store_default,
    "registry_list": _registry_list,
    "registry_add": _registry_add,
    "registry_remove": _registry_remove,
}
