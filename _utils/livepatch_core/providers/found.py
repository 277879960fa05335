"""What is found of one live-patch system, in the project's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from livepatch_core.words import Verdict

_CVE = re.compile(r"\bCVE-\d{4}-\d{4,}\b", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """effective: the kernel version that the fixes amount to, as the vendor counts; None where it is silent.

    fixes: CVE names in force. patches: the vendor's names of what is in force. evidence: what the verdict
    rests on: ``kernel`` where the kernel itself was read, ``client`` where only the vendor's program said so.
    doubtful: why that is not to be relied upon, "" if it is. reboot: why a reboot is owed, "" if none is.
    """

    verdict: Verdict
    reason: str
    effective: str | None = None
    fixes: tuple[str, ...] = ()
    patches: tuple[str, ...] = ()
    evidence: str = "client"
    doubtful: str = ""
    reboot: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "verdict": str(self.verdict),
            "reason": self.reason,
            "effective": self.effective,
            "fixes": sorted(self.fixes),
            "patches": list(self.patches),
            "evidence": self.evidence,
            "doubtful": self.doubtful,
            "reboot": self.reboot,
            **({"details": dict(self.details)} if self.details else {}),
        }


def cves_in(text: str) -> tuple[str, ...]:
    """The CVE names in a text, in capitals, each once, sorted. Pure."""
    return tuple(sorted({name.upper() for name in _CVE.findall(text)}))
