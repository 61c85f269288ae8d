"""Ids that two sites compute without ever having met, and so may never change."""

import itertools

import pytest

from atoll.identifiers import GATEWAY_USER, LOCAL_USERS, gateway_user, identifier, local_endpoint, local_user


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (identifier("role", "admin"), "e2eab3f519835d53902cf9f288627aa0"),
        (identifier("role", "member"), "c85087e4995f5c86af5d0a550fa5bb00"),
        (identifier("project", "admin"), "0ce016f0d23f5d5b886f33ec8406d2ea"),
        (identifier("project", "service"), "9eccd6e80ff65ea2ba637a326e8044d5"),
        (identifier("user", "admin"), "162714bd7dcb5eb882328bd45682b985"),
        (identifier("service", "compute"), "e2daf02fd9985931824838c31e763105"),
        (gateway_user("paris"), "d5196410c2895c00a21cf6705d24f4af"),
        (local_user("paris", "nova"), "a0ee52c946d358f0ad85530c6de63ec5"),
        (local_endpoint("paris", "compute", "public"), "a931e22afd88570fbd42479f1dd41065"),
    ],
)
def test_ids_are_these_for_ever(found, wanted):
    assert found == wanted


def test_no_two_things_share_an_id():
    sites, kinds = ("paris", "lyon"), ("role", "project", "user", "service")
    found = [identifier(kind, name) for kind, name in itertools.product(kinds, ("admin", "service", "compute"))]
    found += [local_user(site, name) for site, name in itertools.product(sites, LOCAL_USERS)]
    found += [gateway_user(site) for site in sites]
    found += [local_endpoint(*what) for what in itertools.product(sites, ("compute", "image"), ("public", "internal"))]
    assert len(set(found)) == len(found)
    assert {len(each) for each in found} == {32}


def test_gateways_account_is_named_as_it_is_called():
    """An operator who knows only the account's name can compute its id."""
    assert gateway_user("paris") == identifier("user", f"{GATEWAY_USER}-paris")
