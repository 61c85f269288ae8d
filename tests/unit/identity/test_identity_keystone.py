"""Keystone reads at one site the data that its own managers wrote at another."""

import shutil
import sqlite3
import uuid
from contextlib import closing

import pytest
from identities import Node, converge

from atoll.identity.tables import KINDS, LOCAL_COLUMNS, LOCAL_TABLES, OneRow, RowPerField

MEMBER, READER = "b" * 32, "c" * 32

MAKE = """
domain = {"id": uuid("domain"), "name": "physics", "enabled": True, "description": "of things"}
resource.create_domain(domain["id"], domain)
project = {"id": uuid("project"), "name": "lab", "domain_id": domain["id"], "enabled": True, "is_domain": False,
          "tags": ["cold", "long, odd % tag!"],
           "colour": "blue", "options": {"immutable": False}}
resource.create_project(project["id"], project)
user = identity.create_user({"name": "marie", "domain_id": domain["id"], "enabled": True, "password": "radium", "email": "m@example.org",
                             "options": {"ignore_password_expiry": True}, "default_project_id": project["id"]})
other = identity.create_user({"name": "pierre", "domain_id": domain["id"], "enabled": True, "password": "quartz"})
group = identity.create_group({"name": "staff", "domain_id": domain["id"], "description": "all"})
identity.add_user_to_group(user["id"], group["id"])
assignment.create_grant(MEMBER, user_id=user["id"], project_id=project["id"])
assignment.create_grant(READER, group_id=group["id"], domain_id=domain["id"], inherited_to_projects=True)
assignment.create_system_grant_for_user(user["id"], READER)
role.create_role(uuid("role"), {"id": uuid("role"), "name": "chemist", "description": "mixes"})
role.create_implied_role(uuid("role"), READER)
credential = {"id": uuid("credential"), "name": "robot", "secret": "s3cret", "user_id": user["id"], "project_id": project["id"],
              "roles": [{"id": MEMBER}], "unrestricted": False,
              "access_rules": [{"id": uuid("rule"), "service": "compute", "path": "/v2.1/servers/{a,b}/**", "method": "GET"}]}
application_credential.create_application_credential(credential)
catalog.create_region({"id": "Sud/Est", "description": ""})
catalog.create_service(uuid("service"), {"id": uuid("service"), "type": "dns", "name": "designate", "enabled": True})
catalog.create_endpoint(uuid("endpoint"), {"id": uuid("endpoint"), "service_id": uuid("service"), "interface": "public", "url": "http://dns",
                                           "region_id": "Sud/Est", "enabled": True})
unified_limit.create_registered_limits([{"id": uuid("registered"), "service_id": uuid("service"), "region_id": None,
                                         "resource_name": "zone",
                                         "default_limit": 3, "description": None}])
unified_limit.create_limits([{"id": uuid("limit"), "project_id": project["id"], "service_id": uuid("service"), "region_id": None,
                              "resource_name": "zone", "resource_limit": 5, "description": None, "domain_id": None}])
trust.create_trust(uuid("trust"), {"trustor_user_id": user["id"], "trustee_user_id": other["id"], "project_id": project["id"],
                                   "impersonation": False, "expires_at": None, "allow_redelegation": False}, [{"id": MEMBER}])
federation.create_idp("idp", {"enabled": True, "domain_id": domain["id"], "remote_ids": ["https://idp.example.org/a,b"],
                              "description": None, "authorization_ttl": None})
federation.create_mapping("map", {"rules": [{"local": [], "remote": []}], "schema_version": "1.0"})
federation.create_protocol("idp", "saml", {"mapping_id": "map", "remote_id_attribute": None})
federated = shadow_users.create_federated_user(domain["id"], {
    "idp_id": "idp", "protocol_id": "saml", "unique_id": "é" * 60, "display_name": "zoé"})
domain_config.create_config(domain["id"], {"ldap": {"url": "ldap://x", "user_tree_dn": "y", "password": "z"},
                                           "identity": {"driver": "ldap"}})
tell({"domain": domain["id"], "project": project["id"], "user": user["id"], "other": other["id"], "group": group["id"],
      "federated": federated["id"]})
"""

