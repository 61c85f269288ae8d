"""The rules for a member's entries about identity; and the names of records and fields."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.identity import bounds
from atoll.identity.rules import rules
from atoll.identity.tables import KINDS, decode, encode, field_name
from atoll.mesh.entry import entry_name
from atoll.mesh.refusals import Refused

RULES = rules()
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


@given(st.lists(st.none() | TEXT, min_size=1, max_size=12))
def test_keys_can_be_read_again(key):
    assert decode(encode(key)) == tuple(key)


@given(st.lists(TEXT, min_size=1, max_size=3), st.lists(TEXT, min_size=1, max_size=3))
def test_fields_of_different_rows_are_different(one, other):
    assert (field_name("tag", one) == field_name("tag", other)) == (one == other)
    assert len(field_name("tag", one)) <= 128


def test_long_ids_make_keys_that_the_document_takes():
    entry_name("identity.assignment", encode(["UserProject", "f" * 64, "f" * 64, "f" * 64, 1]))
    entry_name("identity.access_rule", encode(["f" * 64, "s" * 64, "/" * 128, "OPTIONS"]))


NOBODY = [None] * 7
"""The key columns of a revocation that name the persons concerned."""

GOOD = [
    (
        "user",
        "u",
        {"present": True, "created": 5, "name": "bob", "enabled": 1, "domain_id": "d", "passwords": [["h", "t", None, 1, None, 0]]},
    ),
    ("user", "u", {"passwords": None, "name": None, "option.1001": ["1001", "true"], "extra.email": ["email", '"x"'], "extra.gone": None}),
    ("user", "u", {"extra.note": ["note", json.dumps("x" * (bounds.MAX_LONG - 2))]}),
    ("mapping", "m", {"rules": "x" * bounds.MAX_DOCUMENT}),
    ("project", "p", {field_name("tag", [f"{number:03}" + "x" * 252]): [f"{number:03}" + "x" * 252] for number in range(80)}),
    ("assignment", "UserProject,u,p,r,0", {"present": False}),
    ("project", "p", {"tag.cold": ["cold"]}),
    ("revocation", encode([*NOBODY, "2026-11-29 12:00:00.000000", None, "2026-11-29 12:00:00.000000", "a", None]), {"present": True}),
    ("revocation", encode([*NOBODY, "2026-11-29 12:00:00", "2026-11-29 18:00:00", "2026-11-29 12:00:00", None, "c"]), {"present": True}),
]


@pytest.mark.parametrize(("kind", "key", "fields"), GOOD)
def test_good_is_let_in(kind, key, fields):
    RULES[f"identity.{kind}"]("lyon", key, fields)


BAD = [
    ("user", "a,b", {}),
    ("user", "%61", {}),  # another key of the record `a`
    ("assignment", "UserProject,u,p,r", {}),
    ("assignment", "UserProject,u,p,r,x", {}),
    ("project", "<<keystone.domain.root>>", {"present": False}),
    ("user", "u", {"present": 1}),
    ("user", "u", {"created": -1}),
    ("user", "u", {"name": ["bob"]}),
    ("user", "u", {"enabled": True}),  # columns hold 0 and 1
    ("user", "u", {"enabled": 2**63}),
    ("user", "u", {"passwords": "x"}),
    ("user", "u", {"passwords": []}),
    ("user", "u", {"passwords": [["h"]]}),
    ("user", "u", {"passwords": [["h", "t", None, 1, None, {}]]}),
    ("user", "u", {"option.1001": ["1002", "true"]}),
    ("user", "u", {"option.1001": ["1001", "true", 1]}),
    ("user", "u", {"extra.email": ["email", "{"]}),
    ("user", "u", {"extra.email": ["email", None]}),
    ("project", "p", {"tag.cold": "cold"}),
    ("application_credential", "c", {"rule.x": ["u", "s", "/", "GET"]}),
    ("user", "u", {"of_a_later_version": 1}),
    ("user", "u", {"later.x": [1]}),
    ("user", "u", {"later.x": None}),
    ("user", "u", {"extra": "{}"}),
    ("trust", "t", {"extra.junk": ["junk", '"x"']}),  # Keystone accepts this field from any user
    ("trust", "t", {"deleted_at": "now"}),
    ("user", "u", {"name": "x" * (bounds.MAX_SHORT + 1)}),
    ("application_credential", "c", {"description": "x" * (bounds.MAX_LONG + 1)}),
    ("user", "u", {"extra.note": ["note", json.dumps("x" * bounds.MAX_LONG)]}),
    ("user", "u", {"passwords": [["h", "t", None, 1, None, 0]] * (bounds.MAX_ROWS + 1)}),
    ("user", "u", {"passwords": [["h" * 300, "t", None, 1, None, 0]]}),
    ("project", "p", {field_name("tag", ["x" * 300]): ["x" * 300]}),
    ("mapping", "m", {"rules": "x" * (bounds.MAX_DOCUMENT + 1)}),
    *(
        ("revocation", encode([*NOBODY, issued_before, expires_at, revoked_at, None, None]), {"present": True})
        for issued_before, expires_at, revoked_at in (
            ("soon", None, "2026-11-29 12:00:00"),
            ("2026-11-29 soon", None, "2026-11-29 12:00:00"),
            ("2026-13-29 12:00:00", None, "2026-11-29 12:00:00"),
            ("2026-11-29T12:00:00+01:00", None, "2026-11-29 12:00:00"),
            ("2026-11-29 12:00:00", "never", "2026-11-29 12:00:00"),
            ("2026-11-29 12:00:00", None, "x"),
            ("2026-11-29 12:00:00", None, None),
            (None, None, "2026-11-29 12:00:00"),
            ("\uff12026-11-29 12:00:00", None, "2026-11-29 12:00:00"),
        )
    ),
    ("user", "u", {f"extra.{number}": [str(number), json.dumps("x" * 4000)] for number in range(10)}),
]


@pytest.mark.parametrize(("kind", "key", "fields"), BAD)
def test_bad_is_refused(kind, key, fields):
    with pytest.raises(Refused):
        RULES[f"identity.{kind}"]("lyon", key, fields)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT, lambda inner: st.lists(inner, max_size=4), max_leaves=8
)


@given(
    st.sampled_from(sorted(KINDS)),
    TEXT,
    st.dictionaries(st.sampled_from(["name", "enabled", "passwords", "extra.x", "extra", "option.1", "tag.t", "role.r"]), JSON),
)
def test_nothing_makes_a_rule_fail(kind, key, fields):
    with suppress(Refused):
        RULES[kind]("lyon", key, fields)
