"""What an act on this host needs to know: passed explicitly, so that a test can give its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from livepatch_core.host.settings import Settings
from livepatch_core.kernel.roots import RUNNING, Roots

Fetch = Callable[[str], "bytes | None"]
Ask = Callable[[str, "list[Any]"], object]


@dataclass(frozen=True)
class Host:
    """fetch: gives the bytes of a path below the catalog's place, or None where there is no such file.

    who: user, job id and way (minion, salt-call, boot) of whoever asked; goes into the journal.
    ask: calls an execution function, None where there is no minion (at boot, in the soak timer); raises
    LivepatchError when that fails. now: seconds since the epoch. clock: seconds that never go back.
    """

    settings: Settings
    fetch: Fetch
    who: Mapping[str, str] = field(default_factory=dict)
    roots: Roots = RUNNING
    now: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    ask: Ask | None = None

    def timestamp(self) -> str:
        """UTC, ISO 8601, to the millisecond: journals of different hosts must sort together."""
        moment = datetime.fromtimestamp(self.now(), tz=timezone.utc)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
