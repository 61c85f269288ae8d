"""Keystone's words for a token that it refuses, by which the gateway tells what Keystone lacks from what it knows."""

import pytest
from upstream import inside

from atoll.gateway.request.validation import _LACKS

CODE = """
from keystone import exception
from keystone.revoke import core
from keystone.token import provider
import ast, inspect, textwrap

missing = (
    exception.UserNotFound(user_id="u"),
    exception.ProjectNotFound(project_id="p"),
    exception.DomainNotFound(domain_id="d"),
    exception.TrustNotFound(trust_id="t"),
    exception.RoleNotFound(role_id="r"),
    exception.ApplicationCredentialNotFound(application_credential_id="c"),
    exception.TokenNotFound(token_id="t"),  # as for a user without any role in the token's project
)

def words(function):
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return [node.exc.args[0].args[0].value for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc.args]

tell({
    "missing": [str(each) for each in missing],
    "revoked": words(core.Manager.check_token),
    "expired": words(provider.Manager._is_valid_token)[-1:],
})
"""


@pytest.fixture(scope="module")
def found():
    return inside(CODE)


def test_what_keystone_lacks_is_called_missing(found):
    assert all(each.startswith(_LACKS) for each in found["missing"]), found["missing"]


@pytest.mark.parametrize("reason", ["revoked", "expired"])
def test_a_token_that_keystone_knows_to_be_invalid_is_not_called_missing(found, reason):
    assert found[reason] == ["Failed to validate token"]
    assert not any(each.startswith(_LACKS) for each in found[reason])
