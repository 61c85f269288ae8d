"""The outbox at each engine, with real servers: each local change is published once, and other sites' changes are not echoed."""

import json
import threading
import uuid

import pytest
from engine_servers import EngineNode, connected, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from identities import Node, converge, exchange
from test_identity_keystone import MAKE, MEMBER, READ, READER, ids

from atoll.identity import outbox, rows
from atoll.identity.engines import DatabaseError

USER = "INSERT INTO \"user\" (id, domain_id, enabled, extra) VALUES (?, 'default', ?, ?)"
NAME = "INSERT INTO local_user (user_id, domain_id, name) VALUES (?, 'default', ?)"
NAMES = "SELECT name FROM local_user"


def add(connection, name: str, user: str = "", extra: str = "{}") -> str:
    user = user or uuid.uuid4().hex
    run(connection, USER, user, True, extra)
    run(connection, NAME, user, name)
    return user


def made(node: EngineNode, name: str, user: str = "", extra: str = "{}") -> str:
    with connected(node.url) as connection:
        user = add(connection, name, user, extra)
        connection.commit()
    node.site.clock.ms += 1
    return user


def names(node: EngineNode) -> set[str]:
    return {name for (name,) in node.sql(NAMES)}


@pytest.fixture
def pair(agreeing) -> tuple[EngineNode, Node]:
    """Two sites that agree: one at the engine, and one on SQLite; without the users and projects of earlier tests."""
    paris, lyon = agreeing
    converge([paris, lyon])
    lyon.sql("DELETE FROM user")
    lyon.sql("DELETE FROM project WHERE id NOT IN ('default', '<<keystone.domain.root>>')")
    converge([paris, lyon])
    assert paris.document.digest() == lyon.document.digest()
    assert paris.contents() == lyon.contents()
    assert names(paris) == set()
    yield agreeing
    paris.check()
    lyon.check()


def of_its_own(code: str, number: int) -> str:
    """Return code that makes or reads records with names of their own."""
    for name in ("Sud/Est", "idp", "map", "physics", "chemist", "https://idp.example.org/a,b"):
        code = code.replace(f'"{name}"', f'"{name}{number}"')
    return code


def ordered(told: dict) -> dict:
    """Return what Keystone lists, in an order that does not depend on the engine."""
    return {name: sorted(each, key=str) if isinstance(each, list) else each for name, each in told.items()}


CHANGE = """
identity.update_user(user, {"name": "skłodowska", "email": None, "password": "polonium"})
resource.update_project(project, {"tags": ["warm"], "description": "-"})
identity.delete_group(group)
federation.delete_protocol("idp", "saml")
role.delete_role(chemist)
identity.delete_user(other)
"""

SIGN_IN = """
try:
    identity.driver.authenticate(user, "polonium")
    tell("yes")
except Exception as error:
    tell(str(error))
"""


@pytest.mark.parametrize("number", [1, 2], ids=["there", "back"])
def test_all_that_keystone_makes_arrives(pair, keystone, number):
    paris, lyon = pair
    origin, other = (paris.url, lyon.database) if number == 1 else (lyon.database, paris.url)
    given_ = ids()
    code = of_its_own(f"given = {given_!r}\nuuid = given.__getitem__\n{MAKE}", number)
    given_ |= keystone.run(origin, code, MEMBER=MEMBER, READER=READER)
    converge([paris, lyon])
    read = of_its_own(READ, number)
    assert ordered(keystone.run(other, read)) == ordered(keystone.run(origin, read))
    assert paris.contents() == lyon.contents()
    changed = {name: given_[name] for name in ("user", "other", "project", "group")}
    keystone.run(origin, of_its_own(CHANGE, number), chemist=given_["role"], **changed)
    converge([paris, lyon])
    assert ordered(keystone.run(other, read)) == ordered(keystone.run(origin, read))
    assert paris.contents() == lyon.contents()
    assert keystone.run(other, SIGN_IN, user=given_["user"]) == "yes"


def test_insert_update_and_delete_are_each_recorded_once(pair):
    paris, lyon = pair
    user = made(paris, "bob", extra='{"email": "b@x"}')
    assert set(paris.entries()) == {("identity.user", json.dumps([user]))}
    assert paris.replica.pull() == 1
    assert paris.entries() == []
    paris.sql('UPDATE "user" SET enabled = ? WHERE id = ?', False, user)
    assert paris.replica.pull() == 1
    assert paris.replica.pull() == 0
    exchange([paris, lyon])
    lyon.push()
    assert lyon.sql("SELECT enabled, extra FROM user WHERE id = ?", user) == [(0, '{"email": "b@x"}')]
    paris.sql('DELETE FROM "user" WHERE id = ?', user)
    assert paris.replica.pull() == 1
    exchange([paris, lyon])
    lyon.push()
    assert lyon.names() == names(paris) == set()


