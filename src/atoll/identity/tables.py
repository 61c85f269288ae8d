"""The replicated tables of Keystone, and the rows that belong to one record of the document.

A record is a row of a *main* table together with the rows of other tables that belong to it: a user with its name, its passwords and its
options. Sites merge its fields one by one:

    COLUMN                 the column of the main row; or of the one row that another table has for it (`OneRow`)
    extra.NAME             an attribute in the JSON of Keystone's column `extra`: [name, JSON text], or None if there is none
    PREFIX.KEY             a row of `RowPerField`: a list of its columns, or None if there is none
    FIELD                  all rows of `RowList`: a list of lists of columns, replaced as a whole

Integers by which rows of one database refer to each other (`local_user.id`, `access_rule.id`, …) differ from site to site. They appear in
no record: `IntegerKey` names the columns that stand for them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote

from atoll.mesh.entry import Json

Value = str | int | float | None
Key = tuple[Value, ...]

PREFIX = "identity."
"""The prefix of the names of all replicated kinds."""

NO_DOMAIN = "<<keystone.domain.root>>"
"""The value that Keystone writes for the domain of a domain: the id of a hidden row of `project`, which each site has from the schema."""

NO_ROLE_DOMAIN = "<<null>>"
"""The value that Keystone writes for the domain of a role that belongs to none."""

EXTRA = "extra"
"""The column for attributes without a column of their own, and the prefix of their fields."""

_NULL = "!"
_ESCAPED = re.compile(r"[\x00-\x1f\x7f%,!]")
_MAX_LABEL = 96


def encode(key: Iterable[Value]) -> str:
    """Return the key of a record in the document, from the values of its key columns."""
    return ",".join(_NULL if value is None else _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", str(value)) for value in key)


def decode(key: str) -> tuple[str | None, ...]:
    """Return the values that were given to `encode`, as texts."""
    return tuple(None if part == _NULL else unquote(part) for part in key.split(","))


def field_name(prefix: str, key: Sequence[Value]) -> str:
    """Return the name of a row's field, which holds a digest of the key if that is too long for a field's name."""
    label = encode(key)
    return f"{prefix}.{label if len(label) <= _MAX_LABEL else hashlib.sha256(label.encode()).hexdigest()}"


@dataclass(frozen=True)
class IntegerKey:
    """A table with an integer key, which other tables refer to, in addition to the columns of the record's key.

    Attributes:
        table: the table's name.
        integer: the column that other tables refer to.
        key: the columns that have the same values at every site.
    """

    table: str
    integer: str
    key: tuple[str, ...]


@dataclass(frozen=True)
class OneRow:
    """A table with at most one row for a record, and no row if the first of its fields is None.

    Attributes:
        table: the table's name.
        owner: the column that refers to the record.
        fields: the record's field by column.
        copies: columns that repeat columns of the main row.
    """

    table: str
    owner: str
    fields: tuple[tuple[str, str], ...]
    copies: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowPerField:
    """A table with any number of rows for a record, each a field of its own.

    Attributes:
        table: the table's name.
        prefix: the prefix of the fields' names.
        owner: the column that refers to the record.
        key: the columns that distinguish a record's rows.
        values: the table's other columns.
        owner_via: the table that `owner` refers to, if that is not the record's main table.
        key_via: the table that `key`, then a single column, refers to by an integer.
    """

    table: str
    prefix: str
    owner: str
    key: tuple[str, ...]
    values: tuple[str, ...] = ()
    owner_via: IntegerKey | None = None
    key_via: IntegerKey | None = None


@dataclass(frozen=True)
class RowList:
    """A table whose rows for a record together make one field.

    Attributes:
        table: the table's name.
        field: the record's field.
        owner: the column that refers to the record.
        values: the table's replicated columns.
        order: the columns that order the rows.
        owner_via: the table that `owner` refers to, if that is not the record's main table.
    """

    table: str
    field: str
    owner: str
    values: tuple[str, ...]
    order: tuple[str, ...]
    owner_via: IntegerKey | None = None


@dataclass(frozen=True)
class RequiredParent:
    """A record that must exist for another one to exist.

    Attributes:
        kind: the kind of the parent.
        columns: the child's key columns or fields whose values are the parent's key.
        unless: the value of the first column that means that there is no parent.
        when: a column and the beginning of its value for which the parent is needed.
    """

    kind: str
    columns: tuple[str, ...]
    unless: str | None = None
    when: tuple[str, str] | None = None


@dataclass(frozen=True)
class UniqueName:
    """A name that only one record may have in a scope.

    Attributes:
        field: the field that holds the name.
        scope: the column whose value is the scope.
        length: the greatest length of a name.
    """

    field: str
    scope: str
    length: int


@dataclass(frozen=True)
class ReplicatedTable:
    """One kind of record.

    Attributes:
        kind: the kind's name in the document.
        table: the main table.
        key: the main table's key columns, with the same values at every site.
        columns: the main table's other columns that are replicated, without `extra`.
        extra: whether the main table has a column `extra`.
        local: columns that each site has for itself.
        initial: the values of some local columns in rows that come from another site.
        others: tables with rows that belong to the record.
        parents: records that must exist for the record to exist.
        named: further parents: the prefix of the fields that name them, and their kind.
        name: the name that only one record may have.
        deleted_locally: whether a deletion at one site leaves the rows of others, because each site deletes them by itself.
        deleted_column: the column that has a value in rows that Keystone marks as deleted and keeps; they make no record.
    """

    kind: str
    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...] = ()
    extra: bool = False
    local: tuple[str, ...] = ()
    initial: tuple[tuple[str, Value], ...] = ()
    others: tuple[OneRow | RowPerField | RowList, ...] = ()
    parents: tuple[RequiredParent, ...] = ()
    named: tuple[tuple[str, str], ...] = ()
    name: UniqueName | None = None
    deleted_locally: bool = False
    deleted_column: str | None = None

    @cached_property
    def plain(self) -> tuple[str, ...]:
        """The fields that every record of the kind has, even if they are None."""
        ones = tuple(field for other in self.others if isinstance(other, OneRow) for _, field in other.fields)
        return self.columns + ones + tuple(other.field for other in self.others if isinstance(other, RowList))

    @cached_property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes of the names of the other fields."""
        extra = (EXTRA,) if self.extra else ()
        return extra + tuple(other.prefix for other in self.others if isinstance(other, RowPerField))

    def parents_of(self, key: str, fields: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
        """Yield the kinds and keys of a record's parents."""
        row = {**dict(zip(self.key, decode(key), strict=False)), **fields}
        for parent in self.parents:
            if parent.when and not str(row.get(parent.when[0])).startswith(parent.when[1]):
                continue
            values = [row.get(column) for column in parent.columns]
            if values[0] is not None and values[0] != parent.unless:
                yield PREFIX + parent.kind, encode(values)
        for prefix, kind in self.named:
            yield from ((PREFIX + kind, encode(row)) for name, row in fields.items() if row is not None and name.startswith(f"{prefix}."))


_ACCESS_RULE = ("user_id", "service", "path", "method")
_LOCAL_USER = IntegerKey("local_user", "id", ("user_id",))
_CREDENTIAL = IntegerKey("application_credential", "internal_id", ("id",))
_REVOCATION = (
    *("domain_id", "project_id", "user_id", "role_id", "trust_id", "consumer_id", "access_token_id"),
    *("issued_before", "expires_at", "revoked_at", "audit_id", "audit_chain_id"),
)


def _options(kind: str) -> RowPerField:
    return RowPerField(f"{kind}_option", "option", f"{kind}_id", ("option_id",), ("option_value",))


_PROJECT, _USER, _GROUP, _ROLE = (RequiredParent(kind, (f"{kind}_id",)) for kind in ("project", "user", "group", "role"))
_SERVICE, _REGION, _IDP = (
    RequiredParent("service", ("service_id",)),
    RequiredParent("region", ("region_id",)),
    RequiredParent("identity_provider", ("idp_id",)),
)
_DOMAIN = RequiredParent("project", ("domain_id",), unless=NO_DOMAIN)
_GRANT = ("type", "actor_id", "target_id", "role_id", "inherited")
_GRANTED = (
    _ROLE,
    RequiredParent("user", ("actor_id",), when=("type", "User")),
    RequiredParent("group", ("actor_id",), when=("type", "Group")),
)

_TABLES = (
    ReplicatedTable(
        "region",
        "region",
        ("id",),
        ("description", "parent_region_id"),
        extra=True,
        parents=(RequiredParent("region", ("parent_region_id",)),),
    ),
    ReplicatedTable("service", "service", ("id",), ("type", "enabled"), extra=True),
    ReplicatedTable(
        *("endpoint", "endpoint", ("id",), ("legacy_endpoint_id", "interface", "region_id", "service_id", "url", "enabled")),
        extra=True,
        parents=(_SERVICE, _REGION),
    ),
    ReplicatedTable(  # domains are projects too
        *("project", "project", ("id",), ("name", "domain_id", "description", "enabled", "parent_id", "is_domain")),
        extra=True,
        others=(RowPerField("project_tag", "tag", "project_id", ("name",)), _options("project")),
        parents=(_DOMAIN, RequiredParent("project", ("parent_id",))),
        name=UniqueName("name", "domain_id", 64),
    ),
    ReplicatedTable(
        *("role", "role", ("id",), ("name", "domain_id", "description")),
        extra=True,
        others=(_options("role"),),
        parents=(RequiredParent("project", ("domain_id",), unless=NO_ROLE_DOMAIN),),
        name=UniqueName("name", "domain_id", 255),
    ),
    ReplicatedTable(
        *("implied_role", "implied_role", ("prior_role_id", "implied_role_id")),
        parents=(RequiredParent("role", ("prior_role_id",)), RequiredParent("role", ("implied_role_id",))),
    ),
    ReplicatedTable(
        *("identity_provider", "identity_provider", ("id",), ("domain_id", "enabled", "description", "authorization_ttl")),
        others=(RowPerField("idp_remote_ids", "remote", "idp_id", ("remote_id",)),),
        parents=(_DOMAIN,),
    ),
    ReplicatedTable("mapping", "mapping", ("id",), ("rules", "schema_version")),
    ReplicatedTable(
        *("federation_protocol", "federation_protocol", ("id", "idp_id"), ("mapping_id", "remote_id_attribute")),
        parents=(_IDP, RequiredParent("mapping", ("mapping_id",))),
    ),
    ReplicatedTable(
        *("service_provider", "service_provider", ("id",)),
        ("enabled", "description", "auth_url", "sp_url", "relay_state_prefix"),
    ),
    ReplicatedTable(
        *("user", "user", ("id",), ("domain_id", "enabled", "default_project_id", "created_at", "last_active_at")),
        extra=True,
        others=(
            OneRow("local_user", "user_id", (("name", "name"),), copies=("domain_id",)),
            OneRow("nonlocal_user", "user_id", (("name", "nonlocal_name"),), copies=("domain_id",)),
            RowList(
                *("password", "passwords", "local_user_id"),
                ("password_hash", "created_at", "expires_at", "created_at_int", "expires_at_int", "self_service"),
                order=("created_at_int", "id"),
                owner_via=_LOCAL_USER,
            ),
            _options("user"),
            RowPerField("federated_user", "federated", "user_id", ("idp_id", "protocol_id", "unique_id"), ("display_name",)),
        ),
        parents=(_DOMAIN,),
        name=UniqueName("name", "domain_id", 255),
    ),
    ReplicatedTable(
        *("group", "group", ("id",), ("name", "domain_id", "description")),
        extra=True,
        parents=(_DOMAIN,),
        name=UniqueName("name", "domain_id", 64),
    ),
    ReplicatedTable("membership", "user_group_membership", ("user_id", "group_id"), parents=(_USER, _GROUP)),
    ReplicatedTable("assignment", "assignment", _GRANT, parents=(*_GRANTED, RequiredParent("project", ("target_id",)))),
    ReplicatedTable("system_assignment", "system_assignment", _GRANT, parents=_GRANTED),
    ReplicatedTable("access_rule", "access_rule", _ACCESS_RULE, ("external_id",), local=("id",), parents=(_USER,)),
    ReplicatedTable(
        *("application_credential", "application_credential", ("id",)),
        ("name", "secret_hash", "description", "user_id", "project_id", "system", "expires_at", "unrestricted"),
        local=("internal_id",),
        others=(
            RowPerField("application_credential_role", "role", "application_credential_id", ("role_id",), owner_via=_CREDENTIAL),
            RowPerField(
                *("application_credential_access_rule", "rule", "application_credential_id", ("access_rule_id",)),
                owner_via=_CREDENTIAL,
                key_via=IntegerKey("access_rule", "id", _ACCESS_RULE),
            ),
        ),
        parents=(_USER, _PROJECT),
        # Without one of its rules, a credential would allow more than its owner intended; without one of its roles, Keystone raises.
        named=(("rule", "access_rule"), ("role", "role")),
        name=UniqueName("name", "user_id", 255),
    ),
    ReplicatedTable(
        *("trust", "trust", ("id",)),
        (
            *("trustor_user_id", "trustee_user_id", "project_id", "impersonation", "expires_at", "expires_at_int"),
            *("remaining_uses", "redelegated_trust_id", "redelegation_count"),
        ),
        # `extra` too: Keystone stores whatever a trust's creator sends there, and uses none of it.
        local=("deleted_at", "extra"),
        initial=(("extra", "{}"),),
        deleted_column="deleted_at",
        others=(RowPerField("trust_role", "role", "trust_id", ("role_id",)),),
        parents=(RequiredParent("user", ("trustor_user_id",)), RequiredParent("user", ("trustee_user_id",)), _PROJECT),
        named=(("role", "role"),),
    ),
    ReplicatedTable("revocation", "revocation_event", _REVOCATION, local=("id",), deleted_locally=True),
    ReplicatedTable(
        *("registered_limit", "registered_limit", ("id",), ("service_id", "region_id", "resource_name", "default_limit", "description")),
        local=("internal_id",),
        parents=(_SERVICE, _REGION),
    ),
    ReplicatedTable(
        *("limit", "limit", ("id",), ("project_id", "domain_id", "resource_limit", "description", "registered_limit_id")),
        local=("internal_id",),
        parents=(RequiredParent("registered_limit", ("registered_limit_id",)), _PROJECT, _DOMAIN),
    ),
    ReplicatedTable("endpoint_group", "endpoint_group", ("id",), ("name", "description", "filters")),
    ReplicatedTable(
        *("project_endpoint_group", "project_endpoint_group", ("endpoint_group_id", "project_id")),
        parents=(RequiredParent("endpoint_group", ("endpoint_group_id",)), _PROJECT),
    ),
    ReplicatedTable(
        "project_endpoint",
        "project_endpoint",
        ("endpoint_id", "project_id"),
        parents=(RequiredParent("endpoint", ("endpoint_id",)), _PROJECT),
    ),
    ReplicatedTable("policy", "policy", ("id",), ("blob", "type"), extra=True),
    ReplicatedTable(
        *("policy_association", "policy_association", ("endpoint_id", "service_id", "region_id"), ("id", "policy_id")),
        parents=(RequiredParent("policy", ("policy_id",)),),
    ),
    *(
        ReplicatedTable(table, table, ("domain_id", "group", "option"), ("value",), parents=(_DOMAIN,))
        for table in ("whitelisted_config", "sensitive_config")
    ),
)

KINDS: dict[str, ReplicatedTable] = {PREFIX + table.kind: table for table in _TABLES}
"""The replicated tables by kind, parents before children."""

LOCAL_TABLES = {
    "access_token": "OAuth 1, whose tokens are created and used at one site",
    "alembic_version": "the version of the schema",
    "config_register": "the process of a site that reads a domain's configuration",
    "consumer": "OAuth 1",
    "credential": "encrypted with a key of the site's own",
    "expiring_user_group_membership": "renewed whenever a federated user signs in at the site",
    "id_mapping": "computed alike at every site, from the data of LDAP",
    "request_token": "OAuth 1",
    "token": "unused: tokens are not stored",
}
"""Tables that each site has for itself, and the reasons."""

LOCAL_COLUMNS = {
    "federated_user": {"id"},
    "local_user": {"id", "failed_auth_count", "failed_auth_at"},  # each site locks out those who guess passwords at it
    "password": {"id"},
}
"""Columns of tables of `others` that each site has for itself."""
