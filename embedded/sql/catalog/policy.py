"""A source's metadata policy: when what is known of its promoted tables grows old, and who refreshes it then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from embedded.sql import acting, clock
from embedded.sql.errors import ConcurrentModification, SqlError

if TYPE_CHECKING:
    from embedded.sql.catalog.entities import Entity
    from embedded.sql.catalog.service import CatalogService

log = logging.getLogger(__name__)

Mode = Literal["PREFETCH_QUERIED", "PREFETCH", "INLINE"]
_LOOK_EVERY = 15.0  # seconds; the shortest policy is a minute


@dataclass(frozen=True)
class MetadataPolicy:
    """Defaults are Dremio's. PREFETCH modes refresh in the background, INLINE at the next query; an expired table is
    refreshed before its next query in every mode, unless the source's validity check is off.
    """

    refresh_after: timedelta = timedelta(hours=1)
    expire_after: timedelta = timedelta(hours=3)
    mode: Mode = "PREFETCH_QUERIED"
    checked: bool = True

    @classmethod
    def of(cls, source: Entity) -> MetadataPolicy:
        given: Mapping[str, Any] = source.body.get("metadataPolicy") or {}
        default = cls()

        def span(name: str, otherwise: timedelta) -> timedelta:
            return timedelta(milliseconds=int(given[name])) if given.get(name) else otherwise

        return cls(
            refresh_after=span("datasetRefreshAfterMs", default.refresh_after),
            expire_after=span("datasetExpireAfterMs", default.expire_after),
            mode=given.get("datasetUpdateMode") or default.mode,
            checked=not source.body.get("disableMetadataValidityCheck", False),
        )

    def old(self, refreshed_at: datetime) -> bool:
        return clock.now() - refreshed_at > self.refresh_after

    def expired(self, refreshed_at: datetime) -> bool:
        return clock.now() - refreshed_at > self.expire_after

    def due_at_query(self, refreshed_at: datetime) -> bool:
        """Whether a query must not use metadata of that age."""
        return self.checked and (self.expired(refreshed_at) or (self.mode == "INLINE" and self.old(refreshed_at)))


class MetadataUpkeep:
    """Refreshes old metadata in the background, one table after the other."""

    def __init__(self, service: CatalogService) -> None:
        self._service = service
        self._stop = threading.Event()
        self._queried: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="metadata-upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def queried(self, entity_id: str) -> None:
        self._queried.add(entity_id)

    def _work(self) -> None:
        while not self._stop.wait(_LOOK_EVERY):
            with acting.as_user(None):
                self.look()

    def look(self) -> None:
        """One round; a table that cannot be refreshed keeps what is known, and the log says why."""
        for entity in self._service.entities.of_kind("table"):
            if self._stop.is_set():
                return
            if entity.body.get("live") or not self._due(entity):
                continue
            try:
                self._service.refresh_by_policy(entity)
            except ConcurrentModification:
                continue
            except SqlError as error:
                log.warning("Metadata of %s stays as it is: %s", ".".join(entity.path), error.message)

    def _due(self, entity: Entity) -> bool:
        try:
            policy = MetadataPolicy.of(self._service.root(entity.path))
        except SqlError:
            return False
        known = self._service.metadata.get(entity.id)
        wanted = policy.mode == "PREFETCH" or (policy.mode == "PREFETCH_QUERIED" and entity.id in self._queried)
        return wanted and known is not None and policy.old(known.refreshed_at)
