"""The platform's declared state as steps, in the order in which each finds what it needs: one step a service.

The command line and the DAGs `apply_platform` and `drift` walk exactly these; there is no second way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from include import connections, ledger, publication, speed
from include.connections import AIRBYTE, DREMIO, LEDGER, STORE, SUPERSET
from include.paths import PLATFORM
from include.reconcile import airbyte, airflow, capture, dremio, elasticsearch, postgres, s3, superset
from include.reconcile.plan import Change
from include.specs import pipeline, policy
from lakehouse_providers.airbyte.hook import AirbyteSyncHook
from lakehouse_providers.dremio.hook import DremioHook
from lakehouse_providers.superset.hook import SupersetHook

MIGRATIONS = PLATFORM / "postgres" / "ledger"


@dataclass(frozen=True)
class Options:
    """`apply`: change what differs. `prune`: also delete what was made from declarations that are gone."""

    apply: bool
    prune: bool


@dataclass(frozen=True)
class Step:
    """`title`: for messages. `optional`: an Airflow connection; without it the step is skipped, and says so."""

    name: str
    title: str
    run: Callable[[Options], list[Change]]
    optional: str | None = None

    def changes(self, options: Options) -> list[Change]:
        """Raises SpecError, ApplyError, or what the service's client raises."""
        reason = connections.absent(self.optional) if self.optional else ""
        return [Change("await", "service", self.name, (f"skipped: {reason}",))] if reason else self.run(options)


def _ledger(options: Options) -> list[Change]:
    with connections.connect(LEDGER) as conn:
        names = ledger.migrate(conn, MIGRATIONS) if options.apply else ledger.pending(conn, MIGRATIONS)
    return [Change("create", "ledger migration", name) for name in names]


def _object_store(options: Options) -> list[Change]:
    # Here, not above: boto3 would cost every parse of the DAG files a third of a second.
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    iam = AwsBaseHook(aws_conn_id=STORE, client_type="iam").get_conn()
    return s3.run(S3Hook(STORE).get_conn(), iam, apply=options.apply)


def _sources(options: Options) -> list[Change]:
    """Publication and replica identities of captured tables, as their owner; the slot, as its reader."""
    changes = []
    for one in pipeline.load_all():
        if one.speed is not None:
            with connections.connect(one.speed.owner) as conn:
                changes += capture.run(conn, one, apply=options.apply)
            with connections.connect(LEDGER) as conn:
                begun = not ledger.pending(conn, MIGRATIONS) and speed.position(conn, one.speed.connection) is not None
            assert one.source_connection is not None  # checked by the specification
            with connections.connect(one.source_connection) as conn:
                changes += capture.slot(conn, one, begun=begun, apply=options.apply)
    return changes


def _airbyte(options: Options) -> list[Change]:
    with AirbyteSyncHook(AIRBYTE).client() as client:
        return airbyte.AirbyteState(client, list(pipeline.load_all())).run(apply=options.apply)


def _unfilled() -> set[str]:
    """Views of pipelines whose source Airbyte does not have, such as for want of its connector: no run fills them."""
    with AirbyteSyncHook(AIRBYTE).client() as client:
        without = [one.name for one in pipeline.load_all() if client.find("source", one.source) is None]
    return {dataset.id for name in without for dataset in publication.datasets(name)}


def _superset(options: Options) -> list[Change]:
    assets = superset.load()
    with SupersetHook(SUPERSET).client() as client:
        changes = superset.run(client, apply=options.apply, prune=options.prune, assets=assets, empty=_unfilled())
        return changes + superset.access.run(client, policy.load(), assets, apply=options.apply)


STEPS: tuple[Step, ...] = (
    Step("ledger", "The ledger", _ledger),
    Step("object_store", "The object store", _object_store),
    Step("sources", "The sources", _sources),
    Step("postgres", "PostgreSQL", lambda o: postgres.run(apply=o.apply, prune=o.prune)),
    Step("airbyte", "Airbyte", _airbyte),
    Step("dremio", "Dremio", lambda o: dremio.run(DremioHook(DREMIO), apply=o.apply, prune=o.prune)),
    Step("superset", "Superset", _superset, optional=SUPERSET),
    Step("airflow", "Airflow", lambda o: airflow.run(apply=o.apply, prune=o.prune)),
    Step(
        "elasticsearch",
        "Elasticsearch",
        lambda o: elasticsearch.run(apply=o.apply),
        optional=elasticsearch.CONNECTION,
    ),
)


def by_name() -> Mapping[str, Step]:
    return {step.name: step for step in STEPS}
