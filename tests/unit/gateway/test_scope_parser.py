import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scopes import scopes

from atoll.gateway.scope.model import ScopeError
from atoll.gateway.scope.parser import LONGEST, parse


def refusal(text: str) -> ScopeError | None:
    try:
        parse(text)
    except ScopeError as error:
        return error
    return None


@given(scopes())
def test_every_scope_that_is_printed_is_read_as_itself(scope):
    assert parse(str(scope)) == scope


@given(scopes(), st.data())
def test_every_error_points_at_a_column(scope, data):
    """Parse a scope with one character changed, added or removed into a scope, or an error at a column of the text or just behind it."""
    text = str(scope)
    place = data.draw(st.integers(0, len(text)))
    character = data.draw(st.sampled_from(list('{}(),:&|% "x9\nß\x00')) | st.just(""))
    text = text[:place] + character + text[place + data.draw(st.integers(0, 1)) :]
    error = refusal(text)
    if error is not None:
        assert 1 <= error.column <= len(text) + 1
        assert f"column {error.column}: " in error.message
        assert error.message.isprintable()
        assert error.pointer().splitlines()[1] == "  " + " " * (error.column - 1) + "^"


@given(st.text())
@example("{" * 3000)
@example("{compute: " + "(" * 1500)
def test_any_text_is_a_scope_or_an_error_at_a_column(text):
    error = refusal(text)
    assert error is None or 1 <= error.column <= len(text) + 1


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("{}", "{}"),
        (" { image :lyon } ", "{image: lyon}"),
        ("{compute: paris&lyon}", "{compute: paris & lyon}"),
        ("{compute: paris || lyon}", "{compute: paris || lyon}"),
        ("{compute: paris | lyon}", "{compute: paris || lyon}"),
        ("{network: paris % lyon, prime: paris}", "{network: paris % lyon, prime: paris}"),
        ("{around: paris, 20ms}", "{around: paris, 20ms}"),
        ("{around: paris, 1.5 s}", "{around: paris, 1500ms}"),
        ("{around: paris, 250us, image: lyon}", "{image: lyon, around: paris, 0.25ms}"),
        ("{compute: a || b & c % d}", "{compute: a || b & c % d}"),
        ("{compute: ((a || b)) & ((c))}", "{compute: (a || b) & c}"),
        ("{compute: (a & b) & (c & d)}", "{compute: a & b & c & d}"),
        ("compute:(paris;lyon)&nice,network:a+b", "{compute: (paris || lyon) & nice, network: a % b}"),
        ("{image: around, network: prime}", "{image: around, network: prime}"),
    ],
)
def test_scopes_are_parsed(text, printed):
    assert str(parse(text)) == printed


def test_json_as_openstackoid_writes_it():
    said = {"compute": "CloudOne", "image": "CloudTwo & (CloudOne | CloudThree)", "around": "CloudOne, 20ms"}
    read = parse(json.dumps(said))
    assert str(read) == "{compute: CloudOne, image: CloudTwo & (CloudOne || CloudThree), around: CloudOne, 20ms}"


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("", 1, "or `{`, found the end"),
        ("compute: {paris}", 10, "expected a site or `(`, found `{`"),
        ("compute: paris}", 15, "expected the end, found `}`"),
        ("{compute:\nparis}", 10, "found '\\n'"),
        ("{compute: }", 11, "expected a site or `(`, found `}`"),
        ("{compute: paris &}", 18, "expected a site or `(`, found `}`"),
        ("{compute: (paris}", 17, "expected `)`"),
        ("{compute: paris lyon}", 17, "found `lyon`"),
        ("{compute: paris} x", 18, "expected the end, found `x`"),
        ("{around: paris}", 15, "expected `,`"),
        ("{around: paris, 20}", 17, "expected a duration such as 20ms"),
        (
            "{computer: paris}",
            2,
            "there is no service `computer`: expected one of identity, image, compute, network",
        ),
        ("{compute: paris, compute: lyon}", 18, "`compute` occurs twice: expected once"),
        ("{compute: paris & lyon & paris}", 26, "`paris` is joined with itself: name it once"),
        ("{network: a % b, prime: c}", 25, "`c` is not one of the sites joined by `%`: expected one of these as prime"),
        ("{compute: a & b, prime: a}", 25, "`a` is not one of the sites joined by `%`"),
        ("{compute: 'paris'}", 11, "found `'`"),
        ('{"compute: paris}', 10, 'expected `"`'),
        ("{compute: " + "(" * 51 + "a", 61, "at most 50 nested parentheses"),
        ("{compute: a" + " " * LONGEST, LONGEST + 1, "the scope has 2011 characters: expected at most 2000"),
    ],
)
def test_what_is_refused(text, column, what):
    with pytest.raises(ScopeError) as caught:
        parse(text)
    assert caught.value.column == column
    assert what in caught.value.message
    assert caught.value.kind.status == 400


def test_the_pointer_stands_below_the_column():
    with pytest.raises(ScopeError) as caught:
        parse("{compute:\tparis &}")
    assert caught.value.pointer() == "  {compute: paris &}\n                   ^"
