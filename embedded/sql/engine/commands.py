"""The grammar of every statement that is not a query (dremio.md 2.3 and 3.2). Unknown text is a parse error.

sqlglot is not asked: it reads some of these wrongly without an error (`ADD COLUMNS`, `SET TBLPROPERTIES`).
"""

from __future__ import annotations

from collections.abc import Callable

from embedded.sql.engine import grammar_changes as changes
from embedded.sql.engine import grammar_maintenance as maintenance
from embedded.sql.engine import grammar_objects as objects
from embedded.sql.engine import grammar_session as session
from embedded.sql.engine import statements as st
from embedded.sql.engine.alter import parse_alter
from embedded.sql.engine.tokens import Cursor
from embedded.sql.errors import ParseError, UnsupportedError


def parse_statement(sql: str) -> st.Statement:
    """Parse exactly one statement. Leading comments and a trailing semicolon are allowed."""
    try:
        sql.encode()
    except UnicodeEncodeError:  # JSON can carry half of a surrogate pair, no database can
        raise ParseError("Failure parsing the query. The statement holds half of a character.") from None
    cursor = Cursor(sql)
    if cursor.done():
        raise ParseError("Failure parsing the query. The statement is empty.")
    first = cursor.peek()
    if cursor.sees("(") or any(cursor.sees(word) for word in ("SELECT", "WITH", "VALUES")):
        return st.Query(cursor.rest())
    if first.kind != "word" or first.text.upper() not in _STATEMENTS:
        if cursor.sees("CALL"):
            raise UnsupportedError("CALL is not supported by this server.")
        raise cursor.error()
    statement = _STATEMENTS[first.text.upper()](cursor)
    cursor.finish()
    return statement


_STATEMENTS: dict[str, Callable[[Cursor], st.Statement]] = {
    "ALTER": parse_alter,
    "ANALYZE": maintenance.parse_analyze,
    "ASSIGN": session.parse_assign,
    "COPY": changes.parse_copy,
    "CREATE": objects.parse_create,
    "DELETE": changes.parse_delete,
    "DESC": session.parse_describe,
    "DESCRIBE": session.parse_describe,
    "DROP": objects.parse_drop,
    "EXPLAIN": session.parse_explain,
    "GRANT": session.parse_grant,
    "INSERT": changes.parse_insert,
    "MERGE": changes.parse_merge,
    "OPTIMIZE": maintenance.parse_optimize,
    "RESET": session.parse_set,
    "REVOKE": session.parse_grant,
    "ROLLBACK": maintenance.parse_rollback,
    "SET": session.parse_set,
    "SHOW": session.parse_show,
    "TRUNCATE": changes.parse_truncate,
    "UPDATE": changes.parse_update,
    "USE": session.parse_use,
    "VACUUM": maintenance.parse_vacuum,
}
