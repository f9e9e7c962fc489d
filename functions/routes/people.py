"""Logging in, who one is, and tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Body
from pydantic import BaseModel, Field

from functions.presentation.common import Page, Shape, maybe_time, page_of, time
from functions.routes.base import new_router
from functions.routes.callers import Anybody, Person
from lamplighter.domain.projects import Token, User
from lamplighter.usecases import people

router = new_router()


class Credentials(BaseModel):
    """A name and a password."""

    username: str = Field(max_length=300)
    password: str = Field(max_length=5000)


class TokenShown(Shape):
    """The text of a token, shown this once."""

    token: str


class Me(Shape):
    """The caller."""

    id: str
    username: str
    email: str
    role: str
    organisation_id: str


class LoginLink(Shape):
    """Where a person logs in."""

    url: str


class NewToken(BaseModel):
    """A token to make."""

    name: str = Field(min_length=1, max_length=200)
    expires_at: datetime | None = None


class TokenShape(Shape):
    """A token without its text. `id` is its SHA-256, by which it is revoked."""

    id: str
    name: str
    hint: str
    ctime: str
    expires_at: str | None
    revoked: bool


class TokenMade(TokenShape):
    """A new token with its text, shown this once."""

    token: str


class UserShape(Shape):
    """A person of the organisation."""

    id: str
    username: str
    email: str
    role: str
    enabled: bool
    ctime: str


@router.post("/api/v0/get-token/", operation_id="logIn", tags=["people"], summary="Log in with name and password")
def log_in(call: Anybody, credentials: Annotated[Credentials, Body()]) -> TokenShown:
    return TokenShown(token=people.log_in(credentials.username, credentials.password, world=call.world))


@router.get("/api/v0/users/me/", operation_id="getMe", tags=["people"], summary="Who the token belongs to")
def get_me(call: Person) -> Me:
    me = call.principal
    return Me(id=me.user_id, username=me.username, email=me.email, role=me.role, organisation_id=me.organisation_id)


@router.get("/api/v0/users/login_link/", operation_id="getLoginLink", tags=["people"], summary="Where people log in")
def get_login_link(call: Person) -> LoginLink:
    return LoginLink(url=call.url("/"))


@router.get("/api/v0/users/", operation_id="listUsers", tags=["people"], summary="Everybody, for administrators")
def list_users(call: Person) -> Page[UserShape]:
    return page_of(call, people.list_users(call.principal, world=call.world), _user, limit=0, offset=0)


@router.get("/api/v0/tokens/", operation_id="listTokens", tags=["people"], summary="One's own tokens")
def list_tokens(call: Person) -> Page[TokenShape]:
    tokens = people.list_tokens(call.principal.user_id, world=call.world)
    return page_of(call, tokens, _token, limit=0, offset=0)


@router.post(
    "/api/v0/tokens/", status_code=201, operation_id="createToken", tags=["people"], summary="Make a token for oneself"
)
def create_token(call: Person, wanted: Annotated[NewToken, Body()]) -> TokenMade:
    token, text = people.create_token(
        call.principal.user_id, wanted.name, expires_at=_aware(wanted.expires_at), world=call.world
    )
    return TokenMade(**_token(token).model_dump(), token=text)


@router.delete("/api/v0/tokens/<token_id>/", operation_id="revokeToken", tags=["people"], summary="End a token")
def revoke_token(call: Person, token_id: str) -> TokenShape:
    return _token(people.revoke_token(call.principal, token_id, world=call.world))


def _token(token: Token) -> TokenShape:
    return TokenShape(
        id=token.sha256,
        name=token.name,
        hint=token.hint,
        ctime=time(token.ctime),
        expires_at=maybe_time(token.expires_at),
        revoked=token.revoked,
    )


def _user(user: User) -> UserShape:
    return UserShape(
        id=user.id,
        username=user.username,
        email=user.email,
        role=user.role,
        enabled=user.enabled,
        ctime=time(user.ctime),
    )


def _aware(moment: datetime | None) -> datetime | None:
    return moment.astimezone() if moment and moment.tzinfo is None else moment
