"""COPY INTO: real files in the object store, every format and every way to meet a bad row."""

from __future__ import annotations

import datetime
import gzip
from decimal import Decimal
from typing import TYPE_CHECKING

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedded.sql.errors import DataReadError, NotFound, SqlError, ValidationError

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore
    from tests.embedded.sql.engine.conftest import Bench

BUCKET = "lakehouse"


class Folder:
    """A folder of the object store that COPY INTO may read as @files/in."""

    def __init__(self, bench: Bench, store: ObjectStore) -> None:
        self.bench = bench
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://{bench.catalog.access.endpoint}",
            aws_access_key_id=store.access_key,
            aws_secret_access_key=store.secret_key,
            region_name="us-east-1",
        )
        self.prefix = f"copy-{bench.namespace}/in/"
        self.uris: list[str] = []
        bench.catalog.files[("files", "in")] = self.uris

    def put(self, name: str, content: bytes | str | pa.Table) -> None:
        if isinstance(content, pa.Table):
            sink = pa.BufferOutputStream()
            pq.write_table(content, sink)
            content = sink.getvalue().to_pybytes()
        body = content.encode() if isinstance(content, str) else content
        self.client.put_object(Bucket=BUCKET, Key=self.prefix + name, Body=body)
        self.uris.append(f"s3://{BUCKET}/{self.prefix}{name}")


@pytest.fixture
def folder(bench: Bench, object_store: ObjectStore) -> Folder:
    bench.run("CREATE TABLE $ns.t (id INTEGER, name VARCHAR, day DATE, price DECIMAL(9, 2))")
    return Folder(bench, object_store)


def test_csv_by_names_with_formats(bench: Bench, folder: Folder) -> None:
    folder.put("a.csv", "Day;ID;name;other\n31.01.2024; 1 ;Ann;x\n;2;NA;y\n")
    folder.put("b.csv.gz", gzip.compress(b'ID;name;price\n3;"semi;colon";4.5\n'))
    result = bench.run(
        "COPY INTO $ns.t FROM '@files/in' FILE_FORMAT 'csv' "
        "(FIELD_DELIMITER ';', DATE_FORMAT 'DD.MM.YYYY', NULL_IF ('NA'), TRIM_SPACE 'true')"
    ).table.to_pylist()
    assert result == [{"Records": 3}]
    assert bench.rows("SELECT * FROM $ns.t ORDER BY id") == [
        (1, "Ann", datetime.date(2024, 1, 31), None),
        (2, None, None, None),
        (3, "semi;colon", None, Decimal("4.50")),
    ]


def test_csv_without_header_by_position(bench: Bench, folder: Folder) -> None:
    folder.put("a.csv", "skip me\n1,x\n2,y\n")
    bench.run("COPY INTO $ns.t FROM '@files/in' (EXTRACT_HEADER false, SKIP_LINES 1)")
    assert bench.rows("SELECT id, name, day FROM $ns.t ORDER BY id") == [(1, "x", None), (2, "y", None)]


def test_json_and_parquet(bench: Bench, folder: Folder) -> None:
    folder.put("a.json", '{"ID": 1, "name": "x", "price": 1.25, "extra": {"a": 1}}\n{"ID": 2, "day": "2024-02-29"}\n')
    bench.run("COPY INTO $ns.t FROM '@files/in' FILES ('a.json') FILE_FORMAT 'json'")
    folder.put("b.parquet", pa.table({"ID": pa.array([3], pa.int64()), "NAME": ["p"]}))
    bench.run("COPY INTO $ns.t FROM '@files/in' REGEX '.*[.]parquet'")
    assert bench.rows("SELECT id, name, day, price FROM $ns.t ORDER BY id") == [
        (1, "x", None, Decimal("1.25")),
        (2, None, datetime.date(2024, 2, 29), None),
        (3, "p", None, None),
    ]


def test_on_error(bench: Bench, folder: Folder) -> None:
    folder.put("good.csv", "id,name\n1,a\n2,b\n")
    folder.put("bad.csv", "id,name\n3,c\nx,d\n1.5,e\n")
    with pytest.raises(DataReadError, match=r"bad\.csv: 2 row\(s\)"):
        bench.run("COPY INTO $ns.t FROM '@files/in' FILE_FORMAT 'csv'")
    assert bench.one("SELECT COUNT(*) FROM $ns.t") == 0
    skipped = bench.run("COPY INTO $ns.t FROM '@files/in' FILE_FORMAT 'csv' (ON_ERROR 'skip_file')").table.to_pylist()
    assert skipped == [{"Records": 2, "Rejected Records": 3}]
    went_on = bench.run("COPY INTO $ns.t FROM '@files/in' FILE_FORMAT 'csv' (ON_ERROR 'continue')").table.to_pylist()
    assert went_on == [{"Records": 3, "Rejected Records": 2}]
    folder.put("broken.parquet", b"PAR1 this is no parquet")
    with pytest.raises(DataReadError, match="broken"):
        bench.run("COPY INTO $ns.t FROM '@files/in' FILES ('broken.parquet') FILE_FORMAT 'parquet'")
    one = bench.run(
        "COPY INTO $ns.t FROM '@files/in' FILES ('broken.parquet') FILE_FORMAT 'parquet' (ON_ERROR 'skip_file')"
    ).table.to_pylist()
    assert one == [{"Records": 0, "Rejected Records": 1}]


def test_select_over_the_file(bench: Bench, folder: Folder) -> None:
    folder.put("a.csv", "x,1\ny,2\n")
    bench.run(
        "COPY INTO $ns.t FROM (SELECT CAST($2 AS INT) + 10, UPPER($1) || '$1', NULL, '1.5' FROM '@files/in') "
        "FILE_FORMAT 'csv' (EXTRACT_HEADER false)"
    )
    assert bench.rows("SELECT id, name, price FROM $ns.t ORDER BY id") == [
        (11, "X$1", Decimal("1.50")),
        (12, "Y$1", Decimal("1.50")),
    ]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("FROM '@files/in' FILES ('nope.csv')", "nope.csv"),
        ("FROM '@files/nowhere'", "nowhere"),
        ("FROM 'files/in'", "storage location"),
        ("FROM '@files/in' FILE_FORMAT 'orc'", "orc"),
        ("FROM '@files/in' FILE_FORMAT 'csv' (NOPE 'x')", "NOPE"),
        ("FROM '@files/in' FILE_FORMAT 'csv' (ON_ERROR 'ignore')", "ON_ERROR"),
        ("FROM '@files/in' FILE_FORMAT 'parquet' (ON_ERROR 'continue')", "ON_ERROR"),
        ("FROM '@files/in' FILE_FORMAT 'csv' (FIELD_DELIMITER '||')", "single character"),
        ("FROM '@files/in' REGEX '('", "REGEX"),
        ("FROM '@files/in' FILE_FORMAT 'csv'", "No column name matches target schema"),
    ],
)
def test_what_cannot_be_copied(bench: Bench, folder: Folder, sql: str, words: str) -> None:
    folder.put("a.csv", "zip,zap\n1,2\n")
    with pytest.raises(SqlError, match=words):
        bench.run(f"COPY INTO $ns.t {sql}")
    assert bench.one("SELECT COUNT(*) FROM $ns.t") == 0


def test_the_source_must_be_known(bench: Bench, folder: Folder) -> None:
    with pytest.raises(NotFound):
        bench.run("COPY INTO $ns.t FROM '@elsewhere/x'")
    with pytest.raises(ValidationError):
        bench.run("COPY INTO $ns.t FROM '@files/in'")