READ = """
from keystone.common import driver_hints
hints = driver_hints.Hints
def when(ref): return {name: str(value) for name, value in ref.items()}
tell({
    "domains": sorted((d["name"], d["description"]) for d in resource.list_domains(hints())),
    "projects": sorted([when(p) for p in resource.list_projects(hints())], key=str),
    "tags": {p["id"]: sorted(resource.list_project_tags(p["id"])) for p in resource.list_projects(hints())},
    "users": sorted([when(u) for u in identity.list_users(hints=hints())], key=str),
    "groups": sorted([when(g) for g in identity.list_groups(hints=hints())], key=str),
    "members": {g["id"]: sorted(u["id"] for u in identity.list_users_in_group(g["id"])) for g in identity.list_groups(hints=hints())},
    "assignments": sorted(assignment.list_role_assignments(), key=str),
    "system": sorted(assignment.list_all_system_grants(), key=str),
    "roles": sorted([when(r) for r in role.list_roles(hints())], key=str),
    "implied": sorted(role.driver.list_role_inference_rules(), key=str),
    "credentials": {u["id"]: [when(c) for c in application_credential.list_application_credentials(u["id"], hints())]
                    for u in identity.list_users(hints=hints())},
    "rules": {u["id"]: application_credential.list_access_rules_for_user(u["id"]) for u in identity.list_users(hints=hints())},
    "services": catalog.list_services(hints()), "endpoints": catalog.list_endpoints(hints()), "regions": catalog.list_regions(hints()),
    "limits": [when(l) for l in unified_limit.list_limits(hints())],
    "registered": [when(l) for l in unified_limit.list_registered_limits(hints())],
    "trusts": [when(t) for t in trust.list_trusts()],
    "idps": federation.list_idps(), "mappings": federation.list_mappings(),
    "protocols": federation.list_protocols("idp") if federation.list_idps() else [],
    "revocations": sorted({str(when(e.to_dict())) for e in revoke.list_events()}),
})
"""


def ids() -> dict[str, str]:
    return {
        name: uuid.uuid4().hex
        for name in ("domain", "project", "role", "credential", "rule", "service", "endpoint", "registered", "limit", "trust")
    }


def make(keystone, database) -> dict[str, str]:
    code = "given = " + repr(ids()) + "\nuuid = given.__getitem__\n" + MAKE
    return keystone.run(database, code, MEMBER=MEMBER, READER=READER)


