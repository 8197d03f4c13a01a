"""A cursor over the words of a statement. sqlglot reads comments, strings and quotes; the grammar is ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import TokenType

from embedded.sql.datasets import Path
from embedded.sql.engine.dialect import DremioSql
from embedded.sql.errors import ParseError

T = TypeVar("T")


@dataclass(frozen=True)
class Word:
    text: str
    kind: str  # word, name (quoted), string, number, symbol, end
    start: int
    end: int  # exclusive


def scan(sql: str) -> list[Word]:
    """The words of `sql`, without comments. Keywords of two words (PARTITION BY) come as two."""
    try:
        raw = DremioSql().tokenize(sql)
    except TokenError as error:
        raise ParseError(f"Failure parsing the query. {str(error).splitlines()[0]}") from None
    words: list[Word] = []
    for token in raw:
        start, end = token.start, token.end + 1
        if token.token_type == TokenType.IDENTIFIER:
            words.append(Word(token.text, "name", start, end))
        elif token.token_type == TokenType.STRING:
            words.append(Word(token.text, "string", start, end))
        elif token.token_type == TokenType.NUMBER:
            words.append(Word(token.text, "number", start, end))
        else:
            kind = "word" if token.text[:1].isalpha() or token.text[:1] == "_" else "symbol"
            # The tokenizer upper-cases keywords; a name such as Date keeps its spelling only in the source.
            source = sql[start:end]
            words += [Word(part, kind, start, end) for part in (source.split() or [token.text])]
    return words


class Cursor:
    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.words = scan(sql)
        while self.words and self.words[-1].text == ";" and self.words[-1].kind == "symbol":
            self.words.pop()
        self.at = 0

    def peek(self, ahead: int = 0) -> Word:
        at = self.at + ahead
        return self.words[at] if at < len(self.words) else Word("<EOF>", "end", len(self.sql), len(self.sql))

    def done(self) -> bool:
        return self.at >= len(self.words)

    def sees(self, *keywords: str) -> bool:
        """Do the next words equal these keywords or symbols?"""
        return all(
            self.peek(i).kind in ("word", "symbol") and self.peek(i).text.upper() == keyword
            for i, keyword in enumerate(keywords)
        )

    def accept(self, *keywords: str) -> bool:
        if not self.sees(*keywords):
            return False
        self.at += len(keywords)
        return True

    def one_of(self, *keywords: str) -> str | None:
        return next((k for k in keywords if self.accept(k)), None)

    def expect(self, *keywords: str) -> None:
        for keyword in keywords:
            if not self.accept(keyword):
                raise self.error()

    def error(self) -> ParseError:
        """Dremio's words for an unexpected token, with its place."""
        word = self.peek()
        before = self.sql[: word.start]
        line, column = before.count("\n") + 1, word.start - (before.rfind("\n") + 1) + 1
        return ParseError(f'Failure parsing the query. Encountered "{word.text}" at line {line}, column {column}.')

    def finish(self) -> None:
        if not self.done():
            raise self.error()

    def name(self) -> str:
        word = self.peek()
        if word.kind not in ("word", "name") or not word.text:
            raise self.error()
        self.at += 1
        return word.text

    def path(self) -> Path:
        parts = [self.name()]
        while self.accept("."):
            parts.append(self.name())
        return tuple(parts)

    def string(self) -> str:
        if self.peek().kind != "string":
            raise self.error()
        self.at += 1
        return self.words[self.at - 1].text

    def integer(self) -> int:
        word = self.peek()
        if word.kind != "number" or not word.text.isdigit():
            raise self.error()
        self.at += 1
        return int(word.text)

    def parenthesised(self, item: Callable[[], T]) -> tuple[T, ...]:
        """( item [, item ...] )"""
        self.expect("(")
        items = [item()]
        while self.accept(","):
            items.append(item())
        self.expect(")")
        return tuple(items)

    def names(self) -> tuple[str, ...]:
        return self.parenthesised(self.name)

    def text_until(self, *stops: str) -> str:
        """The source text up to one of these words outside parentheses and CASE ... END, or to the end."""
        first, depth = self.at, 0
        phrases = [stop.split() for stop in stops]
        heads = {phrase[0] for phrase in phrases}
        for word in self.words[first:]:
            if word.kind in ("word", "symbol"):
                text = word.text.upper()
                if depth == 0 and text in heads and any(self.sees(*phrase) for phrase in phrases):
                    break
                depth += (text in ("(", "CASE", "[")) - (text in (")", "END", "]"))
                if depth < 0:
                    break
            self.at += 1
        if self.at == first:
            raise self.error()
        return self.sql[self.words[first].start : self.words[self.at - 1].end]

    def rest(self) -> str:
        """The source text to the end of the statement."""
        text = self.text_until(";")
        self.finish()
        return text
