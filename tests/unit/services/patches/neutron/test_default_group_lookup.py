"""The id of a project's default security group, in Neutron's real API over a database of its own."""

import pytest
from neutron_api import CONFIGURATION, EXTENSIONS, START
from upstream import inside

ASK = (
    START
    + """
    from neutron_lib.plugins import directory as plugins
    from atoll.services.patches.neutron import default_group_lookup

    statements = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        statements.append(statement)

    member = context.Context(user_id="bob", project_id="p", roles=["member", "reader"], is_admin=False)
    request = webob.Request.blank("/networks", method="POST", content_type="application/json", body=b'{"network": {"name": "n"}}')
    request.environ["neutron.context"] = member
    assert request.get_response(api).status_int == 201

    def look():
        found = {}
        for project in ("p", "of nobody"):
            statements.clear()
            found[project] = [plugins.get_plugin()._get_default_sg_id(member, project), len(statements)]
        return found

    upstream = look()
    default_group_lookup.install()
    ours = look()
    request = webob.Request.blank("/security-groups?name=default")
    request.environ["neutron.context"] = member
    [group] = request.get_response(api).json["security_groups"]
    tell([upstream, ours, group["id"]])
"""
)


@pytest.fixture(scope="module")
def looked_up(tmp_path_factory):
    directory = tmp_path_factory.mktemp("neutron")
    (directory / "neutron.conf").write_text(CONFIGURATION.format(directory=directory, extensions=EXTENSIONS, plugin="revisions"))
    return inside(ASK, str(directory), str(directory / "neutron.conf"))


def test_the_id_is_read_as_one_column(looked_up):
    upstream, ours, group = looked_up
    assert ours == {"p": [group, 1], "of nobody": [None, 1]}
    assert [upstream[project][0] for project in ours] == [group, None]


def test_upstream_loads_the_whole_group(looked_up):
    """If this fails, upstream no longer does, and the patch can go."""
    assert looked_up[0]["p"][1] >= 2
