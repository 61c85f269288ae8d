"""The scopes of docs/scope.md are valid, and its numbers equal those of the code."""

import json
import re
from pathlib import Path

import pytest

from atoll.gateway.copies import pending
from atoll.gateway.copies.draft import REPLICABLE
from atoll.gateway.scope import ScopeError, parse, parser
from atoll.gateway.scope.evaluate import MOST_CHOICES
from atoll.gateway.scope.model import SERVICES

PAGE = (Path(__file__).parents[2] / "docs" / "scope.md").read_text(encoding="utf-8").replace("\\|", "|")
SCOPES = sorted({*re.findall(r"\{[^{}\n]*\}", PAGE), *re.findall(r"/scope/([^/`]+)/", PAGE)} - {"{compute: paris &}"})


@pytest.mark.parametrize("text", SCOPES)
def test_scope_on_the_page_is_one(text):
    assert parse(text)


def test_the_page_has_scopes():
    assert len(SCOPES) > 12
    assert json.loads(next(text for text in SCOPES if '"' in text))


def test_the_mistake_on_the_page_is_told_as_it_says():
    with pytest.raises(ScopeError) as caught:
        parse("{compute: paris &}")
    shown = "\n".join(f"    {line}" for line in f"error: {caught.value.message}\n{caught.value.pointer()}".splitlines())
    assert shown in PAGE


def test_numbers_are_those_of_the_code():
    assert f"at most {parser.LONGEST} characters, {parser.DEEPEST} levels of parentheses" in PAGE
    assert f"and {MOST_CHOICES} different choices of sites" in PAGE
    assert (pending.INTERVAL_S, pending.LONGEST_DELAY_S, pending.MOST_REFUSALS) == (10, 600, 10)


def test_services_and_types_are_those_of_the_code():
    assert all(f"`{service}`" in PAGE for service in SERVICES)
    table = PAGE.partition("## Copies made by `&`")[2].partition("\n\nThe client gets")[0]
    words = {"keypairs": "key pairs", "security_groups": "security groups", "security_group_rules": "their rules"}
    assert all(words.get(key, key) in table for key in REPLICABLE)
