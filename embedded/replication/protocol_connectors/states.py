"""How a connector's own states are kept beside those of other sources, and taken apart by stream."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

State = dict[str, Any]
# Under which a connector's own state is kept, so that no other source's state is taken for it.
CONNECTOR_STATE = "airbyte"
_LEGACY = "legacy"


def of(state: State | None) -> dict[str, Any] | None:
    """The connector's own part of a state that was kept; None where there is none."""
    return (state or {}).get(CONNECTOR_STATE)


def is_legacy(state: State | None) -> bool:
    """Whether it is one object for all streams, of which no stream's part can be told."""
    return _LEGACY in (of(state) or {})


def without(state: State | None, keys: Collection[tuple[str, str]]) -> State | None:
    """A GLOBAL state without the parts of these streams (namespace, name); None if that leaves no stream's part.

    Any other state stays as it is.
    """
    own = of(state)
    streams = (own or {}).get("stream_states")
    if not own or not streams:
        return state
    kept = [item for item in streams if _key(item.get("stream_descriptor") or {}) not in keys]
    if len(kept) == len(streams):
        return state
    return {CONNECTOR_STATE: {**own, "stream_states": kept}} if kept else None


def _key(descriptor: dict[str, Any]) -> tuple[str, str]:
    return descriptor.get("namespace") or "", str(descriptor.get("name"))
