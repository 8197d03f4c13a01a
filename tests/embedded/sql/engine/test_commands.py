"""The grammar of statements: what dbt-dremio and people write, and what must be refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from embedded.sql.engine import statements as st
from embedded.sql.engine.commands import parse_statement
from embedded.sql.errors import ParseError, UnsupportedError

COMMENT = '/* {"app": "dbt", "dbt_version": "1.11.0", "node_id": "model.x.y"} */\n'
PATH = ("lake", "silver", "orders")
P = '"lake"."silver"."orders"'
NOTHING = st.Layout()

FORMS: list[tuple[str, st.Statement]] = [
    (f"create or replace view {P} as select 1", st.CreateView(PATH, "select 1", True)),
    (f"CREATE VDS {P} AS (SELECT 1)", st.CreateView(PATH, "(SELECT 1)", False)),
    (f"create view {P} (a, b) as select 1, 2", st.CreateView(PATH, "select 1, 2", False, ("a", "b"))),
    (f"drop view if exists {P}", st.DropView(PATH, True)),
    (f"DROP TABLE {P}", st.DropTable(PATH, False)),
    (f"drop table if exists {P};", st.DropTable(PATH, True)),
    (
        f"create table {P} as ( select ';' as a -- no end;\n )",
        st.CreateTable(PATH, NOTHING, (), "( select ';' as a -- no end;\n )"),
    ),
    (
        f"create table {P} hash partition by (region, month(ts), bucket(16, id), truncate(4, s)) distribute by (id) "
        "localsort by (id, ts) store as (type => 'iceberg') with single writer as (select 1)",
        st.CreateTable(
            PATH,
            st.Layout(
                (
                    st.PartitionTerm("region"),
                    st.PartitionTerm("ts", "month"),
                    st.PartitionTerm("id", "bucket", 16),
                    st.PartitionTerm("s", "truncate", 4),
                ),
                ("id", "ts"),
                {"type": "iceberg"},
                True,
            ),
            (),
            "(select 1)",
        ),
    ),
    (
        f'create table {P} partition by (id) ("id" integer not null, "s" varchar) as (select 1, 2)',
        st.CreateTable(
            PATH,
            st.Layout((st.PartitionTerm("id"),)),
            (st.ColumnDefinition("id", pa.int32(), False), st.ColumnDefinition("s", pa.string())),
            "(select 1, 2)",
        ),
    ),
    (
        f"create table if not exists {P} (id bigint, m decimal(12, 2), tags list<varchar>, r row(a int, b double))",
        st.CreateTable(
            PATH,
            NOTHING,
            (
                st.ColumnDefinition("id", pa.int64()),
                st.ColumnDefinition("m", pa.decimal128(12, 2)),
                st.ColumnDefinition("tags", pa.list_(pa.string())),
                st.ColumnDefinition("r", pa.struct([("a", pa.int32()), ("b", pa.float64())])),
            ),
            None,
            True,
        ),
    ),
    (f'insert into {P}( "a","b" ) select "a","b" from t', st.Insert(PATH, ("a", "b"), 'select "a","b" from t')),
    (f"insert into {P} values (1, 'a')", st.Insert(PATH, (), "values (1, 'a')")),
    (f"insert into {P} (select 1)", st.Insert(PATH, (), "(select 1)")),
    (
        f"merge into {P} as DBT_INTERNAL_DEST using s as DBT_INTERNAL_SOURCE on ( DBT_INTERNAL_SOURCE.id = "
        'DBT_INTERNAL_DEST.id ) when matched then update set "a" = DBT_INTERNAL_SOURCE."a", b = case when x then 1 end '
        "when not matched then insert (\"a\") values (coalesce(DBT_INTERNAL_SOURCE.a, 'x,y'))",
        st.Merge(
            st.Target(PATH, "DBT_INTERNAL_DEST"),
            "s as DBT_INTERNAL_SOURCE",
            "( DBT_INTERNAL_SOURCE.id = DBT_INTERNAL_DEST.id )",
            (("a", 'DBT_INTERNAL_SOURCE."a"'), ("b", "case when x then 1 end")),
            ("a",),
            ("coalesce(DBT_INTERNAL_SOURCE.a, 'x,y')",),
        ),
    ),
    (
        f"merge into {P} using s on a = b when matched then update set * when not matched then insert *",
        st.Merge(st.Target(PATH, "orders"), "s", "a = b", "*", (), "*"),
    ),
    (f"delete from {P} where a = 'x where y'", st.Delete(st.Target(PATH, "orders"), None, "a = 'x where y'")),
    (f"delete from {P} t using u where t.a = u.a", st.Delete(st.Target(PATH, "t"), "u", "t.a = u.a")),
    (
        f"update {P} set a = 1, b = f(x, y) where c",
        st.Update(st.Target(PATH, "orders"), (("a", "1"), ("b", "f(x, y)")), None, "c"),
    ),
    (f"truncate table if exists {P}", st.Truncate(PATH, True)),
    (f"alter table {P} add columns ( c varchar )", st.AddColumns(PATH, (st.ColumnDefinition("c", pa.string()),))),
    (f"alter table {P} drop column c", st.DropColumn(PATH, "c")),
    (
        f'alter table {P} alter column "c" "c" character varying(65536)',
        st.AlterColumn(PATH, "c", st.ColumnDefinition("c", pa.string())),
    ),
    (f"alter table {P} refresh metadata", st.RefreshMetadata(PATH, {})),
    (
        f"alter pds {P} refresh metadata auto promotion force update delete when missing",
        st.RefreshMetadata(PATH, {"promotion": "AUTO", "update": "FORCE", "missing": "DELETE"}),
    ),
    (
        f"alter table {P} refresh metadata for partitions (\"d\" = '2024', e = null) "
        "avoid promotion lazy update maintain when missing",
        st.RefreshMetadata(
            PATH,
            {"partitions": {"d": "2024", "e": None}, "promotion": "AVOID", "update": "LAZY", "missing": "MAINTAIN"},
        ),
    ),
    (f"alter table {P} forget metadata", st.ForgetMetadata(PATH)),
    (f"alter dataset {P} refresh reflections", st.RefreshReflections(PATH)),
    (f"alter vds {P} set enable_default_reflection = True", st.EnableDefaultReflection(PATH, True)),
    (f"alter table {P} disable raw acceleration", st.SetAcceleration(PATH, "RAW", False)),
    (f"alter table {P} enable aggregate acceleration", st.SetAcceleration(PATH, "AGGREGATION", True)),
    (f"alter table {P} drop reflection r", st.DropReflection(PATH, "r")),
    (
        f"alter table {P} create raw reflection r using display (a, b) "
        "partition by (month(a)) localsort by (b) arrow cache",
        st.CreateReflection(
            PATH,
            {
                "name": "r",
                "enabled": True,
                "entityType": "reflection",
                "type": "RAW",
                "displayFields": [{"name": "a"}, {"name": "b"}],
                "partitionDistributionStrategy": "CONSOLIDATED",
                "partitionFields": [{"name": "a", "transform": {"type": "MONTH"}}],
                "sortFields": [{"name": "b"}],
                "arrowCachingEnabled": True,
            },
        ),
    ),
    (
        f"alter table {P} create aggregate reflection r using dimensions (a by day, b) "
        "measures (c (count, approximate count distinct))",
        st.CreateReflection(
            PATH,
            {
                "name": "r",
                "enabled": True,
                "entityType": "reflection",
                "type": "AGGREGATION",
                "dimensionFields": [{"name": "a", "granularity": "DATE"}, {"name": "b", "granularity": "NORMAL"}],
                "measureFields": [{"name": "c", "measureTypeList": ["COUNT", "APPROX_COUNT_DISTINCT"]}],
                "partitionDistributionStrategy": "CONSOLIDATED",
                "arrowCachingEnabled": False,
            },
        ),
    ),
    ("create folder if not exists a.b", st.CreateFolder(("a", "b"), True)),
    ("drop folder a.b", st.DropFolder(("a", "b"), False)),
    ("show schemas like 'a%'", st.Show("SCHEMAS", (), "a%")),
    ('show tables in "a"."b"', st.Show("TABLES", ("a", "b"))),
    ("show views", st.Show("VIEWS")),
    ('describe "a.b"."t"', st.Describe(("a.b", "t"))),
    ("desc t c", st.Describe(("t",), "c")),
    ("explain plan for select 1", st.Explain("select 1")),
    ("use a.b", st.Use(("a", "b"))),
    (f"rollback table {P} to snapshot '42'", st.Rollback(PATH, "42", None)),
    (f"rollback table {P} to timestamp '2024-01-01 00:00:00'", st.Rollback(PATH, None, "2024-01-01 00:00:00")),
    (
        f"vacuum table {P} expire snapshots older_than '2024-01-01 00:00:00' retain_last 3",
        st.Vacuum(PATH, "2024-01-01 00:00:00", 3),
    ),
    (f"optimize table {P}", st.Optimize(PATH)),
    (f"optimize table {P} rewrite manifests", st.Optimize(PATH, manifests=True)),
    (
        f"optimize table {P} rewrite data using bin_pack (target_file_size_mb = 100, min_file_size_mb = 10, "
        "max_file_size_mb = 200, min_input_files = 2)",
        st.Optimize(PATH, False, 100, 10, 200, 2),
    ),
    (
        f"optimize table {P} for partitions region = 'a' and year > 2020 (min_input_files = 3)",
        st.Optimize(PATH, min_files=3, where="region = 'a' and year > 2020"),
    ),
    (f"vacuum table {P} remove orphan files", st.RemoveOrphans(PATH, None)),
    (
        f"vacuum table {P} remove orphan files older_than = '2024-01-01 00:00:00' location 's3://b/x'",
        st.RemoveOrphans(PATH, "2024-01-01 00:00:00", "s3://b/x"),
    ),
    ("vacuum catalog arctic exclude (a.b, c)", st.VacuumCatalog("arctic", (("a", "b"), ("c",)))),
    (
        f"alter table {P} add partition field bucket(4, id)",
        st.AlterPartition(PATH, st.PartitionTerm("id", "bucket", 4), True),
    ),
    (
        f"alter table {P} drop partition field month(ts)",
        st.AlterPartition(PATH, st.PartitionTerm("ts", "month"), False),
    ),
    (f"alter table {P} set tblproperties ('a' = '1', 'b' = '2')", st.SetProperties(PATH, (("a", "1"), ("b", "2")))),
    (f"alter table {P} unset tblproperties ('a')", st.SetProperties(PATH, (("a", None),))),
    (f"alter table {P} localsort by (a, b)", st.SetSort(PATH, ("a", "b"))),
    (f"alter table {P} drop localsort", st.SetSort(PATH, ())),
    (f"alter table {P} add primary key (a, b)", st.SetPrimaryKey(PATH, ("a", "b"))),
    (f"alter table {P} drop primary key", st.SetPrimaryKey(PATH, ())),
    (f"show tblproperties {P}", st.ShowProperties(PATH)),
    (f"show create view {P}", st.ShowCreate("VIEW", PATH)),
    (f"show create table {P}", st.ShowCreate("TABLE", PATH)),
    ("show functions like 'a%'", st.Show("FUNCTIONS", (), "a%")),
    (
        f"copy into {P} from '@src/bucket/in' files ('a.csv', 'b.csv') file_format 'csv' "
        "(date_format 'DD.MM.YYYY', null_if ('None', 'NA'), on_error 'continue', extract_header 'false' "
        "field_delimiter '\\t')",
        st.CopyInto(
            PATH,
            ("src", "bucket", "in"),
            ("a.csv", "b.csv"),
            None,
            "csv",
            {
                "DATE_FORMAT": "DD.MM.YYYY",
                "NULL_IF": ("None", "NA"),
                "ON_ERROR": "continue",
                "EXTRACT_HEADER": False,
                "FIELD_DELIMITER": "\t",
            },
        ),
    ),
    (
        f"copy into {P} from (select $1, upper($2) from '@src/x') regex '.*[.]csv'",
        st.CopyInto(PATH, ("src", "x"), (), ".*[.]csv", None, {}, ("$1", "upper($2)")),
    ),
    (
        "create or replace function a.f (x int, y varchar default 'z') returns varchar return x || y",
        st.CreateFunction(
            ("a", "f"),
            (st.Parameter("x", pa.int32()), st.Parameter("y", pa.string(), "'z'")),
            pa.string(),
            "x || y",
            True,
        ),
    ),
    (
        "create function if not exists f () returns table (a int, b varchar) return select 1, 'x'",
        st.CreateFunction(
            ("f",),
            (),
            (st.ColumnDefinition("a", pa.int32()), st.ColumnDefinition("b", pa.string())),
            "select 1, 'x'",
            False,
            True,
        ),
    ),
    ("drop function if exists a.f", st.DropFunction(("a", "f"), True)),
    ("describe function a.f", st.DescribeFunction(("a", "f"))),
    ("create branch dev at commit 'abc' in arctic", st.Versioned("CREATE BRANCH", ("arctic",))),
    ("create tag if not exists v1 in arctic", st.Versioned("CREATE TAG", ("arctic",))),
    ("drop branch dev force in arctic", st.Versioned("DROP BRANCH", ("arctic",))),
    ("merge branch dev into main in arctic", st.Versioned("MERGE BRANCH", ("arctic",))),
    ("alter branch dev assign commit 'x' in arctic", st.Versioned("ALTER BRANCH", ("arctic",))),
    ("show branches in arctic", st.Versioned("SHOW BRANCHES", ("arctic",))),
    ("show logs at branch dev in arctic", st.Versioned("SHOW LOGS", ("arctic",))),
    ("use branch dev in arctic", st.Versioned("USE BRANCH", ("arctic",))),
    ('alter session set "planner.x" = 5', st.SetOption("SESSION", "planner.x", 5)),
    ("alter system reset all", st.SetOption("SYSTEM", None, None)),
    ("set x = 'y'", st.SetOption("SESSION", "x", "y")),
    ("create user u set password 'p'", st.Account("CREATE", "USER", "u", "p")),
    ("drop role r", st.Account("DROP", "ROLE", "r")),
    ("grant role r to user u", st.GrantRole(False, "r", "USER", "u")),
    ("revoke role r from role s", st.GrantRole(True, "r", "ROLE", "s")),
    ("grant execute on function a.f to user u", st.Grant(False, ("EXECUTE",), "FUNCTION", ("a", "f"), "USER", "u")),
    (f'grant SELECT on view {P} to user "x";', st.Grant(False, ("SELECT",), "VIEW", PATH, "USER", "x")),
    (
        f'revoke SELECT, ALTER on table {P} from role "r"',
        st.Grant(True, ("SELECT", "ALTER"), "TABLE", PATH, "ROLE", "r"),
    ),
    ("select 1;", st.Query("select 1")),
    ("(select 1)", st.Query("(select 1)")),
    ("values (1)", st.Query("values (1)")),
]


@pytest.mark.parametrize(("sql", "statement"), FORMS, ids=[sql[:60] for sql, _ in FORMS])
def test_forms(sql: str, statement: st.Statement) -> None:
    assert parse_statement(sql) == statement
    assert parse_statement(COMMENT + sql) == statement


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "-- nothing",
        ";",
        "selec 1",
        "select 1; drop table a.b",
        "drop table a.b; drop table a.c",
        "drop table",
        "drop table a.b cascade",
        "create table a.b",
        "create table a.b (c) ",
        "create table a.b (c nosuchtype)",
        "create table a.b partition by (nosuch(c)) as select 1",
        "create table a.b hash as select 1",
        "alter table a.b explode",
        "alter table a.b add columns ()",
        "merge into a.b using c on d = e",
        "merge into a.b using c on d = e when matched then delete",
        "merge into a.b using c on d = e when matched and x then update set y = 1",
        "insert into a.b",
        "update a.b where c = 1",
        "attach 'x' as y",
        "pragma database_list",
        "install httpfs",
        "load '/tmp/x'",
        "export database 'x'",
        "import database 'x'",
        "begin",
        "from t select 1",
        "describe select 1",
        "grant on table a to user b",
        "'select 1'",
        "optimize table a rewrite data using sort",
        "vacuum table a expire snapshots older_than '1' older_than '2'",
        "create branch",
        "show everything",
        "create function f returns int return 1",
        "alter table a add partition field soundex(b)",
        "merge into a using b on c when matched then delete",
        '"select" 1',
        "select 'unterminated",
        'create table "unterminated as select 1',
    ],
)
def test_everything_else_is_a_parse_error(sql: str) -> None:
    with pytest.raises(ParseError, match="Failure parsing the query"):
        parse_statement(sql)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("analyze table a.b for all columns compute statistics", "ANALYZE TABLE"),
        ("create or replace table a.b as select 1", "CREATE OR REPLACE TABLE"),
        ("create pipe p as copy into a.b from '@x'", "CREATE PIPE"),
        ("alter table a.b cluster by (c)", "CLUSTER BY"),
        ("alter table a.b alter column c set masking policy f(c)", "ALTER COLUMN"),
        ("alter table a.b route reflections to queue q", "ROUTE"),
        ("alter source s refresh status", "ALTER SOURCE"),
        ("set queue 'q'", "SET QUEUE"),
        ("reset engine", "RESET ENGINE"),
        ("create view a.v row access policy p(c) as select 1", "ROW ACCESS POLICY"),
        ("call f()", "CALL"),
        ("insert into a.b at branch x values (1)", "current state"),
        ("create table a.b store as (type => 'text') as select 1", "text"),
    ],
)
def test_what_dremio_has_and_we_have_not_is_named(sql: str, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        parse_statement(sql)


def test_names_keep_their_spelling_and_may_hold_anything() -> None:
    hostile = "a\"b; DROP TABLE x --' /* \n é 表"
    quoted = '"' + hostile.replace('"', '""') + '"'
    assert parse_statement(f"drop table Lake.{quoted}.Date") == st.DropTable(("Lake", hostile, "Date"), False)


def test_an_error_names_the_place() -> None:
    with pytest.raises(ParseError, match=r'Encountered "cascade" at line 2, column 3\.'):
        parse_statement("drop table a.b\n  cascade")
