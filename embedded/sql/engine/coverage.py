"""What of Dremio's SQL this server has: one row per command form and per documented function.

The page docs/sql-server.md is made from these; tests hold them against the parser and the translator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from embedded.sql.engine.functions import REFUSED, is_known

Status = Literal["implemented", "partial", "refused"]


@dataclass(frozen=True)
class Form:
    """A command form, an example of it, and what is missing when it is partial or refused."""

    syntax: str
    example: str
    status: Status = "implemented"
    note: str = ""


_T = "lake.silver.orders"
FORMS: tuple[Form, ...] = (
    Form("SELECT, WITH, VALUES, UNION, INTERSECT, EXCEPT, MINUS", "SELECT 1"),
    Form(
        "CREATE TABLE (columns) with layout clauses",
        f"CREATE TABLE {_T} (id INT NOT NULL) PARTITION BY (bucket(4, id))",
    ),
    Form("CREATE TABLE AS", f"CREATE TABLE IF NOT EXISTS {_T} LOCALSORT BY (id) AS SELECT 1 AS id"),
    Form(
        "CREATE OR REPLACE TABLE", f"CREATE OR REPLACE TABLE {_T} AS SELECT 1", "refused", "Dremio has it on Cloud only"
    ),
    Form(
        "CREATE TABLE ... CLUSTER BY, LOCATION, masking and row access policies",
        f"CREATE TABLE {_T} CLUSTER BY (id) AS SELECT 1 AS id",
        "refused",
    ),
    Form("DROP TABLE", f"DROP TABLE IF EXISTS {_T}"),
    Form(
        "ALTER TABLE ADD COLUMNS, DROP COLUMN, ALTER | MODIFY | CHANGE COLUMN", f"ALTER TABLE {_T} ADD COLUMNS (a INT)"
    ),
    Form("ALTER TABLE ADD | DROP PARTITION FIELD", f"ALTER TABLE {_T} ADD PARTITION FIELD month(ts)"),
    Form("ALTER TABLE LOCALSORT BY, DROP LOCALSORT", f"ALTER TABLE {_T} LOCALSORT BY (id)"),
    Form("ALTER TABLE SET | UNSET TBLPROPERTIES", f"ALTER TABLE {_T} SET TBLPROPERTIES ('a' = 'b')"),
    Form("ALTER TABLE ADD | DROP PRIMARY KEY", f"ALTER TABLE {_T} ADD PRIMARY KEY (id)"),
    Form(
        "ALTER TABLE ALTER COLUMN ... SET | UNSET (masking policies, options)",
        f"ALTER TABLE {_T} ALTER COLUMN a SET MASKING POLICY f(a)",
        "refused",
    ),
    Form("ALTER TABLE CLUSTER BY", f"ALTER TABLE {_T} CLUSTER BY (id)", "refused"),
    Form(
        "ALTER TABLE REFRESH METADATA with all clauses",
        f"ALTER TABLE {_T} REFRESH METADATA FOR FILES ('a') LAZY UPDATE",
    ),
    Form("ALTER TABLE FORGET METADATA", f"ALTER TABLE {_T} FORGET METADATA"),
    Form(
        "ALTER TABLE | VIEW CREATE RAW | AGGREGATE REFLECTION, DROP REFLECTION",
        f"ALTER TABLE {_T} CREATE RAW REFLECTION r USING DISPLAY (id)",
    ),
    Form("ALTER TABLE CREATE EXTERNAL REFLECTION", f"ALTER TABLE {_T} CREATE EXTERNAL REFLECTION r USING t", "refused"),
    Form("ALTER TABLE ENABLE | DISABLE RAW | AGGREGATE ACCELERATION", f"ALTER TABLE {_T} ENABLE RAW ACCELERATION"),
    Form(
        "ALTER TABLE REFRESH REFLECTIONS",
        f"ALTER TABLE {_T} REFRESH REFLECTIONS",
        "implemented",
        "an error in the Community edition, as in the product",
    ),
    Form("ALTER VIEW SET ENABLE_DEFAULT_REFLECTION", "ALTER VIEW a.v SET ENABLE_DEFAULT_REFLECTION = FALSE"),
    Form(
        "ALTER TABLE ROUTE REFLECTIONS",
        f"ALTER TABLE {_T} ROUTE REFLECTIONS TO QUEUE q",
        "refused",
        "there is one queue",
    ),
    Form("INSERT INTO", f"INSERT INTO {_T} (id) VALUES (1)"),
    Form("UPDATE ... FROM", f"UPDATE {_T} SET a = 1 WHERE id = 2"),
    Form("DELETE ... USING", f"DELETE FROM {_T} WHERE id = 2"),
    Form("MERGE INTO", f"MERGE INTO {_T} USING s ON a = b WHEN MATCHED THEN UPDATE SET *"),
    Form("TRUNCATE TABLE", f"TRUNCATE TABLE {_T}"),
    Form("DML AT BRANCH", f"INSERT INTO {_T} AT BRANCH b VALUES (1)", "refused", "no versioned catalog can be mounted"),
    Form(
        "COPY INTO ... FROM '@source' (CSV, JSON, Parquet; FILES, REGEX, ON_ERROR, SELECT)",
        f"COPY INTO {_T} FROM '@files/in' FILE_FORMAT 'csv'",
        "partial",
        "RECORD_DELIMITER must be a line break",
    ),
    Form("CREATE | ALTER | DROP PIPE", "CREATE PIPE p AS COPY INTO t FROM '@x'", "refused"),
    Form(
        "OPTIMIZE TABLE [REWRITE DATA] [(sizes)] [FOR PARTITIONS], REWRITE MANIFESTS",
        f"OPTIMIZE TABLE {_T}",
        "partial",
        "FOR PARTITIONS takes columns that are partitioned by value",
    ),
    Form("VACUUM TABLE EXPIRE SNAPSHOTS", f"VACUUM TABLE {_T} EXPIRE SNAPSHOTS RETAIN_LAST 3"),
    Form("VACUUM TABLE REMOVE ORPHAN FILES", f"VACUUM TABLE {_T} REMOVE ORPHAN FILES"),
    Form("VACUUM CATALOG", "VACUUM CATALOG lake", "refused", "as in the product on a source without versions"),
    Form("ROLLBACK TABLE TO SNAPSHOT | TIMESTAMP", f"ROLLBACK TABLE {_T} TO SNAPSHOT '1'"),
    Form(
        "ANALYZE TABLE",
        f"ANALYZE TABLE {_T} FOR ALL COLUMNS COMPUTE STATISTICS",
        "refused",
        "Iceberg's own statistics serve",
    ),
    Form("CREATE [OR REPLACE] VIEW, DROP VIEW", "CREATE OR REPLACE VIEW a.v (x) AS SELECT 1"),
    Form("CREATE | DROP FOLDER", "CREATE FOLDER IF NOT EXISTS a.f"),
    Form(
        "CREATE [OR REPLACE] FUNCTION (scalar and tabular), DROP FUNCTION",
        "CREATE FUNCTION a.f (x INT) RETURNS INT RETURN x + 1",
    ),
    Form(
        "CREATE | DROP | ALTER | ASSIGN | MERGE BRANCH and TAG, SHOW BRANCHES | TAGS | LOGS, USE BRANCH",
        "CREATE BRANCH b IN lake",
        "refused",
        "as in the product on a source without versions",
    ),
    Form(
        "AT SNAPSHOT | TIMESTAMP | BRANCH | TAG",
        f"SELECT * FROM {_T} AT TAG v1",
        "implemented",
        "BRANCH and TAG name Iceberg's references of the table",
    ),
    Form(
        "TABLE(table_history | table_snapshot | table_files | table_manifests | table_partitions('t'))",
        "SELECT * FROM TABLE(table_files('a.b.c'))",
    ),
    Form(
        "TABLE(source.external_query('...'))",
        "SELECT * FROM TABLE(pg.external_query('select 1'))",
        "implemented",
        "sources of type POSTGRES",
    ),
    Form("TABLE(sys.reflection_lineage('id'))", "SELECT * FROM TABLE(sys.reflection_lineage('a'))"),
    Form("TABLE(t (type => 'text', ...))", "SELECT * FROM TABLE(files.t (type => 'text'))"),
    Form("SHOW SCHEMAS | TABLES | VIEWS | FUNCTIONS", "SHOW TABLES IN a.b"),
    Form("SHOW CREATE TABLE | VIEW, SHOW TBLPROPERTIES", f"SHOW CREATE TABLE {_T}"),
    Form("DESCRIBE [TABLE], DESCRIBE FUNCTION", f"DESCRIBE {_T}"),
    Form("EXPLAIN PLAN FOR", "EXPLAIN PLAN FOR SELECT 1", "partial", "the plan is this server's own"),
    Form("USE", "USE a.b", "partial", "a statement over REST has no session: name the context in the request"),
    Form(
        "ALTER SESSION | SYSTEM SET | RESET, SET, RESET",
        'ALTER SESSION SET "x" = 1',
        "refused",
        "no option of the product has a meaning here: each is unknown",
    ),
    Form("SET | RESET QUEUE, ENGINE, TAG", "SET QUEUE 'q'", "refused", "there is one engine and one queue"),
    Form("GRANT | REVOKE privileges", f"GRANT SELECT ON TABLE {_T} TO ROLE r", "implemented", "Enterprise edition"),
    Form(
        "GRANT | REVOKE ROLE, CREATE | DROP ROLE, CREATE | ALTER | DROP USER",
        "GRANT ROLE r TO USER u",
        "implemented",
        "Enterprise edition",
    ),
    Form("ALTER SOURCE, SPACE, FOLDER", "ALTER SOURCE s REFRESH STATUS", "refused", "use the REST catalog"),
    Form("CALL", "CALL f()", "refused"),
)

# Every name on the page "All functions" of Dremio's reference (26.x).
DOCUMENTED: tuple[str, ...] = tuple(
    """
    ABS ACOS AES_DECRYPT AES_ENCRYPT AI_CLASSIFY AI_COMPLETE AI_GENERATE APPROX_COUNT_DISTINCT APPROX_PERCENTILE
    ARRAYS_OVERLAP ARRAY_AGG ARRAY_APPEND ARRAY_AVG ARRAY_CAT ARRAY_COMPACT ARRAY_CONTAINS ARRAY_DISTINCT
    ARRAY_FREQUENCY ARRAY_GENERATE_RANGE ARRAY_INSERT ARRAY_MAX ARRAY_MIN ARRAY_POSITION ARRAY_PREPEND
    ARRAY_REMOVE ARRAY_REMOVE_AT ARRAY_SIZE ARRAY_SLICE ARRAY_SUM ARRAY_TO_STRING ASCII ASIN ATAN ATAN2 AVG
    BASE64 BIN BINARY_STRING BITWISE_AND BITWISE_NOT BITWISE_OR BITWISE_XOR BIT_AND BIT_LENGTH BIT_OR BOOL_AND
    BOOL_OR BROUND BTRIM CARDINALITY CASE CAST CBRT CEILING CHARACTER_LENGTH CHAR_LENGTH CHR COALESCE COL_LIKE
    CONCAT CONCAT_WS CONTAINS CONVERT_FROM CONVERT_REPLACEUTF8 CONVERT_TIMEZONE CONVERT_TO CORR COS COSH COT
    COUNT COVAR_POP COVAR_SAMP CRC32 CUME_DIST CURRENT_DATE CURRENT_DATE_UTC CURRENT_SCHEMA CURRENT_TIME
    CURRENT_TIMESTAMP DATEDIFF DATETYPE DATE_ADD DATE_DIFF DATE_PART DATE_SUB DATE_TRUNC DAY DAYOFMONTH
    DAYOFWEEK DAYOFYEAR DECRYPT DEGREES DENSE_RANK E ENCODE ENCRYPT ENDS_WITH EXP EXTRACT FACTORIAL FIRST_VALUE
    FLATTEN FLOOR FROM_HEX GEO_BEYOND GEO_DISTANCE GEO_NEARBY GREATEST HASH HASH64 HEX HOUR ILIKE IMAXDIR
    IMINDIR INITCAP INSTR ISDATE ISFALSE ISNOTFALSE ISNOTNULL ISNOTTRUE ISNULL ISNUMERIC ISTRUE IS_BIGINT IS_INT
    IS_MEMBER IS_SUBSTR IS_UTF8 IS_VARCHAR LAG LAST_DAY LAST_QUERY_ID LAST_VALUE LCASE LEAD LEAST LEFT LENGTH
    LEVENSHTEIN LIKE LISTAGG LIST_FILES LN LOCALTIME LOCALTIMESTAMP LOCATE LOG LOG10 LOWER LPAD LSHIFT LTRIM
    MAP_KEYS MAP_VALUES MASK MASK_FIRST_N MASK_HASH MASK_LAST_N MASK_SHOW_FIRST_N MASK_SHOW_LAST_N MAX MAXDIR
    MD5 MEDIAN MIN MINDIR MINUTE MOD MONTH MONTHS_BETWEEN NDV NEXT_DAY NORMALIZE_STRING NOW NTILE NULLIF NVL
    OCTET_LENGTH OVERLAPS PARSE_URL PERCENTILE_CONT PERCENTILE_DISC PERCENT_RANK PI PMOD POSITION POW POWER
    QUARTER QUERY_USER QUOTE RADIANS RANDOM RANK REGEXP_COL_LIKE REGEXP_EXTRACT REGEXP_LIKE REGEXP_MATCHES
    REGEXP_REPLACE REGEXP_SPLIT REPEAT REPEATSTR REPLACE REVERSE RIGHT ROUND ROW_NUMBER RPAD RSHIFT RTRIM SECOND
    SESSION_USER SET_UNION SHA SHA1 SHA256 SHA512 SIGN SIMILAR_TO SIN SINH SIZE SOUNDEX SPLIT_PART SQRT
    STARTS_WITH STDDEV STDDEV_POP STDDEV_SAMP STRING_BINARY STRPOS ST_FROMGEOHASH ST_GEOHASH SUBLIST SUBSTR
    SUBSTRING SUBSTRING_INDEX SUM SYSTEM_USER TAN TANH TIMESTAMPADD TIMESTAMPDIFF TIMESTAMPTYPE TOASCII TO_CHAR
    TO_DATE TO_HEX TO_NUMBER TO_TIME TO_TIMESTAMP TRANSACTION_TIMESTAMP TRANSLATE TRIM TRUNCATE TRY_CONVERT_FROM
    TYPEOF UCASE UNBASE64 UNHEX UNIX_TIMESTAMP UPPER USER VAR_POP VAR_SAMP WEEK WEEKOFYEAR XOR YEAR
    """.split()
)
# The grammar answers these: they are no calls, or calls with words of their own.
GRAMMAR = frozenset(["CASE", "CAST", "EXTRACT", "OVERLAPS", "POSITION", "TRY_CONVERT_FROM"])
# What a function cannot do here.
PARTIAL: dict[str, str] = {
    "CARDINALITY": "lists only, not maps",
    "CONVERT_FROM": "JSON of a text literal only; no HADOOPV and IMPALA forms",
    "CONVERT_TO": "no HADOOPV and IMPALA forms",
    "DATE_TRUNC": "the unit is a text literal",
    "FLATTEN": "one in a SELECT",
    "SIZE": "lists only, not maps",
    "TO_CHAR": "the format is a text literal",
    "TO_DATE": "the format is a text literal",
    "TO_TIME": "the format is a text literal",
    "TO_TIMESTAMP": "the format is a text literal",
    "APPROX_PERCENTILE": "another sketch than the product's: the last digits differ",
}


def function_status(name: str) -> tuple[Status, str]:
    """How this server answers a documented function, and why not in full."""
    if name in REFUSED:
        return "refused", REFUSED[name]
    if name in PARTIAL:
        return "partial", PARTIAL[name]
    if name in GRAMMAR or is_known(name):
        return "implemented", ""
    return "refused", "unknown to this server"
