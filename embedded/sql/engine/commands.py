"""The grammar of every statement that is not a query (dremio.md 2.3 and 3.2). Unknown text is a parse error.

sqlglot is not asked: it reads some of these wrongly without an error (`ADD COLUMNS`, `SET TBLPROPERTIES`).
"""

from __future__ import annotations

from collections.abc import Callable

from embedded.sql.engine import statements as st
from embedded.sql.engine.alter import parse_alter
from embedded.sql.engine.columns import column_definition, layout
from embedded.sql.engine.tokens import Cursor
from embedded.sql.errors import ParseError, UnsupportedError

# Statements that Dremio has and this server has not: refused by name instead of as a syntax error.
UNSUPPORTED = {
    "ANALYZE": "ANALYZE TABLE",
    "COPY": "COPY INTO",
    "ASSIGN": "ASSIGN",
    "CALL": "CALL",
    "SET": "SET",
    "RESET": "RESET",
    "UNSET": "UNSET",
    "MERGE BRANCH": "MERGE BRANCH",
}


def parse_statement(sql: str) -> st.Statement:
    """Parse exactly one statement. Leading comments and a trailing semicolon are allowed."""
    cursor = Cursor(sql)
    if cursor.done():
        raise ParseError("Failure parsing the query. The statement is empty.")
    first = cursor.peek()
    if cursor.sees("(") or any(cursor.sees(word) for word in ("SELECT", "WITH", "VALUES")):
        return st.Query(cursor.rest())
    if first.kind != "word" or first.text.upper() not in STATEMENTS:
        if first.text.upper() in UNSUPPORTED:
            raise UnsupportedError(f"{UNSUPPORTED[first.text.upper()]} is not supported by this server.")
        raise cursor.error()
    statement = STATEMENTS[first.text.upper()](cursor)
    cursor.finish()
    return statement


def _create(c: Cursor) -> st.Statement:
    c.expect("CREATE")
    replace = c.accept("OR", "REPLACE")
    if c.one_of("VIEW", "VDS"):
        path, columns = c.path(), ()
        if c.sees("("):
            columns = c.names()  # type: ignore[assignment]
        c.expect("AS")
        return st.CreateView(path, c.rest(), replace, columns)
    if replace:
        if c.sees("TABLE"):
            raise UnsupportedError("CREATE OR REPLACE TABLE is not supported.")
        raise c.error()
    if c.one_of("FOLDER", "SCHEMA"):
        exists = c.accept("IF", "NOT", "EXISTS")
        return st.CreateFolder(c.path(), exists)
    if c.accept("TABLE"):
        return _create_table(c)
    for word in ("FUNCTION", "ROLE", "USER", "BRANCH", "TAG", "PIPE", "EMPTY"):
        if c.sees(word):
            raise UnsupportedError(f"CREATE {word} is not supported by this server.")
    raise c.error()


def _create_table(c: Cursor) -> st.Statement:
    exists = c.accept("IF", "NOT", "EXISTS")
    path = c.path()
    columns: tuple[st.ColumnDefinition, ...] = ()
    if c.sees("("):
        columns = c.parenthesised(lambda: column_definition(c, untyped=True))
    table_layout = layout(c)
    if c.sees("(") and not columns:  # dbt writes the contract's columns after the storage clauses
        columns = c.parenthesised(lambda: column_definition(c, untyped=True))
    query = c.rest() if c.accept("AS") else None
    if query is None and (not columns or any(column.type is None for column in columns)):
        raise c.error()
    return st.CreateTable(path, table_layout, columns, query, exists)


def _drop(c: Cursor) -> st.Statement:
    c.expect("DROP")
    kind = c.one_of("VIEW", "VDS", "TABLE", "FOLDER", "SCHEMA")
    if not kind:
        for word in ("FUNCTION", "ROLE", "USER", "BRANCH", "TAG", "PIPE"):
            if c.sees(word):
                raise UnsupportedError(f"DROP {word} is not supported by this server.")
        raise c.error()
    exists = c.accept("IF", "EXISTS")
    path = c.path()
    if kind == "TABLE":
        return st.DropTable(path, exists)
    return st.DropView(path, exists) if kind in ("VIEW", "VDS") else st.DropFolder(path, exists)


