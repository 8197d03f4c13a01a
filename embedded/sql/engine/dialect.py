"""Dremio's query language for sqlglot: its own tokens and parser rules, with no function translated by sqlglot.

sqlglot's own dremio dialect gives 56 of 590 documented function examples a different result without an error
(dremio.md 5.1). So every function call stays a plain call here, and `functions` maps it deliberately or refuses it.
"""

from __future__ import annotations

from typing import ClassVar

from sqlglot import exp, tokens
from sqlglot.dialects.dremio import Dremio
from sqlglot.errors import ParseError as SqlglotParseError
from sqlglot.errors import SqlglotError, TokenError
from sqlglot.parser import Parser
from sqlglot.parsers.dremio import DremioParser
from sqlglot.tokenizer_core import Token, TokenType

from embedded.sql.errors import ParseError

# Tokens of other dialects that sqlglot would quietly give a meaning.
_FOREIGN = {
    TokenType.DCOLON,
    TokenType.ARROW,
    TokenType.DARROW,
    TokenType.HASH_ARROW,
    TokenType.DHASH_ARROW,
    TokenType.PLACEHOLDER,
    TokenType.PARAMETER,
    TokenType.L_BRACE,
    TokenType.COLON_EQ,
    TokenType.SESSION_PARAMETER,
}


class DremioQueryParser(DremioParser):
    FUNCTIONS: ClassVar = {}
    NO_PAREN_FUNCTIONS = DremioParser.NO_PAREN_FUNCTIONS
    FUNCTION_PARSERS: ClassVar = {
        **{
            name: parse
            for name, parse in Parser.FUNCTION_PARSERS.items()
            if name in ("CAST", "CEIL", "EXTRACT", "FLOOR", "POSITION", "SUBSTRING", "TRIM")
        },
        "TRY_CONVERT_FROM": lambda self: self._parse_cast(False),
    }
    VERSION_PHRASES: ClassVar = {
        **DremioParser.VERSION_PHRASES,
        ("AT", "BRANCH"): "BRANCH",
        ("AT", "TAG"): "TAG",
        ("AT", "COMMIT"): "COMMIT",
        ("AT", "REFERENCE"): "REFERENCE",
        ("AT", "REF"): "REFERENCE",
    }

    def _parse_types(self, *args: object, **kwargs: object) -> exp.Expr | None:
        """VARBINARY is also written BINARY VARYING; sqlglot knows CHARACTER VARYING only."""
        parsed = super()._parse_types(*args, **kwargs)  # type: ignore[arg-type]
        if isinstance(parsed, exp.DataType) and parsed.this == exp.DType.BINARY:
            self._match_text_seq("VARYING")
        return parsed


class DremioSql(Dremio):
    # Calcite's default, which Dremio keeps: NULL is the largest value, so it comes first in a descending order.
    NULL_ORDERING = "nulls_are_large"

    class Tokenizer(tokens.Tokenizer):
        COMMENTS: ClassVar = ["--", "//", ("/*", "*/")]
        COMMANDS: ClassVar[set[TokenType]] = set()  # else SHOW and others swallow the rest of the text
        HEX_STRINGS: ClassVar = [("x'", "'"), ("X'", "'")]
        KEYWORDS: ClassVar = {
            **{k: v for k, v in tokens.Tokenizer.KEYWORDS.items() if "{" not in k and not k.startswith("/*+")},
            "MINUS": TokenType.EXCEPT,
        }

    Parser = DremioQueryParser


def parse_query(sql: str) -> exp.Query:
    """Parse one query; ParseError in Dremio's words with the place of the offending token."""
    tree = _parse(sql, exp.Query)
    if isinstance(tree, exp.Query):
        return tree
    if isinstance(tree, exp.Values):
        return exp.select("*").from_(tree)
    raise ParseError("Failure parsing the query.")


def parse_expression(sql: str) -> exp.Expr:
    """Parse one scalar expression of a DML statement."""
    return _parse(sql, exp.Condition)


def _parse(sql: str, into: type[exp.Expr]) -> exp.Expr:
    dialect = DremioSql()
    try:
        words = dialect.tokenize(sql)
        for before, token in zip([None, *words], words, strict=False):
            starts = before is None or before.token_type == TokenType.L_PAREN
            if token.token_type in _FOREIGN or (token.token_type == TokenType.FROM and starts):
                raise ParseError(
                    f'Failure parsing the query. Encountered "{token.text}" at line {token.line}, column {token.col}.'
                )
        trees = dialect.parser().parse(_with_rows(words), sql)
    except SqlglotParseError as error:
        raise ParseError(_message(error)) from None
    except (TokenError, SqlglotError, RecursionError) as error:
        raise ParseError(f"Failure parsing the query. {str(error).splitlines()[0] if str(error) else ''}") from None
    found = [tree for tree in trees if tree is not None]
    if len(found) != 1:
        raise ParseError("Failure parsing the query. Exactly one statement is expected.")
    return found[0]


def _with_rows(words: list[Token]) -> list[Token]:
    """ROW(a INT, ...) is a type; elsewhere (FETCH FIRST ROW ONLY) the word keeps its meaning."""
    return [
        Token(TokenType.STRUCT, token.text, token.line, token.col, token.start, token.end)
        if token.token_type == TokenType.ROW and after is not None and after.token_type == TokenType.L_PAREN
        else token
        for token, after in zip(words, [*words[1:], None], strict=True)
    ]


def _message(error: SqlglotParseError) -> str:
    if not error.errors:
        return "Failure parsing the query."
    first = error.errors[0]
    if first.get("highlight"):
        return (
            f'Failure parsing the query. Encountered "{first["highlight"]}" '
            f"at line {first.get('line')}, column {first.get('col')}."
        )
    return f"Failure parsing the query. {first.get('description', '')}"
