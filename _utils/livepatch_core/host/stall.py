"""What is said of the threads that hold a transition up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from livepatch_core.kernel.stragglers import KernelReason, Scan, Straggler

NAMED = 5  # stragglers named in a sentence; the document has them all
NOBODY = (
    "No visible task holds it up: the kernel also waits for the idle task of each CPU, which /proc does "
    "not show."
)


def straggler_documents(scan: Scan) -> list[Mapping[str, Any]]:
    return [_document(one) for one in scan.stragglers]


def unseen_documents(scan: Scan) -> list[Mapping[str, Any]]:
    """Tasks that only the kernel names."""
    return [_document(one) for one in scan.unseen]


def sentence(scan: Scan | None) -> str:
    """Who holds it up, for people; empty when nobody was looked for."""
    if scan is None:
        return ""
    named = [_named(one) for one in scan.stragglers] + [_unseen(one) for one in scan.unseen]
    if scan.stragglers:
        more = len(named) - NAMED
        return f"Held up by {', '.join(named[:NAMED])}{f' and {more} more' if more > 0 else ''}."
    if named:
        return f"No visible task holds it up; the kernel names {', '.join(named[:NAMED])}."
    return NOBODY if scan.complete else "The scan of all threads was cut short and found nobody yet."


def _named(one: Straggler) -> str:
    where = f" in {one.function}" if one.function else ""
    owner = one.unit or one.container or one.machine
    return f"{one.comm} (thread {one.tid}{f' of {owner}' if owner else ''}, {one.reason}{where})"


def _unseen(one: KernelReason) -> str:
    where = f" in {one.function}" if one.function else ""
    return f"{one.comm} ({'idle task' if one.tid == 0 else f'thread {one.tid}'}, {one.reason}{where})"


def _document(one: Straggler | KernelReason) -> Mapping[str, Any]:
    return {key: _plain(value) for key, value in asdict(one).items()}


def _plain(value: object) -> object:
    """msgpack and YAML know neither tuples nor subclasses of str."""
    if isinstance(value, str):
        return str(value)
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
