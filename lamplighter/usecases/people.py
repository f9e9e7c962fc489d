"""People and their tokens: who may come in, and as whom."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta

from lamplighter import keys
from lamplighter.domain.projects import Principal, Token, User
from lamplighter.errors import Invalid, NotAuthenticated, NotFound
from lamplighter.intents import record
from lamplighter.ports import Put
from lamplighter.records import Stored, again_on_conflict, find, find_many, need, new, walk
from lamplighter.usecases import bounds, credentials
from lamplighter.usecases.access import actor, need_admin, need_id, organisation_of
from lamplighter.world import World

LOG_IN_DAYS = 365
MIN_PASSWORD = 8
MAX_PASSWORD = 1024
ROLES = ("admin", "member")
LOG_IN_TOKEN = "Log-in"  # noqa: S105 - the name of such tokens in lists, not one of them
_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,149}")
_REFUSED = "Unable to log in with the username and password given."


def log_in(username: str, password: str, *, world: World) -> str:
    """The text of a fresh token that lives a year. Raises `Invalid`, alike and at the same cost for whatever was wrong."""
    stored = _user_named(username, world)
    fits = credentials.password_fits(password[:MAX_PASSWORD], stored.value.password if stored else "")
    if not stored or not fits or not stored.value.enabled or len(password) > MAX_PASSWORD:
        raise Invalid.because(_REFUSED, "authorization")
    expires_at = world.now() + timedelta(days=LOG_IN_DAYS)
    return create_token(stored.value.id, LOG_IN_TOKEN, expires_at=expires_at, world=world)[1]


def authenticate(token_text: str, *, world: World) -> Principal:
    """Who this token speaks for. Raises `NotAuthenticated`, saying `token_expired` where clients ask for a new log-in."""
    if not credentials.well_formed(token_text):
        raise NotAuthenticated("Invalid token: it is not one of this installation's, or was cut when it was copied.")
    token = find(world.metadata, Token, keys.token(credentials.token_hash(token_text)))
    if not token or token.value.revoked:
        raise NotAuthenticated("Invalid token: it is unknown or was revoked. Log in again.")
    if token.value.expires_at and token.value.expires_at <= world.now():
        raise NotAuthenticated("token_expired: this token has lived its time. Log in again.")
    user = find(world.metadata, User, keys.user(token.value.user_id))
    if not user or not user.value.enabled:
        raise NotAuthenticated("This user is disabled: ask an administrator of the organisation.")
    return principal_of(user.value)


def principal_of(user: User) -> Principal:
    """The user as a caller, once it is proven to be them."""
    return Principal(user.id, user.username, user.organisation_id, user.role, user.email)


@again_on_conflict
def create_user(
    principal: Principal | None, username: str, password: str, *, role: str = "member", email: str = "", world: World
) -> User:
    """A new person of the caller's organisation; None is the server's own command line.

    Raises `Forbidden` unless an admin calls, `Invalid` for a name that is taken or odd, or a password that is too short.
    """
    need_admin(principal, "create users")
    if not _USERNAME.fullmatch(username):
        raise Invalid(
            {"username": ["1 to 150 letters, digits and . _ @ + - are accepted; the first a letter or digit."]}
        )
    if role not in ROLES:
        raise Invalid({"role": [f'"{role[:50]}" is no role: choose {" or ".join(ROLES)}.']})
    if _user_named(username, world):
        raise Invalid({"username": [("A user with this name exists already.", "unique")]})
    user = User(
        id=world.new_id(),
        organisation_id=organisation_of(principal, world=world),
        username=username,
        role=role,
        ctime=world.now(),
        email=bounds.line("email", email, most=254),
        password=credentials.hash_password(_acceptable(password)),
    )
    trace = record(world, user.organisation_id, actor(principal), "user.create", user.id, username=username, role=role)
    world.metadata.transact([*rows_of_new_user(user), trace])
    return user


def rows_of_new_user(user: User) -> list[Put]:
    """The writes that make a user who was not there before."""
    pointer = {"user_id": user.id}
    return [
        new(keys.user(user.id), user),
        new(keys.username(user.username), pointer),
        new(keys.user_in(user.organisation_id, user.id), pointer),
    ]


def list_users(principal: Principal | None, *, world: World) -> list[User]:
    """Everybody of the caller's organisation, oldest first. Raises `Forbidden` unless an admin calls."""
    need_admin(principal, "list users")
    return _users_of(organisation_of(principal, world=world), world)


@again_on_conflict
def set_password(principal: Principal | None, user_id: str, password: str, *, world: World) -> None:
    """Replace a password: one's own, or anybody's by an admin. Tokens stay valid. Raises `Forbidden`, `Invalid`, `NotFound`."""
    if principal and principal.user_id != user_id:
        need_admin(principal, "set other people's passwords")
    stored = _need_user(principal, user_id, world)
    user = replace(stored.value, password=credentials.hash_password(_acceptable(password)))
    trace = record(world, user.organisation_id, actor(principal), "user.password", user_id)
    world.metadata.transact([stored.becomes(user), trace])


