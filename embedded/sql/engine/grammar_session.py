"""The grammar of statements about the session and about what exists: SHOW, DESCRIBE, USE, EXPLAIN, SET, GRANT."""

from __future__ import annotations

from embedded.sql.datasets import Path
from embedded.sql.engine import statements as st
from embedded.sql.engine.tokens import Cursor
from embedded.sql.errors import UnsupportedError

_LISTS = {"SCHEMAS": "SCHEMAS", "DATABASES": "SCHEMAS", "TABLES": "TABLES", "VIEWS": "VIEWS", "FUNCTIONS": "FUNCTIONS"}
_GRANTABLE = ("TABLE", "VIEW", "VDS", "PDS", "FOLDER", "SOURCE", "SPACE", "SYSTEM", "PROJECT", "FUNCTION", "SCRIPT",
              "CATALOG", "ORG", "ENGINE", "USER", "ROLE", "PIPE", "DATASET")  # fmt: skip


def parse_show(c: Cursor) -> st.Statement:
    """SHOW SCHEMAS, TABLES, VIEWS, FUNCTIONS, CREATE TABLE | VIEW, TBLPROPERTIES, BRANCHES, TAGS, LOGS"""
    c.expect("SHOW")
    if c.accept("CREATE"):
        kind = c.one_of("TABLE", "VIEW")
        if kind is None:
            raise c.error()
        return st.ShowCreate(kind, c.path())  # type: ignore[arg-type]
    if c.accept("TBLPROPERTIES"):
        return st.ShowProperties(c.path())
    if word := c.one_of("BRANCHES", "TAGS", "LOGS"):
        return _show_versions(c, word)
    listed = c.one_of(*_LISTS)
    if listed is None:
        raise c.error()
    within = c.path() if c.one_of("FROM", "IN") else ()
    if listed == "FUNCTIONS" and within:
        raise c.error()
    like = c.string() if c.accept("LIKE") else None
    return st.Show(_LISTS[listed], within, like)  # type: ignore[arg-type]


def _show_versions(c: Cursor, word: str) -> st.Statement:
    if word == "LOGS" and c.accept("AT"):
        reference(c)
    return st.Versioned(f"SHOW {word}", c.path() if c.one_of("IN", "FROM") else ())


def reference(c: Cursor) -> tuple[str, str]:
    """{REF[ERENCE] | BRANCH | TAG | COMMIT} name"""
    kind = c.one_of("REFERENCE", "REF", "BRANCH", "TAG", "COMMIT")
    if kind is None:
        raise c.error()
    word = c.peek()
    return kind, c.string() if word.kind == "string" else c.name()


def parse_describe(c: Cursor) -> st.Statement:
    """DESCRIBE [TABLE] t [column] | DESCRIBE FUNCTION f"""
    c.at += 1
    if c.sees("FUNCTION") and c.peek(1).kind in ("word", "name"):
        c.expect("FUNCTION")
        return st.DescribeFunction(c.path())
    if c.sees("TABLE") and c.peek(1).kind in ("word", "name"):
        c.expect("TABLE")
    path = c.path()
    return st.Describe(path, None if c.done() else c.name())


def parse_explain(c: Cursor) -> st.Statement:
    """EXPLAIN PLAN [attributes] [implementation] FOR query"""
    c.expect("EXPLAIN", "PLAN")
    for option in ("INCLUDING ALL ATTRIBUTES", "EXCLUDING ATTRIBUTES", "WITH IMPLEMENTATION", "WITHOUT IMPLEMENTATION"):
        c.accept(*option.split())
    c.expect("FOR")
    return st.Explain(c.rest())


def parse_use(c: Cursor) -> st.Statement:
    """USE path | USE {BRANCH | TAG | COMMIT | REF} name IN source"""
    c.expect("USE")
    for word in ("BRANCH", "TAG", "COMMIT", "REFERENCE", "REF"):
        if c.sees(word) and c.peek(1).text != "." and c.peek(1).kind != "end":
            kind, _ = reference(c)
            return st.Versioned(f"USE {kind}", c.path() if c.accept("IN") else ())
    return st.Use(c.path())


def parse_assign(c: Cursor) -> st.Statement:
    """ASSIGN {BRANCH | TAG} name TO reference IN source"""
    c.expect("ASSIGN")
    return assign(c, "ASSIGN")


def assign(c: Cursor, verb: str) -> st.Versioned:
    kind = c.one_of("BRANCH", "TAG")
    if kind is None:
        raise c.error()
    c.name()
    if not c.accept("ASSIGN"):  # ALTER BRANCH b ASSIGN reference; ASSIGN BRANCH b TO reference
        c.expect("TO")
    reference(c)
    return st.Versioned(f"{verb} {kind}", c.path() if c.accept("IN") else ())


def parse_option(c: Cursor, scope: str) -> st.SetOption:
    """SET name = value | RESET {name | ALL}"""
    if c.accept("RESET"):
        if c.accept("ALL"):
            return st.SetOption(scope, None, None)  # type: ignore[arg-type]
        return st.SetOption(scope, ".".join(c.path()), None)  # type: ignore[arg-type]
    c.expect("SET")
    name = ".".join(c.path())
    c.expect("=")
    return st.SetOption(scope, name, _literal(c))  # type: ignore[arg-type]


def _literal(c: Cursor) -> object:
    if c.peek().kind == "string":
        return c.string()
    if word := c.one_of("TRUE", "FALSE"):
        return word == "TRUE"
    sign = -1 if c.accept("-") else 1
    word_ = c.peek()
    if word_.kind != "number":
        raise c.error()
    c.at += 1
    return sign * (float(word_.text) if "." in word_.text else int(word_.text))


def parse_set(c: Cursor) -> st.Statement:
    """SET name = value, RESET name; SET {QUEUE | ENGINE | TAG} choose where jobs of this session run"""
    verb = c.peek().text.upper()
    for word in ("QUEUE", "ENGINE", "TAG"):
        if c.sees(verb, word) and c.peek(2).text != "=":
            raise UnsupportedError(f"{verb} {word} is not supported by this server: it has one engine and one queue.")
    return parse_option(c, "SESSION")


def parse_grant(c: Cursor) -> st.Statement:
    """GRANT privileges ON object TO grantee | GRANT ROLE r TO grantee, and the REVOKE forms"""
    revoke = c.one_of("GRANT", "REVOKE") == "REVOKE"
    if c.sees("ROLE") and not c.sees("ROLE", ","):
        return _grant_role(c, revoke)
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
    kind = c.one_of(*_GRANTABLE)
    if c.accept("ALL", "DATASETS", "IN"):  # GRANT ... ON ALL DATASETS IN FOLDER f
        kind = c.one_of("FOLDER", "SPACE", "SOURCE")
        kind = f"ALL DATASETS IN {kind}" if kind else None
    if not kind or not all(privileges):
        raise c.error()
    path: Path = () if kind in ("SYSTEM", "PROJECT", "ORG") else c.path()
    c.expect("FROM" if revoke else "TO")
    return st.Grant(revoke, tuple(privileges), kind, path, *_grantee(c))


def _grantee(c: Cursor) -> tuple[str, str]:
    kind = c.one_of("USER", "ROLE")
    if kind is None:
        raise c.error()
    return kind, c.name()


def _grant_role(c: Cursor, revoke: bool) -> st.Statement:
    c.expect("ROLE")
    role = c.name()
    c.expect("FROM" if revoke else "TO")
    kind, grantee = _grantee(c)
    return st.GrantRole(revoke, role, kind, grantee)  # type: ignore[arg-type]