def _insert(c: Cursor) -> st.Statement:
    c.expect("INSERT", "INTO")
    path, columns = c.path(), ()
    if c.sees("(") and c.peek(1).text.upper() not in ("SELECT", "WITH", "VALUES", "("):
        columns = c.names()  # type: ignore[assignment]
    return st.Insert(path, columns, c.rest())


def _target(c: Cursor, *stops: str) -> st.Target:
    path = c.path()
    if c.sees("AT"):
        raise UnsupportedError("DML is supported on the current state of a table only.")
    alias = path[-1]
    if c.accept("AS") or (not c.done() and c.peek().text.upper() not in stops):
        alias = c.name()
    return st.Target(path, alias)


def _assignments(c: Cursor, *stops: str) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    while True:
        column = c.path()[-1]
        c.expect("=")
        found.append((column, c.text_until(",", *stops)))
        if not c.accept(","):
            return tuple(found)


def _delete(c: Cursor) -> st.Statement:
    c.expect("DELETE", "FROM")
    target = _target(c, "USING", "WHERE")
    using = c.text_until("WHERE") if c.accept("USING") else None
    where = c.rest() if c.accept("WHERE") else None
    return st.Delete(target, using, where)


def _update(c: Cursor) -> st.Statement:
    c.expect("UPDATE")
    target = _target(c, "SET")
    c.expect("SET")
    assignments = _assignments(c, "FROM", "WHERE")
    source = c.text_until("WHERE") if c.accept("FROM") else None
    where = c.rest() if c.accept("WHERE") else None
    return st.Update(target, assignments, source, where)


def _merge(c: Cursor) -> st.Statement:
    c.expect("MERGE")
    if c.sees("BRANCH"):
        raise UnsupportedError("MERGE BRANCH is not supported by this server.")
    c.expect("INTO")
    target = _target(c, "USING")
    c.expect("USING")
    source = c.text_until("ON")
    c.expect("ON")
    on = c.text_until("WHEN")
    update: tuple[tuple[str, str], ...] | str | None = None
    columns: tuple[str, ...] = ()
    values: tuple[str, ...] | str | None = None
    while c.accept("WHEN"):
        if c.accept("MATCHED", "THEN"):
            if update is not None or values is not None or not c.sees("UPDATE"):
                raise c.error()  # Dremio has no WHEN MATCHED THEN DELETE, and one clause of each kind in this order
            c.expect("UPDATE", "SET")
            update = "*" if c.accept("*") else _assignments(c, "WHEN")
        else:
            c.expect("NOT", "MATCHED", "THEN", "INSERT")
            if values is not None:
                raise c.error()
            if c.accept("*"):
                values = "*"
                continue
            if c.sees("("):
                columns = c.names()
            c.expect("VALUES")
            values = c.parenthesised(lambda: c.text_until(","))
    if update is None and values is None:
        raise c.error()
    return st.Merge(target, source, on, update, columns, values)  # type: ignore[arg-type]


def _truncate(c: Cursor) -> st.Statement:
    c.expect("TRUNCATE")
    c.accept("TABLE")
    exists = c.accept("IF", "EXISTS")
    return st.Truncate(c.path(), exists)


def _show(c: Cursor) -> st.Statement:
    c.expect("SHOW")
    word = c.one_of("SCHEMAS", "DATABASES", "TABLES", "VIEWS")
    if not word:
        raise c.error()
    within = c.path() if c.one_of("FROM", "IN") else ()
    like = c.string() if c.accept("LIKE") else None
    what = "SCHEMAS" if word in ("SCHEMAS", "DATABASES") else word
    return st.Show(what, within, like)  # type: ignore[arg-type]


def _describe(c: Cursor) -> st.Statement:
    c.at += 1
    c.accept("TABLE")
    path = c.path()
    return st.Describe(path, None if c.done() else c.name())