@again_on_conflict
def set_enabled(principal: Principal | None, user_id: str, enabled: bool, *, world: World) -> User:
    """Let somebody in again, or keep them out with all their tokens. Repeatable.

    Raises `Forbidden` unless an admin calls, and `Invalid` for oneself and for the last enabled administrator: somebody
    must stay who can let others in.
    """
    need_admin(principal, "enable or disable users")
    stored = _need_user(principal, user_id, world)
    if stored.value.enabled == enabled:
        return stored.value
    if principal and principal.user_id == user_id:
        raise Invalid({"enabled": ["You cannot disable yourself: ask another administrator."]})
    user = replace(stored.value, enabled=enabled)
    action = "user.enable" if enabled else "user.disable"
    trace = record(world, user.organisation_id, actor(principal), action, user_id)
    relied_on = [] if enabled or user.role != "admin" else [_another_admin(user, world).unchanged()]
    world.metadata.transact([stored.becomes(user), trace, *relied_on])
    return user


@again_on_conflict
def create_token(user_id: str, name: str, *, expires_at: datetime | None = None, world: World) -> tuple[Token, str]:
    """A new token and its text, which is nowhere kept and shown only now. Raises `NotFound`, `Invalid`."""
    name = bounds.line("name", name, most=bounds.NAME, least=1)
    user = need(world.metadata, User, keys.user(need_id(user_id, "user")), f"user {user_id}")
    now = world.now()
    if expires_at and expires_at <= now:
        raise Invalid({"expires_at": ["This lies in the past."]})
    text = credentials.new_token_text()
    token = Token(credentials.token_hash(text), user_id, name, text[: credentials.HINT_CHARS], now, expires_at)
    trace = record(
        world, user.value.organisation_id, user.value.username, "token.create", user_id, hint=token.hint, name=name
    )
    pointer = new(keys.token_of_user(user_id, token.sha256), {"sha256": token.sha256})
    world.metadata.transact([new(keys.token(token.sha256), token), pointer, user.unchanged(), trace])
    return token, text


def list_tokens(user_id: str, *, world: World) -> list[Token]:
    """The user's tokens, revoked and expired ones included, newest first."""
    rows = walk(world.metadata, keys.user(need_id(user_id, "user")).partition, prefix="token#")
    found = find_many(world.metadata, Token, [keys.token(row.key.sort.removeprefix("token#")) for row in rows])
    return sorted((t.value for t in found), key=lambda token: token.ctime, reverse=True)


@again_on_conflict
def revoke_token(principal: Principal | None, reference: str, *, world: World) -> Token:
    """End a token for ever: one's own, or anybody's by an admin. `reference` is its SHA-256 or its hint. Repeatable.

    Raises `NotFound`, and `Invalid` for a hint that several tokens share.
    """
    token = _token_meant(principal, reference, world)
    stored = need(world.metadata, Token, keys.token(token.sha256), "this token")
    if stored.value.revoked:
        return stored.value
    revoked = replace(stored.value, revoked=True)
    organisation = organisation_of(principal, world=world)
    trace = record(world, organisation, actor(principal), "token.revoke", token.user_id, hint=token.hint)
    world.metadata.transact([stored.becomes(revoked), trace])
    return revoked


def _user_named(username: str, world: World) -> Stored[User] | None:
    if not _USERNAME.fullmatch(username):
        return None
    pointer = world.metadata.get(keys.username(username))
    return find(world.metadata, User, keys.user(str(pointer.value["user_id"]))) if pointer else None


def _acceptable(password: str) -> str:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise Invalid({"password": [f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters."]})
    return password


def _users_of(organisation_id: str, world: World) -> list[User]:
    return [stored.value for stored in _stored_users_of(organisation_id, world)]


def _stored_users_of(organisation_id: str, world: World) -> list[Stored[User]]:
    rows = walk(world.metadata, keys.user_in(organisation_id, "-").partition)
    return find_many(world.metadata, User, [keys.user(row.key.sort) for row in rows])


def _another_admin(user: User, world: World) -> Stored[User]:
    for other in _stored_users_of(user.organisation_id, world):
        if other.value.id != user.id and other.value.enabled and other.value.role == "admin":
            return other
    raise Invalid({"enabled": [f"{user.username} is the last enabled administrator: add or enable another one first."]})


def _need_user(principal: Principal | None, user_id: str, world: World) -> Stored[User]:
    stored = need(world.metadata, User, keys.user(need_id(user_id, "user")), f"user {user_id}")
    if stored.value.organisation_id != organisation_of(principal, world=world):
        raise NotFound(f"user {user_id} does not exist")
    return stored


def _token_meant(principal: Principal | None, reference: str, world: World) -> Token:
    if principal and not principal.admin:
        user_ids = [principal.user_id]
    else:
        user_ids = [user.id for user in _users_of(organisation_of(principal, world=world), world)]
    tokens = [token for user_id in user_ids for token in list_tokens(user_id, world=world)]
    meant = [token for token in tokens if reference in (token.sha256, token.hint)]
    if not meant:
        raise NotFound("this token does not exist")
    if len(meant) > 1:
        raise Invalid({"token": [f"{len(meant)} tokens begin like this: name the one by its SHA-256."]})
    return meant[0]
