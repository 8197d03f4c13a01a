"""Superset's roles, members, dashboards' roles and row-level rules, compiled from include/platform/policy.yaml.

Built-in roles are left alone, since `superset init` writes them anew; the policy's administrators get Superset's Admin.
What a role may read of the data follows from what it may read in Dremio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow.sdk.exceptions import AirflowNotFoundException

from include import connections
from include.publication import SPACE
from include.reconcile.plan import ApplyError, Change
from include.reconcile.superset.assets import Asset, charts_of
from include.specs.policy import ADMIN, Member, Policy, Role, RowRule
from lakehouse_providers.superset import errors
from lakehouse_providers.superset.client import Endpoint, SupersetClient

SERVICE = "superset"
BUILT_IN_ADMIN = "Admin"
Pair = tuple[str, str]  # a permission and what it is on


def _on(view: str, *permissions: str) -> frozenset[Pair]:
    return frozenset((permission, view) for permission in permissions)


_MENU = "menu_access"
PERMISSIONS: Mapping[str, frozenset[Pair]] = {
    "view_dashboards": frozenset().union(
        _on("Superset", "can_dashboard", "can_dashboard_permalink", "can_log", "can_language_pack"),
        *(_on(view, "can_read") for view in ("Dashboard", "Chart", "Theme", "CurrentUserRestApi", "SecurityRestApi")),
        _on("DashboardFilterStateRestApi", "can_read", "can_write"),
        _on("DashboardPermalinkRestApi", "can_read", "can_write"),
        *(_on("Api", "can_time_range"), _on("MenuApi", "can_get"), _on("Log", "can_recent_activity")),
        _on("UserDBModelView", "can_userinfo", "resetmypassword"),
        _on("ResetMyPasswordView", "can_this_form_get", "can_this_form_post"),
        *(_on(view, _MENU) for view in ("Home", "Dashboards")),
    ),
    "query_datasets": frozenset().union(
        _on("Superset", "can_explore", "can_explore_json", "can_slice", "can_fetch_datasource_metadata"),
        *(_on(view, "can_read") for view in ("Explore", "Dataset", "Database", "Tag", "AdvancedDataType")),
        _on("ExploreFormDataRestApi", "can_read", "can_write"),
        _on("ExplorePermalinkRestApi", "can_read", "can_write"),
        _on("Datasource", "can_get", "can_samples", "can_get_column_values", "can_external_metadata"),
        _on("Dashboard", "can_drill", "can_view_query", "can_view_chart_as_table"),
        *(_on("Dataset", "can_get_drill_info"), _on("Api", "can_query", "can_query_form_data")),
        *(_on(view, _MENU) for view in ("Charts", "Data", "Datasets")),
    ),
    "edit_dashboards": frozenset().union(
        *(_on(view, "can_write") for view in ("Chart", "Dashboard")),
        _on("Dashboard", "can_put_chart_customizations"),
        _on("Superset", "can_share_chart", "can_share_dashboard"),
    ),
    "export_data": frozenset().union(_on("Superset", "can_csv"), _on("SQLLab", "can_export_csv")),
    "sql_lab": frozenset().union(
        _on("SQLLab", "can_read", "can_execute_sql_query", "can_get_results", "can_format_sql"),
        _on("Superset", "can_sqllab", "can_sqllab_history"),
        _on("TabStateView", "can_get", "can_post", "can_put", "can_delete", "can_activate", "can_delete_query"),
        _on("TableSchemaView", "can_post", "can_delete", "can_expanded"),
        *(_on("Query", "can_read"), _on("SavedQuery", "can_read", "can_write", "can_list")),
        *(_on(view, _MENU) for view in ("SQL Lab", "SQL Editor", "Saved Queries", "Query Search")),
    ),
    "manage_datasets": frozenset().union(
        _on("Dataset", "can_write", "can_duplicate", "can_get_or_create_dataset"), _on("Datasource", "can_save")
    ),
    "manage_databases": _on("Database", "can_write", "can_upload") | _on("Databases", _MENU),
    "manage_users": _on("RowLevelSecurity", "can_read", "can_write"),
}
# Of data, by the schema of a dataset: what a role may read there is the same here.
READS = {f"{SPACE}.gold": "read_gold", f"{SPACE}.silver": "read_silver", f"{SPACE}.serving": "read_serving"}
OPERATIONS = "read_operations"
ALL_DATA = ("all_datasource_access", "all_datasource_access")


@dataclass
class _Walk:
    """One walk over the roles; `ids`: Superset's ids of roles by name, of datasets by UUID."""

    client: SupersetClient
    policy: Policy
    assets: Iterable[Asset]
    apply: bool
    changes: list[Change] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    datasets: dict[str, int] = field(default_factory=dict)

    def make(self, change: Change, do: Callable[[], Any]) -> None:
        self.changes.append(change)
        if not self.apply:
            return
        try:
            do()
        except errors.SupersetResponseError as error:
            raise ApplyError(
                f"{change.action} {change.kind} {change.name}: {error}. What was applied stays."
            ) from error


