"""The function conformance table: Dremio call -> documented result, as Python's str of the value.

Every silent difference between Dremio and DuckDB or sqlglot that is known (dremio.md 5.1) has its row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from embedded.sql.errors import SqlError, UnsupportedError, ValidationError

if TYPE_CHECKING:
    from tests.embedded.sql.engine.conftest import Bench

CASES: list[tuple[str, str]] = [
    # numbers
    ("ABS(-5.5)", "5.5"),
    ("CEIL(1.2)", "2"),
    ("CEILING(-1.2)", "-1"),
    ("FLOOR(-1.2)", "-2"),
    ("ROUND(2.5)", "3"),
    ("ROUND(-2.5)", "-3"),
    ("ROUND(24.345, 2)", "24.35"),
    ("ROUND(CAST(2.5 AS DOUBLE))", "3.0"),
    ("CAST(CAST(2.5 AS FLOAT) AS INTEGER)", "3"),
    ("CAST(CAST(2.5 AS DOUBLE) AS BIGINT)", "3"),
    ("TRUNCATE(987.65)", "987"),
    ("TRUNC(CAST(-9.99 AS DOUBLE))", "-9.0"),
    ("MOD(50, 7)", "1"),
    ("MOD(-7, 3)", "-1"),
    ("7 % 4", "3"),
    ("SIGN(-3)", "-1"),
    ("SQRT(25)", "5.0"),
    ("CBRT(8)", "2.0"),
    ("POWER(5, 2)", "25.0"),
    ("POW(2, 0.5) > 1.41", "True"),
    ("LOG(10)", "2.302585092994046"),
    ("LOG(2, 8)", "3.0"),
    ("LOG10(100)", "2.0"),
    ("LN(1)", "0.0"),
    ("EXP(0)", "1.0"),
    ("PI()", "3.141592653589793"),
    ("DEGREES(PI())", "180.0"),
    ("GREATEST(1, 3, 2)", "3"),
    ("LEAST('a', 'b')", "a"),
    ("GREATEST(1, NULL)", "None"),
    ("CAST(2.5 AS INTEGER)", "3"),
    ("CAST(CAST(2.5 AS DOUBLE) AS INTEGER)", "3"),
    ("CAST(CAST(-2.5 AS DOUBLE) AS BIGINT)", "-3"),
    ("CAST('12' AS INTEGER)", "12"),
    ("CAST(TRUE AS INTEGER)", "1"),
    ("BIN(5)", "101"),
    ("1 + 2 * 3", "7"),
    # text
    ("LENGTH('DremioUser')", "10"),
    ("CHAR_LENGTH('get the char length')", "19"),
    ("CHARACTER_LENGTH('ü')", "1"),
    ("OCTET_LENGTH('ü')", "2"),
    ("UPPER('a guide to data lakehouses')", "A GUIDE TO DATA LAKEHOUSES"),
    ("LCASE('A')", "a"),
    ("INITCAP('a guide to data lakehouses')", "A Guide To Data Lakehouses"),
    ("CONCAT('CONCAT', 'ENATE')", "CONCATENATE"),
    ("CONCAT('a', NULL)", "a"),
    ("'a' || NULL", "None"),
    ("'a' || 1 || TRUE", "a1true"),
    ("CONCAT_WS(',', 'a', NULL, 'b')", "a,b"),
    ("SUBSTR('dremio user 1 2 3', 12)", " 1 2 3"),
    ("SUBSTRING('dremio user 1 2 3', 0 + 1, 6)", "dremio"),
    ("SUBSTRING('abc' FROM 2 FOR 1)", "b"),
    ("LEFT('Dremio - SQL Engine', -12)", "Dremio "),
    ("LEFT('Dremio', 2)", "Dr"),
    ("RIGHT('Dremio', 2)", "io"),
    ("LPAD('parameter', 11)", "  parameter"),
    ("LPAD('engineering', 6)", "engine"),
    ("LPAD('engine', 18, 'Dremio - Ready -')", "Dremio - Reaengine"),
    ("RPAD('dremio', 9, '!')", "dremio!!!"),
    ("TRIM('  x ')", "x"),
    ("TRIM(LEADING 'x' FROM 'xxax')", "ax"),
    ("LTRIM('pancake', 'pan')", "cake"),
    ("RTRIM('pancake', 'cake')", "pan"),
    ("BTRIM('....dremio....', '.')", "dremio"),
    ("REPLACE('THE CATATONIC CAT', 'CAT', 'DOG')", "THE DOGATONIC DOG"),
    ("REVERSE('Hello, world!')", "!dlrow ,olleH"),
    ("REPEAT('abc', 3)", "abcabcabc"),
    ("REPEATSTR('DREMIO', 2)", "DREMIODREMIO"),
    ("STRPOS('dremio', 'em')", "3"),
    ("LOCATE('an', 'banana', 3)", "4"),
    ("POSITION('.' IN 'a.b')", "2"),
    ("POSITION('no' IN 'No')", "0"),
    ("SPLIT_PART('127.0.0.1', '.', 1)", "127"),
    ("STARTS_WITH('ab12', 'ab')", "True"),
    ("ENDS_WITH('abcd', 'cd')", "True"),
    ("ASCII('DREMIO')", "68"),
    ("CHR(72)", "H"),
    ("TRANSLATE('*a*bX*dYZ*', 'XYZ*', 'cef')", "abcdef"),
    ("LEVENSHTEIN('book', 'back')", "2"),
    ("MD5('abc')", "900150983cd24fb0d6963f7d28e17f72"),
    ("SHA1('abc')", "a9993e364706816aba3e25717850c26c9cd0d89d"),
    ("SHA256('abc')", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ("HEX('Dremio')", "4472656D696F"),
    ("BASE64('Dremio')", "RHJlbWlv"),
    ("ILIKE('pancake', '%Cake')", "True"),
    ("'pancake' ILIKE 'PAN%'", "True"),
    ("LIKE('pancake', 'pan%')", "True"),
    ("'100%' LIKE '100^%' ESCAPE '^'", "True"),
    ("'pancake' NOT LIKE '%cake'", "False"),
    ("'abc' SIMILAR TO '(a|x)_c'", "True"),
    ("REGEXP_LIKE('the data lakehouse', '.*?\\Qlake\\E.*?')", "True"),
    ("REGEXP_MATCHES('the data lakehouse', 'lake')", "False"),
    ("REGEXP_REPLACE('8AM-4PM', '\\Q-\\E', ' to ')", "8AM to 4PM"),
    ("REGEXP_REPLACE('aaa', 'a', 'b')", "bbb"),
    ("REGEXP_EXTRACT('DREMIO USER', '(\\w+) (\\w+)', 2)", "USER"),
    ("CONVERT_FROM(CAST('x' AS VARBINARY), 'UTF8')", "x"),
    ("CONVERT_TO('x', 'UTF8')", "b'x'"),
    ("X'4142'", "b'AB'"),
    ("CAST('abcdef' AS VARCHAR(3))", "abc"),
    ("CAST(1.50 AS VARCHAR)", "1.50"),
    ("CAST(DATE '2024-01-31' AS VARCHAR)", "2024-01-31"),
    ("CAST(TIMESTAMP '2024-01-31 00:00:00' AS VARCHAR)", "2024-01-31 00:00:00.000"),
    ("CAST(TIMESTAMP '2024-01-31 00:00:00.5' AS VARCHAR)", "2024-01-31 00:00:00.500"),
    ("CAST(TIME '10:11:12' AS VARCHAR)", "10:11:12.000"),
    ("CAST(TRUE AS VARCHAR)", "true"),
    # conditions
    ("COALESCE(NULL, NULL, 'x')", "x"),
    ("NVL(NULL, 2)", "2"),
    ("NVL2(NULL, 1, 2)", "2"),
    ("NULLIF(1, 1)", "None"),
    ("IFNULL(NULL, 'a')", "a"),
    ("CASE WHEN 1 = 2 THEN 'a' ELSE 'b' END", "b"),
    ("CASE 2 WHEN 1 THEN 'a' WHEN 2 THEN 'c' END", "c"),
    ("1 IS DISTINCT FROM NULL", "True"),
    ("NULL IS NOT DISTINCT FROM NULL", "True"),
    ("TRUE AND NULL", "None"),
    ("3 BETWEEN 1 AND 5", "True"),
    ("3 NOT IN (1, 2)", "True"),
    # dates
    ("DAYOFWEEK(DATE '2021-02-28')", "1"),
    ("DAYOFWEEK('2021-02-27')", "7"),
    ("EXTRACT(DOW FROM DATE '2021-02-28')", "1"),
    ("DAYOFYEAR(DATE '2003-02-28')", "59"),
    ("DAYOFMONTH(DATE '2003-02-28')", "28"),
    ("EXTRACT(DAY FROM TIMESTAMP '2019-08-12 01:00:00.123')", "12"),
    ("EXTRACT(SECOND FROM TIMESTAMP '2019-08-12 01:00:05.923')", "5"),
    ("EXTRACT(EPOCH FROM TIMESTAMP '1970-01-02 00:00:00')", "86400"),
    ("EXTRACT(WEEK FROM DATE '2021-01-03')", "53"),
    ("EXTRACT(QUARTER FROM DATE '2021-05-03')", "2"),
    ("YEAR(DATE '2024-05-03')", "2024"),
    ("MONTH('2024-05-03')", "5"),
    ("DATE_PART('year', TIMESTAMP '2021-04-01 15:35:23')", "2021"),
    ("LAST_DAY('2009-01-12 12:58:59')", "2009-01-31"),
    ("NEXT_DAY('2015-01-14 12:05:55', 'TU')", "2015-01-20"),
    ("ADD_MONTHS(DATE '2024-01-31', 1)", "2024-02-29"),
    ("MONTHS_BETWEEN('2022-10-31', '2022-09-30')", "1.0"),
    ("DATE_TRUNC('MONTH', DATE '2020-07-17')", "2020-07-01"),
    ("DATE_TRUNC('hour', TIMESTAMP '2020-07-17 10:55:01')", "2020-07-17 10:00:00"),
    ("DATE_TRUNC('week', DATE '2024-02-29')", "2024-02-26"),
    ("DATE_ADD(DATE '2022-01-01', 2)", "2022-01-03"),
    ("DATE_ADD('2022-01-01', CAST(30 AS INTERVAL DAY))", "2022-01-31 00:00:00"),
    ("DATE_ADD(DATE '2022-01-01', CAST(1 AS INTERVAL MONTH))", "2022-02-01 00:00:00"),
    ("DATE_SUB(DATE '2022-01-01', 1)", "2021-12-31"),
    ("DATE_SUB(TIMESTAMP '2022-01-01 12:00:00', CAST(1 AS INTERVAL HOUR))", "2022-01-01 11:00:00"),
    ("DATEDIFF('1984-02-28', '1983-02-28')", "365"),
    ("TIMESTAMPADD(SQL_TSI_MONTH, 2, DATE '2024-12-31')", "2025-02-28"),
    ("TIMESTAMPADD(SQL_TSI_MINUTE, 90, TIMESTAMP '2024-01-01 00:00:00')", "2024-01-01 01:30:00"),
    ("TIMESTAMPADD(DAY, -1, DATE '2024-03-01')", "2024-02-29"),
    ("TIMESTAMPADD(QUARTER, 1, DATE '2024-01-01')", "2024-04-01"),
    ("TIMESTAMPDIFF(SQL_TSI_MONTH, DATE '2021-02-01', DATE '2021-05-01')", "3"),
    ("TIMESTAMPDIFF(DAY, TIMESTAMP '2003-02-01 11:43:22', TIMESTAMP '2005-04-09 12:05:55')", "798"),
    ("TIMESTAMPDIFF(MONTH, DATE '2024-01-31', DATE '2024-02-28')", "0"),
    ("DATE '2024-01-31' + INTERVAL '1' MONTH", "2024-02-29"),
    ("DATE '2024-01-01' - INTERVAL '1' DAY", "2023-12-31"),
    ("TIMESTAMP '2024-01-01 00:00:00' + INTERVAL '90' MINUTE", "2024-01-01 01:30:00"),
    ("TO_DATE('02/20/93', 'MM/DD/YY')", "1993-02-20"),
    ("TO_DATE('2024-01-31', 'YYYY-MM-DD')", "2024-01-31"),
    ("TO_DATE(1640131200)", "2021-12-22"),
    ("TO_DATE('x', 'YYYY-MM-DD', 1)", "None"),
    ("TO_TIMESTAMP('2024-01-01 23:00:00.120', 'YYYY-MM-DD HH24:MI:SS.FFF')", "2024-01-01 23:00:00.120000"),
    ("TO_TIMESTAMP(1640131200.5)", "2021-12-22 00:00:00.500000"),
    ("TO_TIME('09:15:00', 'HH:MI:SS')", "09:15:00"),
    ("TO_CHAR(TIMESTAMP '2024-01-05 13:04:05.120', 'YYYY-MM-DD HH24:MI:SS.FFF')", "2024-01-05 13:04:05.120"),
    ("TO_CHAR(DATE '2024-01-05', 'DD Mon YYYY')", "05 Jan 2024"),
    ("TO_CHAR(TIME '10:11:12', 'HH24:MI')", "10:11"),
    ("TO_CHAR(DATE '2024-01-05', 'YYYY\"Q\"MM')", "2024Q01"),
    ("UNIX_TIMESTAMP('2024-01-01 00:00:00')", "1704067200"),
    (
        "CONVERT_TIMEZONE('America/Los_Angeles', 'America/New_York', TIMESTAMP '2021-04-01 15:27:32')",
        "2021-04-01 18:27:32",
    ),
    ("CONVERT_TIMEZONE('America/New_York', TIMESTAMP '2021-04-01 15:27:32')", "2021-04-01 11:27:32"),
    ("DATETYPE(2024, 2, 29)", "2024-02-29"),
    ("CAST('2024-01-01' AS DATE)", "2024-01-01"),
    ("CAST(TIMESTAMP '2024-01-01 23:59:59' AS DATE)", "2024-01-01"),
    ("CAST('2024-01-01 10:11:12.123456' AS TIMESTAMP)", "2024-01-01 10:11:12.123000"),
    ("FLOOR(TIMESTAMP '2024-05-06 07:08:09' TO MONTH)", "2024-05-01 00:00:00"),
    # lists
    ("ARRAY[1, 2, 3][0]", "1"),
    ("CARDINALITY(ARRAY[1, NULL])", "2"),
    ("SIZE(ARRAY[1, 4, 5])", "3"),
    ("ARRAY_CONTAINS(ARRAY[1, 2], 2)", "True"),
    ("ARRAY_POSITION(3, ARRAY[1, 2, 3])", "2"),
    ("ARRAY_POSITION(9, ARRAY[1, 2, 3])", "None"),
    ("ARRAY_GENERATE_RANGE(1, 5)", "[1, 2, 3, 4]"),
    ("ARRAY_REMOVE(ARRAY[1, 2, 1], 1)", "[2]"),
    ("ARRAY_APPEND(ARRAY[1, 2], 3)", "[1, 2, 3]"),
    ("ARRAY_PREPEND(0, ARRAY[1])", "[0, 1]"),
    ("ARRAY_CONCAT(ARRAY[1], ARRAY[2])", "[1, 2]"),
    ("ARRAY_MAX(ARRAY[1, 3, 2])", "3"),
    ("ARRAY_TO_STRING(ARRAY['a', NULL, 'b'], ',')", "a,b"),
]


@pytest.mark.parametrize(("call", "result"), CASES, ids=[call for call, _ in CASES])
def test_scalar(bench: Bench, call: str, result: str) -> None:
    assert str(bench.one(f"SELECT {call}")) == result


ROWS = "(VALUES (1, 'b', 10), (1, 'a', 20), (2, 'c', NULL), (2, 'a', 40)) AS t (g, s, n)"
GROUPED: list[tuple[str, str]] = [
    ("COUNT(n)", "[2, 1]"),
    ("COUNT(DISTINCT s)", "[2, 2]"),
    ("SUM(n)", "[30, 40]"),
    ("AVG(n)", "[15.0, 40.0]"),
    ("MEDIAN(n)", "[15.0, 40.0]"),
    ("MIN(s)", "['a', 'a']"),
    ("STDDEV(n) > 7", "[True, None]"),
    ("LISTAGG(s, ';') WITHIN GROUP (ORDER BY s)", "['a;b', 'a;c']"),
    ("LISTAGG(s) WITHIN GROUP (ORDER BY n DESC)", "['a,b', 'c,a']"),
    ("ARRAY_AGG(s ORDER BY s)", "[['a', 'b'], ['a', 'c']]"),
    ("APPROX_COUNT_DISTINCT(s)", "[2, 2]"),
    ("PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY n)", "[15.0, 40.0]"),
    ("PERCENTILE_CONT(0.25) WITHIN GROUP (ORDER BY n DESC)", "[17.5, 40.0]"),
    ("PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY n)", "[10, 40]"),
    ("BOOL_AND(n > 5)", "[True, True]"),
]


@pytest.mark.parametrize(("call", "result"), GROUPED, ids=[call for call, _ in GROUPED])
def test_aggregate(bench: Bench, call: str, result: str) -> None:
    assert str([row[0] for row in bench.rows(f"SELECT {call} FROM {ROWS} GROUP BY g ORDER BY g")]) == result


WINDOWS: list[tuple[str, str]] = [
    ("ROW_NUMBER() OVER (PARTITION BY g ORDER BY s)", "[1, 2, 1, 2]"),
    ("NTILE(2) OVER (ORDER BY g, s)", "[1, 1, 2, 2]"),
    ("RANK() OVER (ORDER BY g)", "[1, 1, 3, 3]"),
    ("DENSE_RANK() OVER (ORDER BY g)", "[1, 1, 2, 2]"),
    ("LAG(s) OVER (ORDER BY g, s)", "[None, 'a', 'b', 'a']"),
    ("LEAD(s, 1, 'z') OVER (ORDER BY g, s)", "['b', 'a', 'c', 'z']"),
    ("FIRST_VALUE(s) OVER (PARTITION BY g ORDER BY s)", "['a', 'a', 'a', 'a']"),
    ("LAST_VALUE(n) IGNORE NULLS OVER (ORDER BY g, s)", "[20, 10, 40, 40]"),
    ("SUM(n) OVER (PARTITION BY g)", "[30, 30, 40, 40]"),
    ("COUNT(*) OVER ()", "[4, 4, 4, 4]"),
    ("SUM(n) OVER (ORDER BY g, s ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)", "[20, 30, 50, 40]"),
    ("CUME_DIST() OVER (ORDER BY g)", "[0.5, 0.5, 1.0, 1.0]"),
]


@pytest.mark.parametrize(("call", "result"), WINDOWS, ids=[call for call, _ in WINDOWS])
def test_window(bench: Bench, call: str, result: str) -> None:
    assert str([row[0] for row in bench.rows(f"SELECT {call} AS w FROM {ROWS} ORDER BY g, s")]) == result


QUERIES: list[tuple[str, str]] = [
    ("SELECT FLATTEN(ARRAY[1, 2]) AS x", "[(1,), (2,)]"),
    ("SELECT g, COUNT(*) FROM {0} GROUP BY ROLLUP (g) ORDER BY g", "[(1, 2), (2, 2), (None, 4)]"),
    (
        "SELECT g, s FROM {0} QUALIFY ROW_NUMBER() OVER (PARTITION BY g ORDER BY n DESC) = 1 ORDER BY g",
        "[(1, 'a'), (2, 'c')]",
    ),
    ("SELECT g FROM {0} WHERE n > 10 INTERSECT SELECT 1", "[(1,)]"),
    ("SELECT DISTINCT g FROM {0} MINUS SELECT 1", "[(2,)]"),
    ("SELECT g FROM {0} EXCEPT SELECT 1", "[(2,)]"),
    ("SELECT a.s FROM {0} JOIN (SELECT 'c' AS s) a USING (s)", "[('c',)]"),
    ("SELECT s FROM {0} ORDER BY n DESC LIMIT 1 OFFSET 1", "[('a',)]"),
    ("SELECT s FROM {0} ORDER BY n NULLS FIRST FETCH FIRST 1 ROWS ONLY", "[('c',)]"),
    ("SELECT 'it''s' -- a comment\n", '[("it\'s",)]'),
    ("SELECT 8 // 2\n", "[(8,)]"),
    ('SELECT g AS "G", "S" FROM {0} WHERE S = \'c\'', "[(2, 'c')]"),
    ("SELECT SUM(x.n) FROM (SELECT n FROM {0}) x HAVING SUM(x.n) > 1", "[(70,)]"),
    ("SELECT * FROM (VALUES ('no_schema')) union values('no_schema')", "[('no_schema',)]"),
    ("SELECT s FROM {0} WHERE EXISTS (SELECT 1 FROM {1} WHERE u.n = t.n AND u.n = 40)", "[('a',)]"),
    ("SELECT s FROM {0} WHERE n >= ALL (SELECT n FROM {1} WHERE n IS NOT NULL)", "[('a',)]"),
    ("SELECT (SELECT MAX(n) FROM {1} WHERE u.g = t.g) AS m FROM {0} WHERE s = 'c'", "[(40,)]"),
    ("SELECT g AS a, SUM(n) / NULLIF(COUNT(*), 0) AS m FROM {0} GROUP BY a ORDER BY a", "[(1, 15), (2, 20)]"),
    (
        "SELECT g + 1 AS a, SUM(CAST(n AS DECIMAL(4, 2))) / COUNT(n) AS m FROM {0} GROUP BY a ORDER BY a",
        "[(2, Decimal('15.000000')), (3, Decimal('40.000000'))]",
    ),
]


@pytest.mark.parametrize(("sql", "result"), QUERIES, ids=[sql[:50] for sql, _ in QUERIES])
def test_query(bench: Bench, sql: str, result: str) -> None:
    assert str(bench.rows(sql.format(ROWS, ROWS.replace("AS t", "AS u")))) == result


def test_session_functions_are_one_moment_in_utc(bench: Bench) -> None:
    row = bench.run(
        "SELECT CURRENT_TIMESTAMP AS a, (SELECT CURRENT_TIMESTAMP()) AS b, NOW() AS c, CURRENT_DATE AS d"
    ).table
    assert str(row.schema.field("a").type) == "timestamp[ms]"
    values = row.to_pylist()[0]
    assert values["a"] == values["b"] == values["c"]
    assert values["a"].date() == values["d"]
    assert bench.one("SELECT USER") == "tester"


@pytest.mark.parametrize(
    ("call", "signature"),
    [
        ("NOSUCH(1, 'a')", r"NOSUCH\(<NUMERIC>, <CHARACTER>\)"),
        ("LOWER('a', 'b')", r"LOWER\(<CHARACTER>, <CHARACTER>\)"),
        ("TIMESTAMPADD(DAY, 1)", r"TIMESTAMPADD\("),
        ("LENGTH()", r"LENGTH\("),
        ("SUM('a')", r"SUM\(<CHARACTER>\)"),
        ("some.udf(1)", r"SOME\.UDF\(<NUMERIC>\)"),
    ],
)
def test_unknown_functions_are_refused_in_calcites_words(bench: Bench, call: str, signature: str) -> None:
    with pytest.raises(ValidationError, match=f"No match found for function signature .*{signature}"):
        bench.run(f"SELECT {call}")


@pytest.mark.parametrize(
    "call",
    [
        "CONVERT_FROM(x, 'JSON')",
        "FLATTEN(x), FLATTEN(x)",
        "TO_DATE('x', x)",
        "HASH(x)",
        "CONTAINS(x, 'a')",
        "AI_COMPLETE(x)",
    ],
)
def test_what_is_known_and_missing_says_so(bench: Bench, call: str) -> None:
    with pytest.raises(UnsupportedError, match=r"on this server|by this server"):
        bench.run(f"SELECT {call} FROM (SELECT 'a' AS x) t")


@pytest.mark.parametrize(
    "call",
    ["TO_DATE('2024', 'QQQ')", "CAST('abc' AS INTEGER)", "DATE '2024-13-01'", "EXTRACT(NOPE FROM DATE '2024-01-01')"],
)
def test_wrong_values_are_errors(bench: Bench, call: str) -> None:
    with pytest.raises(SqlError):
        bench.run(f"SELECT {call}")


@pytest.mark.timeout(60)
def test_conversions_within_conversions_stay_small(bench: Bench) -> None:
    """Each names its argument several times: nested so deep, what came of them never ended."""
    text = "v"
    for _ in range(8):
        text = f"CAST(CAST(CAST({text} AS DOUBLE) + 0.4 AS INTEGER) + 1 AS VARCHAR) || ''"
    assert bench.rows(f"SELECT {text} FROM (VALUES (1)) t (v)") == [("9",)]


@pytest.mark.parametrize("taken", ["CASE WHEN v > 0 THEN 1 ELSE 0 END", "v"])
def test_a_long_subtraction_stays_small(bench: Bench, taken: str) -> None:
    """Whether each difference is one of dates was asked once more a level: sixty of them never ended."""
    assert bench.rows(f"SELECT v - v{f' - {taken}' * 60} FROM (VALUES (1)) t (v)") == [(-60,)]


def test_differences_of_dates_are_intervals_wherever_they_stand(bench: Bench) -> None:
    case = "CASE WHEN d > DATE '2024-01-02' THEN d ELSE DATE '2024-01-01' END"
    sql = f"SELECT d - DATE '2024-01-01', {case} - DATE '2024-01-01', (d - e) - (e - d) FROM"
    found = bench.rows(f"{sql} (VALUES (DATE '2024-01-31', DATE '2024-01-30')) t (d, e)")
    assert found == [tuple(pa.MonthDayNano((0, days, 0)) for days in (30, 30, 2))]
