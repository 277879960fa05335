"""Whether an execution function answered as the operator demands. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def matches(probe: Mapping[str, Any], answer: object) -> bool:
    """One of ``equals``, ``contains``, ``below``, ``above``; with none of them the answer has to be true."""
    if "equals" in probe:
        return bool(answer == probe["equals"])
    if "contains" in probe:
        return isinstance(answer, (str, list, tuple, Mapping)) and probe["contains"] in answer
    number = isinstance(answer, (int, float)) and not isinstance(answer, bool)
    if "below" in probe or "above" in probe:
        assert not number or isinstance(answer, (int, float))
        return (
            isinstance(answer, (int, float))
            and number
            and answer < probe.get("below", float("inf"))
            and answer > probe.get("above", float("-inf"))
        )
    return bool(answer)
