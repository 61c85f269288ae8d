"""Which of Keystone's tables are replicated, and what of them makes one record of the document.

A record is a row of a *main* table together with the rows of other tables that belong to it: a user with its name, its passwords and
its options. Its fields, which sites merge one by one, are

    COLUMN                 the column of the main row; or of the one row that a table has for it (`One`)
    extra.NAME             what Keystone keeps in the JSON of the column `extra`: [name, JSON text], or None if it is not there
    PREFIX.KEY             a row of `Many`: a list of its columns, or None if it is not there
    FIELD                  all rows of `Whole`: a list of lists of columns, replaced as a whole

Integers by which rows of one database refer to each other (`local_user.id`, `access_rule.id`, …) differ from site to site. They appear
nowhere in a record: `Via` says what stands for them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote

from atoll.mesh.record import Json

Value = str | int | float | None
Key = tuple[Value, ...]

PREFIX = "identity."
"""What the names of all these kinds begin with."""

NO_DOMAIN = "<<keystone.domain.root>>"
"""What Keystone writes for the domain of a domain: the id of a hidden row of `project`, which each site has from the schema."""

NO_ROLE_DOMAIN = "<<null>>"
"""What Keystone writes for the domain of a role that belongs to none."""

EXTRA = "extra"
"""The column, and the prefix of the fields, of what Keystone has no columns for."""

_NULL = "!"
_ESCAPED = re.compile(r"[\x00-\x1f\x7f%,!]")
_MAX_LABEL = 96


def encode(key: Iterable[Value]) -> str:
    """The key of a record in the document, of the values of its key columns."""
    return ",".join(_NULL if value is None else _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", str(value)) for value in key)


def parts(key: str) -> tuple[str | None, ...]:
    """The values that `encode` was given, as texts."""
    return tuple(None if part == _NULL else unquote(part) for part in key.split(","))


def field_name(prefix: str, key: Sequence[Value]) -> str:
    """The name of the field of one row: readable, unless the key is longer than names of fields may be."""
    label = encode(key)
    return f"{prefix}.{label if len(label) <= _MAX_LABEL else hashlib.sha256(label.encode()).hexdigest()}"


@dataclass(frozen=True)
class Via:
    """A table whose integer key stands in other tables for what a record's key says.

    Attributes:
        table: its name.
        integer: the column that others refer to.
        key: the columns that tell the same at every site.
    """

    table: str
    integer: str
    key: tuple[str, ...]


@dataclass(frozen=True)
class One:
    """A table with at most one row for a record; there is none if the first of its fields is None.

    Attributes:
        table: its name.
        owner: the column that refers to the record.
        fields: field by column.
        copies: columns that repeat the main row's.
    """

    table: str
    owner: str
    fields: tuple[tuple[str, str], ...]
    copies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Many:
    """A table with any number of rows for a record, each a field of its own.

    Attributes:
        table: its name.
        prefix: of the fields' names.
        owner: the column that refers to the record.
        key: the columns that tell a record's rows apart.
        values: its other columns.
        owner_via: what `owner` refers to, if not to the record's key itself.
        key_via: what `key`, a single column then, refers to, if that is an integer.
    """

    table: str
    prefix: str
    owner: str
    key: tuple[str, ...]
    values: tuple[str, ...] = ()
    owner_via: Via | None = None
    key_via: Via | None = None


@dataclass(frozen=True)
class Whole:
    """A table whose rows for a record are one field.

    Attributes:
        table: its name.
        field: of the record.
        owner: the column that refers to the record.
        values: its columns.
        order: those that order the rows.
        owner_via: what `owner` refers to, if not to the record's key itself.
    """

    table: str
    field: str
    owner: str
    values: tuple[str, ...]
    order: tuple[str, ...]
    owner_via: Via | None = None


@dataclass(frozen=True)
class Parent:
    """What must be there for a record to be there.

    Attributes:
        kind: of the parent.
        columns: key columns or fields of the child that make the parent's key.
        unless: there is no parent if the first of them has this value.
        when: a column and what its value must begin with for the parent to be needed.
    """

    kind: str
    columns: tuple[str, ...]
    unless: str | None = None
    when: tuple[str, str] | None = None


@dataclass(frozen=True)
class Name:
    """A name that only one record may have in a scope.

    Attributes:
        field: which holds it.
        scope: the column whose value is the scope.
        length: how long it may be.
    """

    field: str
    scope: str
    length: int


@dataclass(frozen=True)
class Table:
    """One kind of record.

    Attributes:
        kind: its name in the document.
        table: the main table.
        key: its key columns, the same at every site.
        columns: its other columns that are replicated, without `extra`.
        extra: it has a column `extra`.
        local: columns that each site has for itself.
        initial: what some of these hold in rows that come from another site.
        others: tables with rows that belong to the record.
        parents: what must be there for the record to be there.
        named: further parents: the prefix of the fields that name them, and their kind.
        name: the name that only one record may have.
        kept: rows are not taken back with a record at other sites when one site deletes them, since each site deletes them by itself.
        dead: the column that has a value in rows that Keystone calls deleted and keeps: no record is made of them.
    """

    kind: str
    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...] = ()
    extra: bool = False
    local: tuple[str, ...] = ()
    initial: tuple[tuple[str, Value], ...] = ()
    others: tuple[One | Many | Whole, ...] = ()
    parents: tuple[Parent, ...] = ()
    named: tuple[tuple[str, str], ...] = ()
    name: Name | None = None
    kept: bool = False
    dead: str | None = None

    @cached_property
    def plain(self) -> tuple[str, ...]:
        """The fields that every record of the kind has, be they None."""
        ones = tuple(field for other in self.others if isinstance(other, One) for _, field in other.fields)
        return self.columns + ones + tuple(other.field for other in self.others if isinstance(other, Whole))

    @cached_property
    def prefixes(self) -> tuple[str, ...]:
        """What the names of the other fields begin with, before the point."""
        extra = (EXTRA,) if self.extra else ()
        return extra + tuple(other.prefix for other in self.others if isinstance(other, Many))

    def parents_of(self, key: str, fields: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
        """The kinds and keys of a record's parents."""
        row = {**dict(zip(self.key, parts(key), strict=False)), **fields}
        for parent in self.parents:
            if parent.when and not str(row.get(parent.when[0])).startswith(parent.when[1]):
                continue
            values = [row.get(column) for column in parent.columns]
            if values[0] is not None and values[0] != parent.unless:
                yield PREFIX + parent.kind, encode(values)
        for prefix, kind in self.named:
            yield from ((PREFIX + kind, encode(row)) for name, row in fields.items() if row is not None and name.startswith(f"{prefix}."))