def test_an_update_that_changes_nothing_is_not_published(pair):
    paris, _lyon = pair
    user = made(paris, "bob")
    paris.replica.pull()
    before = paris.document.digest()
    paris.sql('UPDATE "user" SET enabled = ? WHERE id = ?', True, user)
    assert paris.replica.pull() == 0
    assert paris.document.digest() == before


def test_what_is_rolled_back_is_not_recorded(pair):
    paris, _lyon = pair
    with connected(paris.url) as connection:
        add(connection, "bob")
        connection.rollback()
    assert paris.entries() == []
    assert paris.replica.pull() == 0


def test_two_writers_at_once_lose_nothing(pair):
    paris, lyon = pair
    failures: list[Exception] = []

    def write(writer: str) -> None:
        try:
            with connected(paris.url) as connection:
                for number in range(20):
                    add(connection, f"{writer}{number}")
                    connection.commit()
        except Exception as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(name,)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    published = 0
    while any(writer.is_alive() for writer in writers):
        published += paris.replica.pull()
    for writer in writers:
        writer.join()
    published += paris.replica.pull()
    assert failures == []
    converge([paris, lyon])
    assert lyon.names() == names(paris) == {f"{writer}{number}" for writer in ("one", "two") for number in range(20)}
    assert published == 40


def test_a_crash_between_commit_and_publication_loses_nothing(pair):
    paris, lyon = pair
    user = made(paris, "bob")
    paris.restart()
    converge([paris, lyon])
    assert lyon.sql("SELECT id FROM user") == [(user,)]


