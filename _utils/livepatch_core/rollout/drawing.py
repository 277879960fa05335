"""A plan from what the master knows, catalog, ledger and other rollouts, and what the hosts have answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import livepatch_core
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.shelf import Standing
from livepatch_core.ledger import rollouts as ledger
from livepatch_core.rollout import inventory, planning, status, verbs
from livepatch_core.rollout.model import Options, Plan


def draw(
    master: Master,
    target: str,
    options: Options,
    level: object,
    standings: Sequence[Standing],
    answers: Mapping[str, Any],
    grains_of: Callable[[str], Mapping[str, Any]],
) -> Plan:
    """answers: of every targeted host, None for one that gave none. level: as it was asked for. grains_of:
    the grains that the master has of a minion. Raises LivepatchError."""
    grains, hosts = (options.domain_grain, options.role_grain), list(answers)
    said, held = ledger.words(master.state_dir, hosts), status.held(verbs.root(master))
    facts = [
        inventory.facts_of(
            name,
            answers[name],
            grains_of,
            grains,
            said.frozen.get(name, ""),
            held.get(name, ""),
            {build: level for build, (level, _) in said.approved.get(name, {}).items()},
        )
        for name in hosts
    ]
    found = inventory.offers(standings, level, {one.build_id for one in facts if one.build_id})
    return planning.make_plan(
        target,
        facts,
        options,
        found.grants,
        found.back,
        now=datetime.now(timezone.utc),
        version=livepatch_core.__version__,
        blocked=found.blocked,
        testing=found.testing,
        arrivals=found.arrivals,
        rev=said.rev,
    )
