"""GetSqlInfo: what the server says of itself (numbers and types: SqlInfo in FlightSql.proto)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

VERSION = "26.0.0-lakehouse"

_KINDS = [
    pa.field("string_value", pa.string()),
    pa.field("bool_value", pa.bool_()),
    pa.field("bigint_value", pa.int64()),
    pa.field("int32_bitmask", pa.int32()),
    pa.field("string_list", pa.list_(pa.string())),
    pa.field("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32()))),
]
_TEXT, _BOOL, _BIGINT, _BITS, _LIST, _MAP = range(6)
SCHEMA = pa.schema(
    [
        pa.field("info_name", pa.uint32(), nullable=False),
        pa.field("value", pa.dense_union(_KINDS, type_codes=list(range(6))), nullable=False),
    ]
)

_KEYWORDS = (
    "AT BRANCH CATALOG COPY DESCRIBE EXPLAIN FOLDER GRANT LOCALSORT METADATA OPTIMIZE REFLECTION REFRESH REVOKE"
    " ROLLBACK SHOW SNAPSHOT TAG USE VACUUM VDS VIEW"
)
_NUMERIC = "ABS ACOS ASIN ATAN ATAN2 CEIL COS COT DEGREES EXP FLOOR LOG LOG10 MOD PI POWER RADIANS RAND ROUND SIGN SIN SQRT TAN TRUNCATE"  # noqa: E501
_STRING = "ASCII CHR CONCAT LCASE LEFT LENGTH LOCATE LOWER LTRIM REPEAT REPLACE RIGHT RTRIM SUBSTRING UCASE UPPER"
_DATETIME = "CURRENT_DATE CURRENT_TIMESTAMP DAYOFMONTH DAYOFWEEK DAYOFYEAR EXTRACT HOUR MINUTE MONTH NOW QUARTER SECOND TIMESTAMPADD TIMESTAMPDIFF WEEK YEAR"  # noqa: E501

Value = str | bool | int | list[str]

# number: (which member of the union, value)
_INFO: Mapping[int, tuple[int, Value]] = {
    0: (_TEXT, "Dremio Server"),
    1: (_TEXT, VERSION),
    2: (_TEXT, pa.__version__),
    3: (_BOOL, False),  # read only
    4: (_BOOL, True),  # SQL
    5: (_BOOL, False),  # Substrait
    8: (_BITS, 0),  # no transactions
    9: (_BOOL, True),  # cancel
    10: (_BOOL, False),  # bulk ingestion
    500: (_BOOL, False),  # CREATE and DROP of catalogs
    501: (_BOOL, True),  # of schemas
    502: (_BOOL, True),  # of tables
    503: (_BITS, 1),  # names ignore case
    504: (_TEXT, '"'),
    505: (_BITS, 1),
    506: (_BOOL, True),
    507: (_BITS, 0),  # NULL is sorted as the largest value
    508: (_LIST, _KEYWORDS.split()),
    509: (_LIST, _NUMERIC.split()),
    510: (_LIST, _STRING.split()),
    511: (_LIST, ["CAST", "CONVERT_FROM", "CONVERT_TO", "USER"]),
    512: (_LIST, _DATETIME.split()),
    513: (_TEXT, "\\"),
    514: (_TEXT, ""),
    515: (_BOOL, True),
    516: (_BOOL, True),
    518: (_BOOL, True),
    519: (_BOOL, False),
    520: (_BOOL, True),
    521: (_BOOL, True),
    522: (_BITS, 1),
    523: (_BOOL, True),
    524: (_BOOL, True),
    525: (_BITS, 0b111),
    526: (_BITS, 0b111),
    527: (_BOOL, False),
    528: (_BITS, 0b100),  # full outer joins
    529: (_TEXT, "schema"),
    530: (_TEXT, "procedure"),
    531: (_TEXT, ""),  # there are no catalogs
    532: (_BOOL, True),
    533: (_BITS, 0b111),
    534: (_BITS, 0b111),
    535: (_BITS, 0b1),
    536: (_BOOL, False),
    537: (_BOOL, False),
    538: (_BITS, 0b1111),
    539: (_BOOL, True),
    540: (_BITS, 0b11),
    **dict.fromkeys(range(541, 556), (_BIGINT, 0)),  # no limit that the server knows of
    556: (_BOOL, True),
    **dict.fromkeys(range(557, 562), (_BIGINT, 0)),
    562: (_BITS, 0),
    563: (_BOOL, False),
    564: (_BITS, 0b1),
    565: (_BOOL, False),
    566: (_BOOL, False),
    567: (_BITS, 0b10),  # forward only
    572: (_BOOL, True),
    573: (_BOOL, False),
    574: (_BOOL, False),
    575: (_BOOL, True),
    576: (_BOOL, True),
}


def table(wanted: Sequence[int]) -> pa.Table:
    """The wanted numbers, all when none is named; numbers that the server knows nothing of are left out."""
    found = {number: _INFO[number] for number in (wanted or _INFO) if number in _INFO}
    members: list[list[Value]] = [[] for _ in _KINDS]
    kinds, offsets = [], []
    for kind, value in found.values():
        kinds.append(kind)
        offsets.append(len(members[kind]))
        members[kind].append(value)
    union = pa.UnionArray.from_dense(
        pa.array(kinds, pa.int8()),
        pa.array(offsets, pa.int32()),
        [pa.array(values, kind.type) for values, kind in zip(members, _KINDS, strict=True)],
        [kind.name for kind in _KINDS],
        list(range(6)),
    )
    return pa.Table.from_arrays([pa.array(list(found), pa.uint32()), union], schema=SCHEMA)
