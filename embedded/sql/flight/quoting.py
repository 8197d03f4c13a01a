"""The session header `quoting`: names in `back ticks` or [brackets], rewritten to the double quotes of the grammar."""

from __future__ import annotations

from embedded.sql.errors import ParseError

_SKIPPED = {"'": "'", '"': '"', "--": "\n", "//": "\n", "/*": "*/"}


def double_quoted(sql: str, opening: str) -> str:
    """`sql` with its names in double quotes; texts and comments stay. Raises ParseError for a name without an end."""
    if opening == '"':
        return sql
    closing = "]" if opening == "[" else opening
    parts: list[str] = []
    at = 0
    while at < len(sql):
        if sql[at] == opening:
            name, at = _name(sql, at, closing)
            parts.append('"' + name.replace('"', '""') + '"')
            continue
        end = _skipped(sql, at)
        parts.append(sql[at:end])
        at = end
    return "".join(parts)


def _skipped(sql: str, at: int) -> int:
    """The end of the text or comment that begins here, else the next character."""
    for start, stop in _SKIPPED.items():
        if sql.startswith(start, at):
            end = sql.find(stop, at + len(start))
            return len(sql) if end < 0 else end + len(stop)
    return at + 1


def _name(sql: str, at: int, closing: str) -> tuple[str, int]:
    """The name that begins at `at`, its doubled closing quotes made single, and where it ends."""
    name, look = "", at + 1
    while (end := sql.find(closing, look)) >= 0:
        name += sql[look:end]
        if sql[end + 1 : end + 2] != closing:
            return name, end + 1
        name, look = name + closing, end + 2
    raise ParseError(f"Failure parsing the query. A name that begins with {sql[at]} does not end.")
