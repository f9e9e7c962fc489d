"""People come in with a password or a token, and only with a good one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lamplighter import keys
from lamplighter.domain.projects import Principal, User
from lamplighter.errors import Forbidden, Invalid, NotAuthenticated, NotFound
from lamplighter.records import walk, walk_together
from lamplighter.usecases import credentials, people
from lamplighter.world import World
from tests.doubles import SteppingClock, a_member, an_admin, make_world

PASSWORD = "correct horse"


def with_ada(world: World, admin: Principal | None = None) -> User:
    return people.create_user(admin or an_admin(), "ada", PASSWORD, email="ada@example.test", world=world)


def principal(user: User) -> Principal:
    return people.principal_of(user)


def test_a_person_logs_in_and_is_known_by_the_token():
    world = make_world()
    ada = with_ada(world)

    token = people.log_in("Ada", PASSWORD, world=world)

    assert people.authenticate(token, world=world) == Principal(
        ada.id, "ada", ada.organisation_id, "member", "ada@example.test"
    )


@pytest.mark.parametrize(
    ("username", "password"),
    [("ada", "wrong"), ("nobody", PASSWORD), ("", ""), ("ada#x", PASSWORD), ("ada", PASSWORD * 200), ("ada", "\ud800")],
)
def test_every_wrong_log_in_gets_the_same_answer(username: str, password: str):
    world = make_world()
    with_ada(world)

    with pytest.raises(Invalid) as refused:
        people.log_in(username, password, world=world)

    assert refused.value.fields == {
        "non_field_errors": (("Unable to log in with the username and password given.", "authorization"),)
    }


def test_a_disabled_person_neither_logs_in_nor_uses_an_older_token():
    world = make_world()
    ada = with_ada(world)
    token = people.log_in("ada", PASSWORD, world=world)

    people.set_enabled(an_admin(), ada.id, False, world=world)

    with pytest.raises(NotAuthenticated, match="disabled"):
        people.authenticate(token, world=world)
    with pytest.raises(Invalid):
        people.log_in("ada", PASSWORD, world=world)


def test_a_person_who_is_enabled_again_comes_in_with_the_old_token():
    world = make_world()
    ada = with_ada(world)
    token = people.log_in("ada", PASSWORD, world=world)
    people.set_enabled(an_admin(), ada.id, False, world=world)

    people.set_enabled(an_admin(), ada.id, True, world=world)

    assert people.authenticate(token, world=world).user_id == ada.id


def test_nobody_disables_themselves():
    world = make_world()
    root = people.create_user(an_admin(), "root", PASSWORD, role="admin", world=world)

    with pytest.raises(Invalid, match="another administrator"):
        people.set_enabled(principal(root), root.id, False, world=world)


def test_the_last_enabled_administrator_stays():
    world = make_world()
    root, ada = (people.create_user(an_admin(), n, PASSWORD, role="admin", world=world) for n in ("root", "ada"))
    people.set_enabled(an_admin(), ada.id, False, world=world)

    with pytest.raises(Invalid, match="root is the last enabled administrator"):
        people.set_enabled(an_admin(), root.id, False, world=world)

    people.set_enabled(an_admin(), ada.id, True, world=world)
    assert not people.set_enabled(an_admin(), root.id, False, world=world).enabled


def test_a_log_in_token_lives_for_a_year():
    clock = SteppingClock()
    world = make_world(now=clock)
    with_ada(world)
    token = people.log_in("ada", PASSWORD, world=world)

    clock.advance(days=364)
    assert people.authenticate(token, world=world).username == "ada"
    clock.advance(days=1)

    with pytest.raises(NotAuthenticated, match="token_expired"):
        people.authenticate(token, world=world)


@pytest.mark.parametrize("text", ["", "mlo_", "x" * 53, "ключ", "mlo_" + "a" * 49, "a\nb"])
def test_what_was_never_a_token_is_refused_without_a_look_up(text: str):
    with pytest.raises(NotAuthenticated, match="not one of"):
        people.authenticate(text, world=make_world())


def test_a_well_formed_token_that_nobody_was_given_is_refused():
    with pytest.raises(NotAuthenticated, match="unknown"):
        people.authenticate(credentials.new_token_text(), world=make_world())


def test_a_token_carries_a_checksum_that_a_typing_error_breaks():
    text = credentials.new_token_text()

    broken = text[:10] + ("A" if text[10] != "A" else "B") + text[11:]

    assert len(text) == 53
    assert credentials.well_formed(text)
    assert not credentials.well_formed(broken)


def test_neither_passwords_nor_token_texts_are_stored():
    world = make_world()
    ada = with_ada(world)
    token = people.log_in("ada", PASSWORD, world=world)

    stored = repr(
        [
            *walk(world.metadata, keys.user(ada.id).partition),
            *walk_together(world.metadata, keys.audit_partitions("org-1")),
        ]
    )

    assert PASSWORD not in stored
    assert token not in stored
    assert token[: credentials.HINT_CHARS] in stored


def test_a_revoked_token_opens_nothing_and_can_be_revoked_again():
    world = make_world()
    ada = with_ada(world)
    made, text = people.create_token(ada.id, "notebook", world=world)

    people.revoke_token(principal(ada), made.hint, world=world)
    people.revoke_token(principal(ada), made.sha256, world=world)

    with pytest.raises(NotAuthenticated):
        people.authenticate(text, world=world)
    assert [(t.name, t.revoked) for t in people.list_tokens(ada.id, world=world)] == [("notebook", True)]


def test_nobody_but_an_admin_revokes_the_token_of_another_person():
    world = make_world()
    ada = with_ada(world)
    bob = people.create_user(an_admin(), "bob", PASSWORD, world=world)
    made, text = people.create_token(ada.id, "notebook", world=world)

    with pytest.raises(NotFound):
        people.revoke_token(principal(bob), made.sha256, world=world)
    with pytest.raises(NotFound):
        people.revoke_token(an_admin(organisation="org-2"), made.sha256, world=world)

    assert people.authenticate(text, world=world).user_id == ada.id
    assert people.revoke_token(an_admin(), made.hint, world=world).revoked


def test_tokens_are_listed_newest_first():
    world = make_world()
    ada = with_ada(world)
    people.create_token(ada.id, "first", world=world)
    people.create_token(ada.id, "second", expires_at=world.now() + timedelta(days=1), world=world)

    listed = people.list_tokens(ada.id, world=world)

    assert [token.name for token in listed] == ["second", "first"]


def test_a_token_that_has_expired_already_is_not_made():
    world = make_world()
    ada = with_ada(world)

    with pytest.raises(Invalid, match="past"):
        people.create_token(ada.id, "old", expires_at=world.now() - timedelta(days=1), world=world)


def test_a_username_is_taken_whatever_its_case():
    world = make_world()
    with_ada(world)

    with pytest.raises(Invalid) as refused:
        people.create_user(an_admin(), "ADA", PASSWORD, world=world)

    assert refused.value.fields["username"] == (("A user with this name exists already.", "unique"),)


@pytest.mark.parametrize("username", ["", "-ada", "a b", "a" * 151, "ada\n", "ада"])
def test_an_odd_username_is_refused(username: str):
    with pytest.raises(Invalid) as refused:
        people.create_user(an_admin(), username, PASSWORD, world=make_world())

    assert list(refused.value.fields) == ["username"]


def test_a_short_password_and_an_unknown_role_are_refused():
    world = make_world()

    with pytest.raises(Invalid, match="8 to 1024"):
        people.create_user(an_admin(), "ada", "short", world=world)
    with pytest.raises(Invalid, match="admin or member"):
        people.create_user(an_admin(), "ada", PASSWORD, role="owner", world=world)

    assert people.list_users(an_admin(), world=world) == []


def test_members_manage_nobody():
    world = make_world()
    ada = with_ada(world)

    with pytest.raises(Forbidden):
        people.create_user(a_member(), "eve", PASSWORD, world=world)
    with pytest.raises(Forbidden):
        people.list_users(a_member(), world=world)
    with pytest.raises(Forbidden):
        people.set_password(a_member("bob"), ada.id, "another one", world=world)
    with pytest.raises(Forbidden):
        people.set_enabled(a_member(), ada.id, False, world=world)


def test_a_person_changes_their_own_password():
    world = make_world()
    ada = with_ada(world)

    people.set_password(principal(ada), ada.id, "another one", world=world)

    assert people.log_in("ada", "another one", world=world)
    with pytest.raises(Invalid):
        people.log_in("ada", PASSWORD, world=world)


def test_an_admin_of_another_organisation_finds_nobody():
    world = make_world()
    ada = with_ada(world)
    stranger = an_admin(organisation="org-2")

    with pytest.raises(NotFound):
        people.set_password(stranger, ada.id, "another one", world=world)
    with pytest.raises(NotFound):
        people.set_enabled(stranger, ada.id, False, world=world)

    assert people.list_users(stranger, world=world) == []
    assert [user.username for user in people.list_users(an_admin(), world=world)] == ["ada"]
