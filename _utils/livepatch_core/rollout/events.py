"""The tags of what a rollout tells, and sentences for people. This module owns the tags.

``salt/livepatch/rollout/<id>/<what>``, e.g. ``.../started``, ``.../wave/2/soak``, ``.../host/hv1/failed``.
They are hints: whoever can fire events can forge them, so nothing decides by them; the journal and the hosts
do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFIX = "salt/livepatch/rollout"
WAKE = "command"  # fired by a verb that left a command for the owner
TEXT = 300  # characters of one text in a payload
ITEMS = 20  # of a list in a payload: a failed wave must not become a megabyte on the bus


def tag(rollout: str, what: str) -> str:
    return f"{PREFIX}/{rollout}/{what}"


def small(data: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``data`` travels: plain values, short texts, the first items of lists."""
    return {str(key): _small(value) for key, value in data.items()}


def sentence(what: str, data: Mapping[str, Any]) -> str:
    """One line for a terminal: what happened, then what is known of it."""
    head = what.replace("wave/0/", "canaries: ").replace("wave/", "wave ").replace("/", " ")
    text = data.get("reason") or data.get("comment") or data.get("text") or data.get("why")
    counts = data.get("counts")
    if isinstance(text, str) and text:
        return f"{head}: {text}"
    if isinstance(counts, Mapping):
        return f"{head} ({', '.join(f'{count} {place}' for place, count in counts.items())})"
    shown = [f"{key} {_shown(value)}" for key, value in data.items() if value not in (None, "", [], {}, ())]
    return f"{head}: {', '.join(shown)}" if shown else head


def _small(value: Any) -> Any:
    if isinstance(value, str):
        return str(value)[:TEXT]
    if isinstance(value, Mapping):
        return {str(key): _small(one) for key, one in list(value.items())[:ITEMS]}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_small(one) for one in list(value)[:ITEMS]]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)[:TEXT]


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
