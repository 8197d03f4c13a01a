"""Positions of the write-ahead log."""

from __future__ import annotations

from dataclasses import dataclass


def parse_lsn(text: str) -> int:
    """`16/B374D848` as the integer that it is."""
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def format_lsn(lsn: int) -> str:
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


@dataclass(frozen=True)
class Identity:
    """What IDENTIFY_SYSTEM says: which cluster this is, on which timeline, how far its log is flushed."""

    system: str
    timeline: int
    flushed: int