def _explain(c: Cursor) -> st.Statement:
    c.expect("EXPLAIN", "PLAN")
    for option in ("INCLUDING ALL ATTRIBUTES", "EXCLUDING ATTRIBUTES", "WITH IMPLEMENTATION", "WITHOUT IMPLEMENTATION"):
        c.accept(*option.split())
    c.expect("FOR")
    return st.Explain(c.rest())


def _use(c: Cursor) -> st.Statement:
    c.expect("USE")
    for word in ("BRANCH", "TAG", "COMMIT", "REFERENCE", "REF"):
        if c.sees(word) and not c.peek(1).text == "." and c.peek(1).kind != "end":
            raise UnsupportedError("USE of a branch, tag or commit is not supported by this server.")
    return st.Use(c.path())


def _rollback(c: Cursor) -> st.Statement:
    c.expect("ROLLBACK", "TABLE")
    path = c.path()
    c.expect("TO")
    if c.accept("SNAPSHOT"):
        return st.Rollback(path, c.string(), None)
    c.expect("TIMESTAMP")
    return st.Rollback(path, None, c.string())


def _vacuum(c: Cursor) -> st.Statement:
    c.expect("VACUUM")
    if not c.accept("TABLE"):
        raise UnsupportedError("VACUUM CATALOG is not supported by this server.")
    path = c.path()
    if c.sees("REMOVE"):
        raise UnsupportedError("VACUUM TABLE ... REMOVE ORPHAN FILES is not supported by this server.")
    c.expect("EXPIRE", "SNAPSHOTS")
    older = retain = None
    while not c.done():
        if c.accept("OLDER_THAN"):
            c.accept("=")
            older = c.string()
        else:
            c.expect("RETAIN_LAST")
            c.accept("=")
            retain = c.integer()
    return st.Vacuum(path, older, retain)


def _optimize(c: Cursor) -> st.Statement:
    c.expect("OPTIMIZE", "TABLE")
    path = c.path()
    if c.accept("REWRITE"):
        raise UnsupportedError("OPTIMIZE TABLE ... REWRITE is not supported by this server; use OPTIMIZE TABLE.")
    if c.sees("FOR") or c.sees("("):
        raise UnsupportedError("OPTIMIZE TABLE with options is not supported by this server; use OPTIMIZE TABLE.")
    return st.Optimize(path)


def _grant(c: Cursor) -> st.Statement:
    revoke = c.one_of("GRANT", "REVOKE") == "REVOKE"
    privileges: list[str] = []
    words: list[str] = []
    while not c.sees("ON"):
        if c.accept(","):
            privileges.append(" ".join(words))
            words = []
        else:
            words.append(c.name().upper())
    privileges.append(" ".join(words))
    c.expect("ON")
    kind = c.one_of("TABLE", "VIEW", "VDS", "PDS", "FOLDER", "SOURCE", "SPACE", "SYSTEM", "PROJECT")
    if not kind or not all(privileges):
        raise c.error()
    path = () if kind in ("SYSTEM", "PROJECT") else c.path()
    c.expect("FROM" if revoke else "TO")
    grantee_type = c.one_of("USER", "ROLE")
    if not grantee_type:
        raise c.error()
    return st.Grant(revoke, tuple(privileges), kind, path, grantee_type, c.name())


STATEMENTS: dict[str, Callable[[Cursor], st.Statement]] = {
    "ALTER": parse_alter,
    "CREATE": _create,
    "DELETE": _delete,
    "DESC": _describe,
    "DESCRIBE": _describe,
    "DROP": _drop,
    "EXPLAIN": _explain,
    "GRANT": _grant,
    "INSERT": _insert,
    "MERGE": _merge,
    "OPTIMIZE": _optimize,
    "REVOKE": _grant,
    "ROLLBACK": _rollback,
    "SHOW": _show,
    "TRUNCATE": _truncate,
    "UPDATE": _update,
    "USE": _use,
    "VACUUM": _vacuum,
}
