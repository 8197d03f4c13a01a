"""The grammar of CREATE and DROP."""

from __future__ import annotations

import pyarrow as pa

from embedded.sql.datasets import Path
from embedded.sql.engine import statements as st
from embedded.sql.engine.columns import column_definition, layout
from embedded.sql.engine.datatypes import parse_type
from embedded.sql.engine.grammar_session import reference
from embedded.sql.engine.tokens import Cursor
from embedded.sql.errors import UnsupportedError


def parse_create(c: Cursor) -> st.Statement:
    """CREATE [OR REPLACE] VIEW | FUNCTION, CREATE TABLE | FOLDER | BRANCH | TAG | USER | ROLE"""
    c.expect("CREATE")
    replace = c.accept("OR", "REPLACE")
    if c.one_of("VIEW", "VDS"):
        return _create_view(c, replace)
    if c.accept("FUNCTION"):
        return _create_function(c, replace)
    if replace:
        if c.sees("TABLE"):
            raise UnsupportedError("CREATE OR REPLACE TABLE is not supported.")
        raise c.error()
    if c.one_of("FOLDER", "SCHEMA"):
        return _create_folder(c)
    if c.accept("TABLE"):
        return _create_table(c)
    if word := c.one_of("BRANCH", "TAG"):
        return _create_reference(c, word)
    if word := c.one_of("USER", "ROLE"):
        return _account(c, "CREATE", word)
    if c.sees("PIPE"):
        raise UnsupportedError("CREATE PIPE is not supported by this server.")
    raise c.error()


def _create_folder(c: Cursor) -> st.Statement:
    exists = c.accept("IF", "NOT", "EXISTS")
    path = c.path()
    if c.accept("AT"):
        reference(c)
        return st.Versioned("CREATE FOLDER AT", path[:1])
    return st.CreateFolder(path, exists)


def _create_view(c: Cursor, replace: bool) -> st.Statement:
    path, columns = c.path(), ()
    if c.accept("AT"):
        reference(c)
        c.rest()
        return st.Versioned("CREATE VIEW AT", path[:1])
    if c.sees("("):
        columns = c.names()  # type: ignore[assignment]
    if c.sees("ROW", "ACCESS", "POLICY"):
        raise UnsupportedError("ROW ACCESS POLICY is not supported by this server.")
    c.expect("AS")
    return st.CreateView(path, c.rest(), replace, columns)


def _create_table(c: Cursor) -> st.Statement:
    exists = c.accept("IF", "NOT", "EXISTS")
    path = c.path()
    if c.accept("AT"):
        reference(c)
        c.rest()
        return st.Versioned("CREATE TABLE AT", path[:1])
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


def _create_function(c: Cursor, replace: bool) -> st.Statement:
    """[IF NOT EXISTS] f ([p type [DEFAULT v], ...]) RETURNS {type | TABLE (c type, ...)} RETURN body"""
    exists = c.accept("IF", "NOT", "EXISTS")
    if exists and replace:
        raise c.error()
    path = c.path()
    parameters = () if c.accept("(", ")") else c.parenthesised(lambda: _parameter(c))
    if c.sees("ROW", "ACCESS", "POLICY"):
        raise UnsupportedError("ROW ACCESS POLICY is not supported by this server.")
    c.expect("RETURNS")
    returns = _returns(c)
    c.expect("RETURN")
    return st.CreateFunction(path, parameters, returns, c.rest(), replace, exists)


def _returns(c: Cursor) -> pa.DataType | tuple[st.ColumnDefinition, ...]:
    if c.accept("TABLE"):
        return c.parenthesised(lambda: column_definition(c))
    return parse_type(c.text_until("RETURN"))


def _parameter(c: Cursor) -> st.Parameter:
    name = c.name()
    kind = parse_type(c.text_until(",", "DEFAULT"))
    return st.Parameter(name, kind, c.text_until(",") if c.accept("DEFAULT") else None)


def _create_reference(c: Cursor, kind: str) -> st.Statement:
    """{BRANCH | TAG} [IF NOT EXISTS] name [AT reference] IN source"""
    c.accept("IF", "NOT", "EXISTS")
    c.name()
    if c.one_of("AT", "FROM"):
        reference(c)
    return st.Versioned(f"CREATE {kind}", c.path() if c.accept("IN") else ())


def _account(c: Cursor, verb: str, kind: str) -> st.Statement:
    name = c.name()
    password = c.string() if kind == "USER" and verb != "DROP" and c.accept("SET", "PASSWORD") else None
    return st.Account(verb, kind, name, password)  # type: ignore[arg-type]


def parse_drop(c: Cursor) -> st.Statement:
    """DROP VIEW | TABLE | FOLDER | FUNCTION | BRANCH | TAG | USER | ROLE [IF EXISTS]"""
    c.expect("DROP")
    if word := c.one_of("BRANCH", "TAG"):
        return _drop_reference(c, word)
    if word := c.one_of("USER", "ROLE"):
        return _account(c, "DROP", word)
    kind = c.one_of("VIEW", "VDS", "TABLE", "FOLDER", "SCHEMA", "FUNCTION")
    if not kind:
        if c.sees("PIPE"):
            raise UnsupportedError("DROP PIPE is not supported by this server.")
        raise c.error()
    exists = c.accept("IF", "EXISTS")
    path = c.path()
    if c.accept("AT"):
        reference(c)
        return st.Versioned(f"DROP {kind} AT", path[:1])
    return _dropped(kind, path, exists)


def _dropped(kind: str, path: Path, exists: bool) -> st.Statement:
    if kind == "TABLE":
        return st.DropTable(path, exists)
    if kind == "FUNCTION":
        return st.DropFunction(path, exists)
    return st.DropView(path, exists) if kind in ("VIEW", "VDS") else st.DropFolder(path, exists)


def _drop_reference(c: Cursor, kind: str) -> st.Statement:
    """{BRANCH | TAG} [IF EXISTS] name [AT COMMIT hash] [FORCE] IN source"""
    c.accept("IF", "EXISTS")
    c.name()
    if c.accept("AT"):
        reference(c)
    c.accept("FORCE")
    return st.Versioned(f"DROP {kind}", c.path() if c.accept("IN") else ())


def parse_alter_account(c: Cursor, kind: str) -> st.Statement:
    """ALTER USER name SET PASSWORD '...' | UNSET PASSWORD"""
    name = c.name()
    if kind == "USER" and c.accept("SET", "PASSWORD"):
        return st.Account("ALTER", "USER", name, c.string())
    if kind == "USER" and c.accept("UNSET", "PASSWORD"):
        raise UnsupportedError("ALTER USER ... UNSET PASSWORD is not supported by this server.")
    raise c.error()
