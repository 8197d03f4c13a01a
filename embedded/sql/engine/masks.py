"""Dremio's date masks (YYYY-MM-DD HH24:MI:SS.FFF) as DuckDB's strftime and strptime formats."""

from __future__ import annotations

from embedded.sql.errors import ValidationError

# Longest first. FFF are milliseconds; HH is the hour of 1-12 when writing, Dremio documents the same for reading.
_ELEMENTS: tuple[tuple[str, str], ...] = (
    ("HH24", "%H"), ("HH12", "%I"), ("YYYY", "%Y"), ("AMPM", "%p"), ("MONTH", "%B"), ("MON", "%b"), ("DDD", "%j"),
    ("DAY", "%A"), ("DY", "%a"), ("FFFFFF", "%f"), ("FFF", "%g"), ("TZO", "%z"), ("TZD", "%Z"), ("HH", "%I"),
    ("MI", "%M"), ("MM", "%m"), ("DD", "%d"), ("SS", "%S"), ("YY", "%y"), ("AM", "%p"), ("PM", "%p"), ("WW", "%V"),
)  # fmt: skip


def _convert(mask: str) -> str:
    out, at = [], 0
    while at < len(mask):
        character = mask[at]
        if character == '"':
            end = mask.find('"', at + 1)
            if end < 0:
                raise ValidationError(f"Failure parsing the formatting string '{mask}'.")
            out.append(mask[at + 1 : end].replace("%", "%%"))
            at = end + 1
            continue
        for element, code in _ELEMENTS:
            if mask[at : at + len(element)].upper() == element:
                out.append(code)
                at += len(element)
                break
        else:
            if character.isalpha() and character not in "TZ":
                raise ValidationError(f"Failure parsing the formatting string '{mask}'.")
            out.append("%%" if character == "%" else character)
            at += 1
    return "".join(out)


def strftime_mask(mask: str) -> str:
    return _convert(mask)


def strptime_mask(mask: str) -> str:
    """As for writing; a two-digit HH without AM/PM is read as the hour of 24."""
    converted = _convert(mask)
    return converted if "%p" in converted else converted.replace("%I", "%H")