def test_a_crash_between_publication_and_its_note_repeats_nothing(pair, monkeypatch):
    paris, lyon = pair
    user = made(paris, "bob")
    with monkeypatch.context() as patch:
        patch.setattr("atoll.identity.outbox.forget", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            paris.replica.pull()
    assert len(paris.entries()) >= 1
    version = paris.document.record("identity.user", user).version
    paris.restart()
    assert paris.document.record("identity.user", user).version == version
    converge([paris, lyon])
    assert lyon.names() == {"bob"}


def test_an_applied_change_is_not_echoed(pair):
    paris, lyon = pair
    user = lyon.user("bob", extra='{"a": 1}', created_at="2026-12-01 03:00:00.120000", last_active_at="2026-12-01")
    dates = ["2026-12-01 03:00:00", "2026-12-01 03:00:00.000001"]
    lyon.sql("INSERT INTO revocation_event (user_id, issued_before, revoked_at) VALUES (?, ?, ?)", user, *dates)
    lyon.sql("INSERT INTO assignment VALUES ('UserProject', ?, ?, ?, 0)", user, lyon.project("web"), MEMBER)
    lyon.settle()
    exchange([paris, lyon])
    before = paris.document.digest()
    assert paris.push() == 4
    assert paris.entries() == []
    assert paris.replica.pull() == 0
    assert paris.document.digest() == before
    paris.restart()
    assert paris.document.digest() == before
    assert names(paris) == {"bob"}
    paris.sql('UPDATE "user" SET default_project_id = ? WHERE id = ?', "p", user)
    paris.replica.pull()
    record = paris.document.record("identity.user", user)
    assert [field for field, author in record.authors.items() if author == "paris"] == ["default_project_id"]
    for each in (paris, lyon):  # their times are written differently
        each.sql("DELETE FROM revocation_event")


def test_an_outbox_is_installed_once(pair, engine):
    """A start with the same version changes no schema, and loses no entry; SQLite, whose schema is cheap to change, is made anew."""
    paris, _lyon = pair
    made(paris, "bob")
    before = paris.entries()
    if engine == "redis":
        with paris.replica._database.reading() as session:
            assert session.is_current()
    assert paris.replica._database.install() is False
    assert paris.entries() == before
    assert paris.replica.pull() == 1


def test_a_missing_trigger_is_made_again(pair, engine):
    """A dump may be restored without its triggers, and a table that is made anew has none."""
    paris, lyon = pair
    user = made(paris, "bob")
    converge([paris, lyon])
    paris.sql('DROP TRIGGER "atoll_update_user"' + (' ON "user"' if engine == "postgresql" else ""))
    paris.sql('UPDATE "user" SET default_project_id = ? WHERE id = ?', "p", user)
    assert paris.entries() == []
    paris.restart()
    paris.site.clock.ms += 1
    paris.sql('UPDATE "user" SET enabled = ? WHERE id = ?', False, user)
    assert paris.replica.pull() == 1
    converge([paris, lyon])
    assert lyon.sql("SELECT enabled, default_project_id FROM user WHERE id = ?", user) == [(0, "p")]


def test_huge_ids(pair):
    paris, lyon = pair
    paris.sql("INSERT INTO atoll_outbox (number, kind, \"key\") VALUES (?, 'identity.user', '[\"none\"]')", 2**62)
    user = made(paris, "n" * 255, "f" * 64, json.dumps({"k" * 200: "v" * 3000}))
    paris.sql("UPDATE local_user SET id = ? WHERE user_id = ?", 2**31 - 10**6, user)
    paris.sql("INSERT INTO user_option (user_id, option_id, option_value) VALUES (?, '1000', ?)", user, "x" * 2000)
    converge([paris, lyon])
    assert lyon.names() == names(paris) == {"n" * 255}
    assert paris.contents() == lyon.contents()
    huge = lyon.user("m" * 255, "e" * 64)
    lyon.sql("UPDATE local_user SET id = ? WHERE user_id = ?", 2**60, huge)
    lyon.sql("INSERT INTO region (id, description, extra) VALUES (?, ?, '{}')", "r," * 127, "d" * 4000)
    converge([paris, lyon])
    assert paris.contents() == lyon.contents()


NAMES_OF_ALL_KINDS = {"ZOË", "Zoë", "zoë", "zoë ", "😀 emoji", "'; --", '"', "%s %d :x ?", "\\", "ﷺ" * 80, "\x01", "a\tb"}


def test_names_of_all_kinds(pair):
    paris, lyon = pair
    for name in NAMES_OF_ALL_KINDS:
        made(paris, name)
        lyon.user(f"{name[:200]}2")
    converge([paris, lyon])
    assert names(paris) == lyon.names() == NAMES_OF_ALL_KINDS | {f"{name[:200]}2" for name in NAMES_OF_ALL_KINDS}
    assert paris.contents() == lyon.contents()


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


def test_any_text_arrives_both_ways(pair):
    paris, lyon = pair
    here, there = made(paris, "here"), lyon.user("there")
    converge([paris, lyon])

    @settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
    @given(st.dictionaries(TEXT, TEXT | st.integers() | st.none() | st.lists(TEXT, max_size=2), max_size=3), TEXT)
    def check(extra: dict, project: str) -> None:
        paris.sql('UPDATE "user" SET extra = ?, default_project_id = ? WHERE id = ?', json.dumps(extra), project, here)
        paris.site.clock.ms += 1
        lyon.sql("UPDATE user SET extra = ?, default_project_id = ? WHERE id = ?", json.dumps(extra), project, there)
        converge([paris, lyon])
        assert paris.contents() == lyon.contents()
        [(text, field)] = lyon.sql("SELECT extra, default_project_id FROM user WHERE id = ?", here)
        assert (json.loads(text), field) == (extra, project)

    check()


def test_a_commit_with_a_lower_number_is_not_lost(pair, engine):
    """A transaction may get its number before another one, and commit after it."""
    if engine in {"sqlite", "redis"}:
        pytest.skip("writers wait for one another")
    paris, lyon = pair
    with connected(paris.url) as slow:
        add(slow, "slow")
        made(paris, "fast")
        assert paris.replica.pull() == 1
        slow.commit()
    assert paris.replica.pull() == 1
    converge([paris, lyon])
    assert lyon.names() == {"slow", "fast"}


def test_a_change_that_is_committed_during_a_push_survives(pair, engine, monkeypatch):
    """Keystone changes another attribute of the user between the replica's look at the outbox and its own writing."""
    paris, lyon = pair
    user = made(paris, "bob", extra='{"email": "b@x", "phone": "1"}')
    converge([paris, lyon])
    lyon.sql("""UPDATE user SET extra = '{"email": "b@x", "phone": "2"}' WHERE id = ?""", user)
    lyon.settle()
    exchange([paris, lyon])
    write, done = rows.write, []

    def meanwhile(*arguments):
        if not done:
            done.append(True)
            paris.sql("""UPDATE "user" SET extra = '{"email": "new@x", "phone": "1"}' WHERE id = ?""", user)
        return write(*arguments)

    if engine in {"sqlite", "redis"}:
        paris.sql("""UPDATE "user" SET extra = '{"email": "new@x", "phone": "1"}' WHERE id = ?""", user)
    else:
        monkeypatch.setattr("atoll.identity.rows.write", meanwhile)
    paris.push()
    converge([paris, lyon])
    [(here,)] = paris.sql('SELECT extra FROM "user" WHERE id = ?', user)
    assert json.loads(here) == {"email": "new@x", "phone": "2"}
    assert paris.contents() == lyon.contents()


def test_a_push_gives_way_to_a_writer_that_holds_the_row(pair, engine):
    if engine in {"sqlite", "redis"}:
        pytest.skip("writers wait for one another")
    paris, lyon = pair
    user = made(paris, "bob")
    converge([paris, lyon])
    lyon.sql("UPDATE user SET default_project_id = 'p' WHERE id = ?", user)
    lyon.settle()
    exchange([paris, lyon])
    touched = frozenset().union(*paris.site.touched)
    with connected(paris.url) as writer:
        run(writer, 'UPDATE "user" SET enabled = ? WHERE id = ?', False, user)
        with pytest.raises(DatabaseError):
            paris.replica.push(touched)
        writer.commit()
    paris.replica.push(())
    converge([paris, lyon])
    assert lyon.sql("SELECT enabled, default_project_id FROM user WHERE id = ?", user) == [(0, "p")]


def test_a_push_ends_before_a_deadlock_is_looked_for(pair, engine, monkeypatch):
    """Keystone writes the same two users as a push, in the other order."""
    if engine != "postgresql":
        pytest.skip("writers wait for one another, or in MariaDB the server chooses at once")
    paris, lyon = pair
    first, second = sorted(made(paris, name) for name in ("bob", "eve"))
    converge([paris, lyon])
    lyon.sql("UPDATE user SET default_project_id = 'p'")
    lyon.settle()
    exchange([paris, lyon])
    touched = frozenset().union(*paris.site.touched)
    write, failures = rows.write, []
    with connected(paris.url) as writer:

        def change() -> None:
            try:
                run(writer, 'UPDATE "user" SET enabled = ? WHERE id = ?', False, first)
            except Exception as error:
                failures.append(error)

        other = threading.Thread(target=change)

        def meanwhile(session, table, key, *contents):
            if key == (second,) and other.ident is None:
                other.start()
            write(session, table, key, *contents)

        run(writer, 'UPDATE "user" SET enabled = ? WHERE id = ?', False, second)
        monkeypatch.setattr("atoll.identity.rows.write", meanwhile)
        with pytest.raises(DatabaseError):
            paris.replica.push(touched)
        other.join()
        assert failures == []
        writer.commit()
    paris.replica.push(())
    converge([paris, lyon])
    assert lyon.sql("SELECT enabled, default_project_id FROM user") == [(0, "p"), (0, "p")]


def test_names_are_exchanged_and_records_come_in_any_order(pair):
    paris, lyon = pair
    bob, eve = lyon.user("bob"), lyon.user("eve")
    child, parent = "1" * 32, "2" * 32
    lyon.project("top", parent)
    lyon.project("below", child)
    lyon.sql("UPDATE project SET parent_id = ? WHERE id = ?", parent, child)
    converge([paris, lyon])
    for name, user in (("-", bob), ("bob", eve), ("eve", bob)):
        lyon.sql("UPDATE local_user SET name = ? WHERE user_id = ?", name, user)
    converge([paris, lyon])
    assert paris.contents() == lyon.contents()
    for project in (child, parent):
        lyon.sql("DELETE FROM project WHERE id = ?", project)
    lyon.sql("DELETE FROM user")
    converge([paris, lyon])
    assert paris.contents() == lyon.contents()
    assert names(paris) == set()


def test_a_bulk_deletion_takes_dependent_rows(pair):
    paris, lyon = pair
    for number in range(5):
        user = made(paris, f"user{number}")
        paris.sql("INSERT INTO user_option (user_id, option_id, option_value) VALUES (?, '1000', 'true')", user)
    converge([paris, lyon])
    paris.sql('DELETE FROM "user"')
    converge([paris, lyon])
    for node in (paris, lyon):
        assert node.sql("SELECT * FROM local_user") == node.sql("SELECT * FROM user_option") == []


def test_a_row_that_the_engine_refuses_stops_nobody(pair, caplog):
    paris, lyon = pair
    long = uuid.uuid4().hex
    lyon.user("x" * 256, long)
    lyon.user("bob")
    converge([paris, lyon])
    assert "bob" in names(paris)
    lyon.sql("UPDATE local_user SET name = 'short' WHERE user_id = ?", long)
    converge([paris, lyon])
    assert names(paris) == {"bob", "short"}


def test_entries_are_forgotten_by_number(pair):
    paris, _lyon = pair
    made(paris, "bob")
    with paris.replica._database.reading() as session:
        numbers = outbox.pending(session, 100).numbers
    made(paris, "eve")
    with paris.replica._database.writing() as session:
        outbox.forget(session, numbers)
    assert paris.entries()
    assert paris.replica.pull() == 1
    paris.sql('DELETE FROM "user"')  # bob was never published
    assert paris.replica.pull() == 1