def run(client: SupersetClient, policy: Policy, assets: Iterable[Asset], *, apply: bool) -> list[Change]:
    """What differs from the policy; with `apply` it is made so, safe to repeat. Raises ApplyError, SupersetError.

    Before the first import there are no datasets to give access to: then only their roles are planned.
    """
    walk = _Walk(client, policy, list(assets), apply)
    walk.ids = {str(one["name"]): int(one["id"]) for one in client.items("security/roles", ("id", "name"))}
    walk.datasets = {str(one["uuid"]): int(one["id"]) for one in client.items("dataset", ("id", "uuid"))}
    for role in policy.roles.values():
        if role.name != ADMIN:
            _role(walk, role)
    _dashboards(walk)
    for rule in policy.row_rules(SERVICE):
        _rule(walk, rule)
    for member in policy.members:
        _member(walk, member)
    return walk.changes


def title(policy: Policy, role: str) -> str:
    """The role's name in Superset."""
    return BUILT_IN_ADMIN if role == ADMIN else policy.roles[role].title


def readable(policy: Policy, role: str, dataset: Asset) -> bool:
    """Whether the role may query the dataset: it may query datasets, and this data in Dremio."""
    action = READS.get(str(dataset.content.get("schema")), OPERATIONS)
    return policy.allows(role, SERVICE, "query_datasets") and policy.allows(role, "dremio", action)


def _wanted(walk: _Walk, role: Role) -> set[Pair]:
    pairs = {pair for action in walk.policy.actions(role.name, SERVICE) for pair in PERMISSIONS[action]}
    if walk.policy.allows(role.name, SERVICE, "query_datasets") and walk.policy.allows(role.name, "dremio", OPERATIONS):
        return pairs | {ALL_DATA, ("all_database_access", "all_database_access")}
    for asset in walk.assets:
        number = walk.datasets.get(asset.uuid)
        if asset.kind == "datasets" and number is not None and readable(walk.policy, role.name, asset):
            pairs.add(("datasource_access", f"[{_database(walk, asset)}].[{asset.title}](id:{number})"))
    return pairs


def _database(walk: _Walk, dataset: Asset) -> str:
    return next(asset.title for asset in walk.assets if asset.uuid == str(dataset.content["database_uuid"]))


def _role(walk: _Walk, role: Role) -> None:
    number = walk.ids.get(role.title)
    if number is None:
        walk.make(Change("create", "role", role.title), lambda: _create_role(walk, role))
        return
    there = walk.client.role_permissions(number)
    wanted = _wanted(walk, role)
    lines = [f"gains {one} on {view}" for one, view in sorted(wanted - there)]
    lines += [f"loses {one} on {view}" for one, view in sorted(there - wanted)]
    if lines:
        walk.make(Change("update", "role", role.title, tuple(lines)), lambda: _give(walk, number, wanted))


def _create_role(walk: _Walk, role: Role) -> None:
    walk.ids[role.title] = walk.client.create("security/roles", {"name": role.title})
    _give(walk, walk.ids[role.title], _wanted(walk, role))


def _give(walk: _Walk, number: int, wanted: set[Pair]) -> None:
    known = walk.client.permissions()
    missing = sorted(wanted - known.keys())
    if missing:
        raise ApplyError(f"this Superset has no permission {missing[0][0]} on {missing[0][1]}: its version is another")
    walk.client.set_role_permissions(number, sorted(known[pair] for pair in wanted))