_ACCESS_RULE = ("user_id", "service", "path", "method")
_LOCAL_USER = Via("local_user", "id", ("user_id",))
_CREDENTIAL = Via("application_credential", "internal_id", ("id",))
_REVOCATION = (
    *("domain_id", "project_id", "user_id", "role_id", "trust_id", "consumer_id", "access_token_id"),
    *("issued_before", "expires_at", "revoked_at", "audit_id", "audit_chain_id"),
)


def _options(kind: str) -> Many:
    return Many(f"{kind}_option", "option", f"{kind}_id", ("option_id",), ("option_value",))


_PROJECT, _USER, _GROUP, _ROLE = (Parent(kind, (f"{kind}_id",)) for kind in ("project", "user", "group", "role"))
_SERVICE, _REGION, _IDP = Parent("service", ("service_id",)), Parent("region", ("region_id",)), Parent("identity_provider", ("idp_id",))
_DOMAIN = Parent("project", ("domain_id",), unless=NO_DOMAIN)
_GRANT = ("type", "actor_id", "target_id", "role_id", "inherited")
_GRANTED = (_ROLE, Parent("user", ("actor_id",), when=("type", "User")), Parent("group", ("actor_id",), when=("type", "Group")))

_TABLES = (
    Table("region", "region", ("id",), ("description", "parent_region_id"), extra=True, parents=(Parent("region", ("parent_region_id",)),)),
    Table("service", "service", ("id",), ("type", "enabled"), extra=True),
    Table(
        *("endpoint", "endpoint", ("id",), ("legacy_endpoint_id", "interface", "region_id", "service_id", "url", "enabled")),
        extra=True,
        parents=(_SERVICE, _REGION),
    ),
    Table(  # domains are projects too
        *("project", "project", ("id",), ("name", "domain_id", "description", "enabled", "parent_id", "is_domain")),
        extra=True,
        others=(Many("project_tag", "tag", "project_id", ("name",)), _options("project")),
        parents=(_DOMAIN, Parent("project", ("parent_id",))),
        name=Name("name", "domain_id", 64),
    ),
    Table(
        *("role", "role", ("id",), ("name", "domain_id", "description")),
        extra=True,
        others=(_options("role"),),
        parents=(Parent("project", ("domain_id",), unless=NO_ROLE_DOMAIN),),
        name=Name("name", "domain_id", 255),
    ),
    Table(
        *("implied_role", "implied_role", ("prior_role_id", "implied_role_id")),
        parents=(Parent("role", ("prior_role_id",)), Parent("role", ("implied_role_id",))),
    ),
    Table(
        *("identity_provider", "identity_provider", ("id",), ("domain_id", "enabled", "description", "authorization_ttl")),
        others=(Many("idp_remote_ids", "remote", "idp_id", ("remote_id",)),),
        parents=(_DOMAIN,),
    ),
    Table("mapping", "mapping", ("id",), ("rules", "schema_version")),
    Table(
        *("federation_protocol", "federation_protocol", ("id", "idp_id"), ("mapping_id", "remote_id_attribute")),
        parents=(_IDP, Parent("mapping", ("mapping_id",))),
    ),
    Table(
        *("service_provider", "service_provider", ("id",)),
        ("enabled", "description", "auth_url", "sp_url", "relay_state_prefix"),
    ),
    Table(
        *("user", "user", ("id",), ("domain_id", "enabled", "default_project_id", "created_at", "last_active_at")),
        extra=True,
        others=(
            One("local_user", "user_id", (("name", "name"),), copies=("domain_id",)),
            One("nonlocal_user", "user_id", (("name", "nonlocal_name"),), copies=("domain_id",)),
            Whole(
                *("password", "passwords", "local_user_id"),
                ("password_hash", "created_at", "expires_at", "created_at_int", "expires_at_int", "self_service"),
                order=("created_at_int", "id"),
                owner_via=_LOCAL_USER,
            ),
            _options("user"),
            Many("federated_user", "federated", "user_id", ("idp_id", "protocol_id", "unique_id"), ("display_name",)),
        ),
        parents=(_DOMAIN,),
        name=Name("name", "domain_id", 255),
    ),
    Table(
        *("group", "group", ("id",), ("name", "domain_id", "description")),
        extra=True,
        parents=(_DOMAIN,),
        name=Name("name", "domain_id", 64),
    ),
    Table("membership", "user_group_membership", ("user_id", "group_id"), parents=(_USER, _GROUP)),
    Table("assignment", "assignment", _GRANT, parents=(*_GRANTED, Parent("project", ("target_id",)))),
    Table("system_assignment", "system_assignment", _GRANT, parents=_GRANTED),
    Table("access_rule", "access_rule", _ACCESS_RULE, ("external_id",), local=("id",), parents=(_USER,)),
    Table(
        *("application_credential", "application_credential", ("id",)),
        ("name", "secret_hash", "description", "user_id", "project_id", "system", "expires_at", "unrestricted"),
        local=("internal_id",),
        others=(
            Many("application_credential_role", "role", "application_credential_id", ("role_id",), owner_via=_CREDENTIAL),
            Many(
                *("application_credential_access_rule", "rule", "application_credential_id", ("access_rule_id",)),
                owner_via=_CREDENTIAL,
                key_via=Via("access_rule", "id", _ACCESS_RULE),
            ),
        ),
        parents=(_USER, _PROJECT),
        # A credential without one of its rules would be good for more than its owner wanted; Keystone trips over one whose role is gone.
        named=(("rule", "access_rule"), ("role", "role")),
        name=Name("name", "user_id", 255),
    ),
    Table(
        *("trust", "trust", ("id",)),
        (
            *("trustor_user_id", "trustee_user_id", "project_id", "impersonation", "expires_at", "expires_at_int"),
            *("remaining_uses", "redelegated_trust_id", "redelegation_count"),
        ),
        # `extra` too: Keystone takes anything that whoever makes a trust sends, and uses nothing of it.
        local=("deleted_at", "extra"),
        initial=(("extra", "{}"),),
        dead="deleted_at",
        others=(Many("trust_role", "role", "trust_id", ("role_id",)),),
        parents=(Parent("user", ("trustor_user_id",)), Parent("user", ("trustee_user_id",)), _PROJECT),
        named=(("role", "role"),),
    ),
    Table("revocation", "revocation_event", _REVOCATION, local=("id",), kept=True),
    Table(
        *("registered_limit", "registered_limit", ("id",), ("service_id", "region_id", "resource_name", "default_limit", "description")),
        local=("internal_id",),
        parents=(_SERVICE, _REGION),
    ),
    Table(
        *("limit", "limit", ("id",), ("project_id", "domain_id", "resource_limit", "description", "registered_limit_id")),
        local=("internal_id",),
        parents=(Parent("registered_limit", ("registered_limit_id",)), _PROJECT, _DOMAIN),
    ),
    Table("endpoint_group", "endpoint_group", ("id",), ("name", "description", "filters")),
    Table(
        *("project_endpoint_group", "project_endpoint_group", ("endpoint_group_id", "project_id")),
        parents=(Parent("endpoint_group", ("endpoint_group_id",)), _PROJECT),
    ),
    Table("project_endpoint", "project_endpoint", ("endpoint_id", "project_id"), parents=(Parent("endpoint", ("endpoint_id",)), _PROJECT)),
    Table("policy", "policy", ("id",), ("blob", "type"), extra=True),
    Table(
        *("policy_association", "policy_association", ("endpoint_id", "service_id", "region_id"), ("id", "policy_id")),
        parents=(Parent("policy", ("policy_id",)),),
    ),
    *(
        Table(table, table, ("domain_id", "group", "option"), ("value",), parents=(_DOMAIN,))
        for table in ("whitelisted_config", "sensitive_config")
    ),
)

KINDS: dict[str, Table] = {PREFIX + table.kind: table for table in _TABLES}
"""What is replicated, by kind, parents before children."""

LOCAL_TABLES = {
    "access_token": "OAuth 1, whose tokens are made and used up at one site",
    "alembic_version": "of the schema",
    "config_register": "which process of a site reads a domain's configuration",
    "consumer": "OAuth 1",
    "credential": "encrypted with a key of the site's own",
    "expiring_user_group_membership": "renewed whenever a federated user signs in, where that is",
    "id_mapping": "computed alike at every site, of what LDAP holds",
    "request_token": "OAuth 1",
    "token": "a relic: tokens are not stored",
}
"""Tables that each site has for itself, and why."""

LOCAL_COLUMNS = {
    "federated_user": {"id"},
    "local_user": {"id", "failed_auth_count", "failed_auth_at"},  # each site locks out those who guess passwords at it
    "password": {"id"},
}
"""Columns of tables of `others` that each site has for itself."""