@pytest.fixture(scope="module")
def full(keystone, keystone_template, tmp_path_factory):
    """A database with a record of every kind, and the ids that Keystone gave."""
    database = tmp_path_factory.mktemp("full") / "keystone.db"
    shutil.copyfile(keystone_template, database)
    made = make(keystone, database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return database, made


@pytest.fixture
def pair(node, full):
    """Two sites, one of which got the data from the other."""
    database, made = full
    paris, lyon = node("paris", template=database), node("lyon")
    converge([paris, lyon])
    assert paris.contents() == lyon.contents()
    return paris, lyon, made


def password_is(keystone, node: Node, user: str, password: str) -> bool:
    code = """
        try:
            identity.driver.authenticate(user, password)
            tell("yes")
        except Exception as error:
            tell(str(error))
    """
    return keystone.run(node.database, code, user=user, password=password) == "yes"


def test_all_that_is_made_arrives(node, keystone):
    paris, lyon = node("paris"), node("lyon")
    made = make(keystone, paris.database)
    converge([paris, lyon])
    there = keystone.run(lyon.database, READ)
    assert there == keystone.run(paris.database, READ)
    assert ["physics", "of things"] in there["domains"]
    assert sorted(there["tags"][made["project"]]) == ["cold", "long, odd % tag!"]
    assert there["credentials"][made["user"]] != []
    assert [endpoint["region_id"] for endpoint in there["endpoints"]] == ["Sud/Est"]
    assert there["limits"] != []
    assert there["trusts"] != []
    assert there["protocols"] != []
    assert password_is(keystone, lyon, made["user"], "radium")
    assert not password_is(keystone, lyon, made["user"], "polonium")
    assert paris.contents() == lyon.contents()
    for kind, rows_of_kind in lyon.contents().items():
        if not kind.endswith(
            (
                "service_provider",
                "policy",
                "policy_association",
                "endpoint_group",
                "project_endpoint_group",
                "project_endpoint",
                "revocation",
            )
        ):
            assert rows_of_kind, f"the test must create a {kind}"


def test_credential_is_accepted_at_the_other_site_with_its_rules(pair, keystone):
    _, lyon, made = pair
    code = """
        [credential] = application_credential.list_application_credentials(user)
        application_credential.authenticate(credential["id"], "s3cret")
        [rule] = application_credential.list_access_rules_for_user(user)
        full = application_credential.get_application_credential(credential["id"])
        tell([full["access_rules"] == [rule], rule["path"], [role["id"] for role in full["roles"]]])
    """
    assert keystone.run(lyon.database, code, user=made["user"]) == [True, "/v2.1/servers/{a,b}/**", [MEMBER]]


CHANGES = {
    "password": "identity.update_user(user, {'password': 'polonium'})",
    "own password": "identity.driver.change_password(user, 'polonium')",
    "disabled": "identity.update_user(user, {'enabled': False})",
    "renamed": "identity.update_user(user, {'name': 'skłodowska'})",
    "extra": "identity.update_user(user, {'email': 'new@example.org', 'phone': '+33'})",
    "options": "identity.update_user(user, {'options': {'ignore_password_expiry': None, 'lock_password': True}})",
    "grant taken": "assignment.delete_grant(MEMBER, user_id=user, project_id=project)",
    "system grant taken": "assignment.delete_system_grant_for_user(user, READER)",
    "left group": "identity.remove_user_from_group(user, group)",
    "tags": "resource.update_project_tags(project, ['cold', 'new'])",
    "project disabled": "resource.update_project(project, {'enabled': False, 'colour': None})",
    "user deleted": "identity.delete_user(user)",
    "group deleted": "identity.delete_group(group)",
    "federated user deleted": "identity.delete_user(federated)",
    "project deleted": "resource.delete_project(project)",
    "role deleted": "role.delete_role(MEMBER)",
    "credential deleted": """
for each in application_credential.list_application_credentials(user):
    application_credential.delete_application_credential(each["id"])
""",
    "token revoked": "revoke.revoke_by_audit_id('abcdefghijkl')",
    "user's tokens revoked": "revoke.revoke_by_user(user)",
    "idp deleted": "federation.delete_idp('idp')",
    "endpoint changed": "catalog.update_endpoint(catalog.list_endpoints()[0]['id'], {'url': 'http://elsewhere'})",
    "service deleted": "catalog.delete_service(catalog.list_services()[0]['id'])",
    "trust deleted": "trust.delete_trust(trust.list_trusts()[0]['id'])",
    "configuration": "domain_config.update_config(domain, {'ldap': {'url': 'ldap://y'}})",
    "domain renamed": "resource.update_domain(domain, {'name': 'chemistry'})",
    "domain deleted": "resource.update_domain(domain, {'enabled': False}); resource.delete_domain(domain)",
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_change_arrives(change, pair, keystone):
    paris, lyon, made = pair
    before = lyon.contents()
    keystone.run(paris.database, CHANGES[change], **made, MEMBER=MEMBER, READER=READER)
    converge([paris, lyon])
    assert lyon.contents() != before, "the change has no effect at lyon: the test needs another one"
    assert paris.contents() == lyon.contents()
    if "password" in change:
        assert password_is(keystone, lyon, made["user"], "polonium")
        assert not password_is(keystone, lyon, made["user"], "radium")


def test_made_again_after_deletion(pair, keystone):
    paris, lyon, made = pair
    keystone.run(paris.database, "assignment.delete_grant(MEMBER, user_id=user, project_id=project)", **made, MEMBER=MEMBER)
    converge([paris, lyon])
    keystone.run(lyon.database, "assignment.create_grant(MEMBER, user_id=user, project_id=project)", **made, MEMBER=MEMBER)
    converge([paris, lyon])
    code = "tell(assignment.list_role_assignments(user_id=user, project_id=project) != [])"
    assert keystone.run(paris.database, code, **made) is True


def test_bulk_deletion_leaves_no_roles_to_the_next_credential(pair, keystone):
    """Keystone deletes credentials in bulk, SQLite reuses their integers, and foreign keys are not enforced."""
    paris, lyon, made = pair
    keystone.run(lyon.database, "application_credential.driver.delete_application_credentials_for_user(user)", **made)
    converge([paris, lyon])
    for each in (paris, lyon):
        assert each.sql("SELECT * FROM application_credential_role") == []
        assert each.sql("SELECT * FROM application_credential_access_rule") == []


def test_local_counters_of_keystone_are_not_replicated(pair, keystone):
    """A wrong password at one site locks no user out at another, and costs no traffic."""
    paris, lyon, made = pair
    keystone.run(lyon.database, "identity.driver._record_failed_auth(user)", **made)
    assert lyon.sql("SELECT failed_auth_count FROM local_user WHERE user_id = ?", made["user"]) == [(1,)]
    assert lyon.replica.pull() == 0
    keystone.run(paris.database, "identity.update_user(user, {'email': 'x@example.org'})", **made)
    converge([paris, lyon])
    assert lyon.sql("SELECT failed_auth_count FROM local_user WHERE user_id = ?", made["user"]) == [(1,)]


def test_same_names_made_apart_are_both_kept(node, keystone):
    paris, lyon = node("paris"), node("lyon")
    code = """
        user = identity.create_user({"name": "bob", "domain_id": "default", "enabled": True, "password": password})
        project = {"id": id, "name": "web", "domain_id": "default", "enabled": True, "is_domain": False}
        resource.create_project(id, project)
        assignment.create_grant(MEMBER, user_id=user["id"], project_id=id)
        tell(user["id"])
    """
    bobs = {}
    for each in (paris, lyon):
        bobs[each.name] = keystone.run(each.database, code, password=each.name, id=uuid.uuid4().hex, MEMBER=MEMBER)
        each.site.clock.ms += 5000 if each is paris else 0
        each.settle()
    converge([paris, lyon])
    assert paris.contents() == lyon.contents()
    renamed = f"bob-{bobs['paris'][:8]}"  # lyon's stamp is the later one
    assert paris.names() >= {"bob", renamed}
    read = "tell([identity.get_user_by_name(name, 'default')['id'] for name in names])"
    assert keystone.run(paris.database, read, names=["bob", renamed]) == [bobs["lyon"], bobs["paris"]]
    assert {conflict.kind for conflict in paris.replica.conflicts()} == {"user", "project"}
    assert paris.replica.conflicts() == lyon.replica.conflicts()
    for name, bob in bobs.items():
        assert password_is(keystone, lyon, bob, name)
    # A change of another field does not make the new name the intended one.
    keystone.run(paris.database, "identity.update_user(id, {'email': 'bob@example.org'})", id=bobs["paris"])
    converge([paris, lyon])
    assert len(lyon.replica.conflicts()) == 2
    keystone.run(lyon.database, "identity.update_user(id, {'name': 'robert'})", id=bobs["lyon"])
    converge([paris, lyon])
    assert keystone.run(paris.database, read, names=["bob", "robert"]) == [bobs["paris"], bobs["lyon"]]


def test_domain_deleted_here_while_people_were_made_there(pair, keystone):
    paris, lyon, made = pair
    keystone.run(paris.database, CHANGES["domain deleted"], **made)
    code = """
        user = identity.create_user({"name": "irène", "domain_id": domain, "enabled": True, "password": "x"})
        assignment.create_grant(MEMBER, user_id=user["id"], project_id=project)
        tell(user["id"])
    """
    keystone.run(lyon.database, code, **made, MEMBER=MEMBER)
    converge([paris, lyon])
    assert paris.contents() == lyon.contents()
    assert "irène" not in lyon.names()
    assert keystone.run(lyon.database, READ) == keystone.run(paris.database, READ)


def test_every_table_and_column_of_keystone_is_accounted_for(keystone, keystone_template):
    """Both the models and the migrations: a table or column of a new release must be declared in `tables`."""
    code = """
        from keystone.common import sql
        tell({table.name: [column.name for column in table.columns] for table in sql.ModelBase.metadata.sorted_tables})
    """
    models = keystone.run(keystone_template, code)
    connection = sqlite3.connect(keystone_template)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {name: {row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')} for name in names}
    connection.close()
    for name, columns in models.items():
        found.setdefault(name, set()).update(columns)
    declared = {}
    for table in KINDS.values():
        declared[table.table] = {*table.key, *table.columns, *table.local, *(["extra"] if table.extra else [])}
        for other in table.others:
            columns = [column for column, _ in other.fields] if isinstance(other, OneRow) else [*other.values]
            columns += [*other.key] if isinstance(other, RowPerField) else []
            columns += [*other.copies] if isinstance(other, OneRow) else []
            declared[other.table] = {other.owner, *columns, *LOCAL_COLUMNS.get(other.table, ())}
    assert set(found) - set(declared) - set(LOCAL_TABLES) == set(), "identity/tables.py does not declare these tables"
    assert {name: found[name] ^ columns for name, columns in declared.items() if found[name] != columns} == {}
    assert set(LOCAL_TABLES) & set(declared) == set()