def _dashboards(walk: _Walk) -> None:
    """A dashboard is open to all who may look at dashboards; one on the platform itself, to those who may read that."""
    datasets = {asset.uuid: asset for asset in walk.assets if asset.kind == "datasets"}
    charts = {asset.uuid: asset for asset in walk.assets if asset.kind == "charts"}
    there = {str(one["uuid"]): one for one in walk.client.items("dashboard")}
    for asset in walk.assets:
        found = there.get(asset.uuid)
        if asset.kind != "dashboards" or found is None:
            continue
        schemas = {
            str(datasets[str(charts[str(part["uuid"])].content["dataset_uuid"])].content.get("schema"))
            for part in charts_of(asset.content)
        }
        wanted = {title(walk.policy, role) for role in walk.policy.roles if _may_look(walk.policy, role, schemas)}
        actual = {str(role["name"]) for role in found.get("roles") or []}
        if wanted != actual:
            line = f"roles: {', '.join(sorted(actual)) or 'nobody'} -> {', '.join(sorted(wanted))}"
            walk.make(
                Change("update", "dashboard", asset.name, (line,)),
                lambda number=int(found["id"]), names=wanted: walk.client.update(  # type: ignore[misc]
                    "dashboard", number, {"roles": sorted(walk.ids[name] for name in names)}
                ),
            )


def _may_look(policy: Policy, role: str, schemas: set[str]) -> bool:
    published = schemas <= READS.keys()
    return policy.allows(role, SERVICE, "view_dashboards") and (published or policy.allows(role, "dremio", OPERATIONS))


def _rule(walk: _Walk, rule: RowRule) -> None:
    tables = []
    for layer, name in rule.objects:
        found = [a for a in walk.assets if a.kind == "datasets" and a.title == name and _layer(a) == layer]
        if not found:
            raise ApplyError(f"policy.yaml: rows.{rule.name}: no Superset dataset shows {layer}.{name}; declare one")
        tables += [walk.datasets[asset.uuid] for asset in found if asset.uuid in walk.datasets]
    roles = sorted(walk.ids[title(walk.policy, one)] for one in rule.roles if title(walk.policy, one) in walk.ids)
    if not tables or len(roles) < len(rule.roles):
        walk.changes.append(Change("create", "row rule", rule.name))
        return
    body = {"name": rule.name, "filter_type": "Regular", "tables": sorted(tables), "roles": roles, "clause": rule.where}
    there = next((one for one in walk.client.items("rowlevelsecurity") if one["name"] == rule.name), None)
    if there is None:
        walk.make(Change("create", "row rule", rule.name), lambda: walk.client.create("rowlevelsecurity", body))
        return
    actual = {
        "clause": there["clause"],
        "filter_type": there["filter_type"],
        "tables": sorted(one["id"] for one in there["tables"]),
        "roles": sorted(one["id"] for one in there["roles"]),
    }
    lines = tuple(f"{key}: {value} -> {body[key]}" for key, value in actual.items() if value != body[key])
    if lines:
        walk.make(
            Change("update", "row rule", rule.name, lines),
            lambda: walk.client.update("rowlevelsecurity", int(there["id"]), body),
        )


def _layer(dataset: Asset) -> str:
    return str(dataset.content.get("schema") or "").rpartition(".")[2]


def _member(walk: _Walk, member: Member) -> None:
    """The user, its one role, and whether the password still opens a session."""
    role = title(walk.policy, member.role)
    try:
        password = str(connections.resolve(member.password))
    except AirflowNotFoundException:
        lacking = ", ".join(sorted(connections.references(member.password)))
        walk.changes.append(Change("await", "user", member.name, (f"there is no connection {lacking}",)))
        return
    there = next((one for one in walk.client.items("security/users") if one["username"] == member.name), None)
    if there is None:
        body = {
            **{"username": member.name, "first_name": member.name.title(), "last_name": role, "active": True},
            **{"email": f"{member.name}@lakehouse.invalid", "password": password},
        }
        walk.make(
            Change("create", "user", member.name),
            lambda: walk.client.create("security/users", {**body, "roles": [walk.ids[role]]}),
        )
        return
    lines = []
    if (roles := sorted(one["name"] for one in there["roles"])) != [role]:
        lines.append(f"roles: {', '.join(roles) or 'none'} -> {role}")
    if not there["active"]:
        lines.append("active: false -> true")
    if not _opens(walk.client.endpoint, member.name, password):
        lines.append("password: differs (its value comes from an Airflow connection)")
    if lines:
        body = {"roles": [walk.ids.get(role, 0)], "active": True, "password": password}
        walk.make(
            Change("update", "user", member.name, tuple(lines)),
            lambda: walk.client.update("security/users", int(there["id"]), body),
        )


def _opens(place: Endpoint, user: str, password: str) -> bool:
    with SupersetClient(Endpoint(place.base_url, user, password, verify=place.verify, retry=place.retry)) as client:
        try:
            client.sign_in()
        except errors.SupersetAuthenticationError:
            return False
    return True
