"""The one error that operators see."""

from __future__ import annotations

from typing import Any

from livepatch_core.words import Kind


class LivepatchError(Exception):
    """An act was refused or failed.

    message: a sentence that says what happened, to which patch or file, and what state the kernel is
    in now. remedy: what to do next, a sentence. evidence: what the message rests on (kernel log lines,
    digests, errno ...), plain data that survives msgpack.
    """

    def __init__(self, kind: Kind, message: str, *, remedy: str = "", **evidence: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.remedy = remedy
        self.evidence = evidence

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()


def cause(problem: OSError | LivepatchError) -> str:
    """Why something failed, for a sentence about a larger act: without what the error says of its own act."""
    if isinstance(problem, OSError):
        return problem.strerror or str(problem)
    return str(problem.evidence.get("why", problem.message))
