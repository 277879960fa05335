"""The three ways to roll out: what an option is where the operator says nothing.

Where the numbers come from:

* waves 10/20/40/60/100 % and 5/20/100 %: the tiers of Canonical's livepatch service (10/20/40/60 %) and the
  phases that Mender's users take (5, 15, 80 %). 10/50/100 %: chosen, for a fix that is worth the risk.
* canary_soak 1 h, soak 15 min: Canonical's client reports health 1, 5 and 15 minutes after a patch.
  emergency, 15 and 5 min: Azure puts the previous version back when a host is not healthy within 5 minutes.
  careful, 24 and 48 h: the delayed feeds of KernelCare (12, 24, 48 h) and the two days between Mender's
  phases.
* look_every 60 s: Canonical's first report. emergency 30 s and careful 300 s (the second report): chosen.
* max_per_domain 20 %: Azure upgrades at most 20 % of a scale set at once. 25 %: maxUnavailable of Kubernetes.
  10 %: concurrency of AWS Config.
* parallel 200, 500: java.salt_batch_size of Uyuni, its default and the most it recommends; 500 is also the
  longest list that one job is published for. 50: MaxConcurrency of AWS SSM.
* stage_spread 10 s, stage_deadline 120 s: chosen; 200 hosts fetch a module of some 100 KiB in 10 s over 20
  Mbit/s.
* move_deadline 300 s: a host gives a transition 75 s (15 s until the kernel signals stragglers and the 60 s
  that kpatch waits after that) and a reversal as long; twice that for machines with many threads and for
  probes. careful: 600 s, the patience of a host with on_stall: wait.
* drain_deadline 30 min: 100 GiB of guests' memory at 200 MB/s are 9 minutes; three times that for disks that
  are shared. restart_deadline 15 min: a server's firmware takes up to ten, and its services start after that.
* thresholds: lost 0: a host that vanished after a patch is never accepted. careful fails at the first
  failure: MaxErrors of AWS SSM is 0. The other percentages are chosen: a stall or a host that does not answer
  harms no customer, so more of them are accepted than of failures. A percentage of a small wave is 0: one is
  too many.
* on_fail: pause; rollback_wave for canaries, where nobody is awake yet. careful: rollback_wave everywhere.
* late_for 24 h: a night and its morning; careful 7 d.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STANDARD: Mapping[str, Any] = {
    "canaries": [],
    "canaries_per_stratum": 1,
    "waves": ["10%", "20%", "40%", "60%", "100%"],
    "canary_soak": 3600,
    "soak": 900,
    "look_every": 60,
    "max_per_domain": "20%",
    "domain_grain": "failure_domain",
    "role_grain": "role",
    "parallel": 200,
    "stage_deadline": 120,
    "stage_spread": 10,
    "move_deadline": 300,
    "thresholds": {
        "failed": {"wave": "2%", "total": "2%"},
        "stalled": {"wave": "5%", "total": "5%"},
        "unreachable": {"wave": "10%", "total": "5%"},
        "lost": {"wave": 0, "total": 0},
    },
    "on_fail": "pause",
    "on_fail_canary": "rollback_wave",
    "block_on_rollback": False,
    "gates": [],
    "windows": [],
    "blackouts": [],
    "late": "catch_up",
    "late_for": 86_400,
    "accept_versions": [],
    "allow_testing": False,
    "fallback": "none",
    "method": "livepatch",
    "kernel": "newest",
    "without_level": "refuse",
    "drain": None,
    "undrain": None,
    "drain_deadline": 1800,
    "restart_deadline": 900,
    "exposure": None,
}

EMERGENCY: Mapping[str, Any] = {
    **STANDARD,
    "waves": ["10%", "50%", "100%"],
    "canary_soak": 900,
    "soak": 300,
    "look_every": 30,
    "max_per_domain": "25%",
    "parallel": 500,
    "thresholds": {
        "failed": {"wave": "5%", "total": "5%"},
        "stalled": {"wave": "10%", "total": "10%"},
        "unreachable": {"wave": "20%", "total": "10%"},
        "lost": {"wave": 0, "total": 0},
    },
}

CAREFUL: Mapping[str, Any] = {
    **STANDARD,
    "canaries_per_stratum": 2,
    "waves": ["5%", "20%", "100%"],
    "canary_soak": 86_400,
    "soak": 172_800,
    "look_every": 300,
    "max_per_domain": "10%",
    "parallel": 50,
    "move_deadline": 600,
    "thresholds": {
        "failed": {"wave": 0, "total": 0},
        "stalled": {"wave": "2%", "total": "2%"},
        "unreachable": {"wave": "5%", "total": "2%"},
        "lost": {"wave": 0, "total": 0},
    },
    "on_fail": "rollback_wave",
    "late_for": 604_800,
}

PROFILES: Mapping[str, Mapping[str, Any]] = {
    "standard": STANDARD,
    "emergency": EMERGENCY,
    "careful": CAREFUL,
}
