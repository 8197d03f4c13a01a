"""The Airflow connection type `dremio`: SQL over Arrow Flight, everything else over REST.

Software: host (name, or a whole URL), port (9047), login and password, or pat in Extra. Cloud: project_id in Extra and
a pat; host is api.dremio.cloud unless it names another region. The provider's page lists all fields:
docs/providers/dremio.md.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.sql.hooks.sql import DbApiHook

from lakehouse_providers.dremio import connection as fields
from lakehouse_providers.dremio import diagnosis, errors, flight, literals
from lakehouse_providers.dremio.client import DremioClient
from lakehouse_providers.dremio.endpoint import Endpoint
from lakehouse_providers.dremio.models import Row
from lakehouse_providers.transport import RetryPolicy

if TYPE_CHECKING:
    import pyarrow as pa


class DremioHook(DbApiHook):
    """A DB-API hook: `get_records`, `get_first`, `run`, `get_df`, `get_arrow` go over Flight, `client()` over REST.

    Every statement commits by itself; Dremio has no transactions, so `autocommit=False` changes nothing. Parameters are
    `?` in the statement and are written into it as literals.
    """

    conn_name_attr = "dremio_conn_id"
    default_conn_name = "dremio"
    conn_type: ClassVar[str] = "dremio"
    hook_name: ClassVar[str] = "Dremio"
    supports_autocommit = True
    strip_semicolon = True
    _placeholder: str = "?"

    def __init__(self, dremio_conn_id: str = default_conn_name, **options: Any) -> None:
        super().__init__(dremio_conn_id=dremio_conn_id, **options)
        self.dremio_conn_id = dremio_conn_id

    # REST

    def endpoint(self) -> Endpoint:
        return fields.endpoint(self.get_connection(self.dremio_conn_id))

    async def aendpoint(self) -> Endpoint:
        """For triggers: looks the connection up without blocking the event loop."""
        return fields.endpoint(await self.aget_connection(self.dremio_conn_id))

    def client(self) -> DremioClient:
        """A client for several calls; use it as a context manager."""
        return DremioClient(self.endpoint())

    def run_sql(
        self,
        sql: str,
        *,
        context: Sequence[str] | None = None,
        timeout: float | None = None,
        limit: int | None = None,
        idempotent: bool = False,
    ) -> list[Row]:
        """Runs one statement as a job over REST and returns its rows; a kill, a task timeout or `timeout` cancel it.

        For what must be cancelled or found again; results of any size are read by `get_arrow` and its kin.
        Raises DremioJobFailedError, DremioJobCanceledError, DremioJobTimeoutError, or what the client raises.
        """
        with self.client() as client:
            return client.query(sql, context, timeout=timeout, limit=limit, idempotent=idempotent)

    def job_url(self, job_id: str) -> str:
        return self.endpoint().job_url(job_id)

    # Flight

    def get_conn(self) -> Any:
        """A DB-API connection over Flight SQL (adbc_driver_flightsql). Close it. Raises what flight.connect raises."""
        return flight.connect(self.endpoint())

    def get_uri(self) -> str:
        """The address of Flight, without credentials."""
        place = self.endpoint().flight
        return place.uri if place else ""

    def set_autocommit(self, conn: Any, autocommit: bool) -> None:
        """Nothing: each statement commits by itself."""

    def get_autocommit(self, conn: Any) -> bool:
        return True

    def _run_command(self, cur: Any, sql_statement: str, parameters: Any) -> None:
        with flight.translated(self.endpoint()):
            super()._run_command(cur, literals.bind(sql_statement, parameters), None)

    def get_arrow(self, sql: str, parameters: Iterable[Any] | None = None) -> pa.Table:
        """The whole result as an Arrow table."""
        import pyarrow as pa

        batches = self.arrow_batches(sql, parameters)
        first = next(batches)
        return pa.Table.from_batches([first, *batches], first.schema)

    def arrow_batches(self, sql: str, parameters: Iterable[Any] | None = None) -> Iterator[pa.RecordBatch]:
        """The result batch by batch, as it arrives: memory stays constant. At least one batch, which may be empty."""
        import pyarrow as pa

        place = self.endpoint()
        with flight.translated(place), closing(flight.connect(place)) as conn, closing(conn.cursor()) as cursor:
            cursor.execute(literals.bind(sql, parameters))
            reader = cursor.fetch_record_batch()
            empty = pa.RecordBatch.from_pylist([], schema=reader.schema)
            yield next(reader, empty)
            yield from reader

    def _get_pandas_df(self, sql: Any, parameters: Any = None, **kwargs: Any) -> Any:
        _need("pandas")
        return self.get_arrow(sql, parameters).to_pandas(**kwargs)

    def _get_polars_df(self, sql: Any, parameters: Any = None, **kwargs: Any) -> Any:
        return _need("polars").from_arrow(self.get_arrow(sql, parameters), **kwargs)

    def _get_pandas_df_by_chunks(
        self, sql: Any, parameters: Any = None, *, chunksize: int, **kwargs: Any
    ) -> Generator[Any, None, None]:
        _need("pandas")
        for table in self._tables(sql, parameters, chunksize):
            yield table.to_pandas(**kwargs)

    def _get_polars_df_by_chunks(
        self, sql: Any, parameters: Any = None, *, chunksize: int, **kwargs: Any
    ) -> Generator[Any, None, None]:
        polars = _need("polars")
        for table in self._tables(sql, parameters, chunksize):
            yield polars.from_arrow(table, **kwargs)

    def _tables(self, sql: str, parameters: Any, size: int) -> Iterator[pa.Table]:
        """The result in tables of `size` rows, the last one shorter."""
        import pyarrow as pa

        rest: pa.Table | None = None
        for batch in self.arrow_batches(sql, parameters):
            piece = pa.Table.from_batches([batch])
            rest = piece if rest is None else pa.concat_tables([rest, piece])
            while rest.num_rows >= size:
                yield rest.slice(0, size)
                rest = rest.slice(size)
        if rest is not None and rest.num_rows:
            yield rest

    def insert_rows(
        self,
        table: str | Sequence[str],
        rows: Iterable[Sequence[Any]],
        target_fields: Sequence[str] | None = None,
        commit_every: int = 1000,
        replace: bool = False,
        **kwargs: Any,
    ) -> None:
        """Inserts `commit_every` rows (0: all) with each statement; those of earlier statements stay if one fails."""
        if replace:
            raise errors.DremioConfigurationError("Dremio has no REPLACE; write a MERGE statement")
        left = iter(rows)
        place, done = self.endpoint(), 0
        with flight.translated(place), closing(flight.connect(place)) as conn, closing(conn.cursor()) as cursor:
            while piece := list(islice(left, commit_every or None)):
                cursor.execute(literals.insert(table, piece, target_fields or ()))
                cursor.fetchall()  # the statement has run when its result is read
                done += len(piece)
        self.log.info("Inserted %s rows into %s", done, table)

    # The connection's page

    def test_connection(self) -> tuple[bool, str]:  # type: ignore[override]
        """Signs in over REST and over Flight, and asks both something; the message names the field to correct."""
        try:
            connection = self.get_connection(self.dremio_conn_id)
            place = fields.endpoint(connection, RetryPolicy(attempts=1))
            with DremioClient(place) as client:
                items = client.catalog()
        except errors.DremioError as error:
            return False, diagnosis.of_rest(error, connection)
        found = f"Signed in at {place.base_url}; {len(items)} sources and spaces are visible"
        if place.flight is None:
            return True, f"{found}. Flight is switched off by flight_port 0 in Extra"
        try:
            with flight.translated(place), closing(flight.connect(place)) as conn, closing(conn.cursor()) as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchall()
        except errors.DremioError as error:
            return False, f"{found}. But {diagnosis.of_flight(error, place)}"
        return True, f"{found}; queries go to {place.flight.uri}"


def _need(library: str) -> Any:
    import importlib

    try:
        return importlib.import_module(library)
    except ImportError:
        raise errors.DremioConfigurationError(
            f"{library} is not installed: pip install 'apache-airflow-providers-common-sql[{library}]', or get_arrow()"
        ) from None
