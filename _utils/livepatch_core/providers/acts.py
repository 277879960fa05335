"""Having another live-patch system act on this host: allowed by its own configuration, locked, journaled."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from livepatch_core.errors import LivepatchError, cause
from livepatch_core.host import journal
from livepatch_core.host.context import Host
from livepatch_core.host.lock import exclusive
from livepatch_core.host.outcome import Outcome
from livepatch_core.host.record import Record, read_record, write_record
from livepatch_core.kernel.identity import read_identity
from livepatch_core.providers import face
from livepatch_core.words import Kind


@dataclass(frozen=True)
class Order:
    """allowed: providers that the minion's own configuration lets us tell what to do."""

    provider: str
    reason: str | None
    allowed: Collection[str] = ()
    test: bool = False


def apply(host: Host, site: face.Site, order: Order) -> Outcome:
    """Raises LivepatchError when it was refused; see face.apply."""
    return _act(host, site, order, "apply", face.apply)


def revert(host: Host, site: face.Site, order: Order) -> Outcome:
    """Raises LivepatchError when it was refused; see face.revert."""
    return _act(host, site, order, "revert", face.revert)


def _act(
    host: Host, site: face.Site, order: Order, what: str, perform: Callable[[face.Site, str], Outcome]
) -> Outcome:
    if order.provider not in order.allowed:
        raise LivepatchError(
            Kind.FORBIDDEN,
            f"This minion's configuration does not let anybody {what} {order.provider}; nothing was changed.",
            remedy=f"Add {order.provider} to livepatch_provider:allow in the minion's own configuration.",
        )
    if not order.reason:
        raise LivepatchError(
            Kind.ARGUMENT, f"{what} needs a reason; nothing was changed.", remedy="Give one: reason='...'"
        )
    with exclusive(host.settings.lock_file, f"{order.provider} {what}", test=order.test):
        record = read_record(host.settings.record_file)
        journal.last_entry(host.settings.journal_file)  # one that cannot be continued refuses the act now
        if what == "apply":
            face.refuse_mixing(site, order.provider)
        if order.test:
            return Outcome(
                None, f"Would {what} {order.provider}.", changes={"provider": {what: order.provider}}
            )
        began = host.timestamp()
        outcome = perform(site, order.provider)
        if outcome.changes:
            _write_journal(host, order, what, began, outcome, record)
        return outcome


def _write_journal(host: Host, order: Order, what: str, began: str, outcome: Outcome, record: Record) -> None:
    """After the act: what a vendor's program changed is known only then."""
    body: dict[str, Any] = {
        "act": f"{order.provider} {what}",
        "patch": None,
        "boot_id": read_identity(host.roots).boot_id,
        "began": began,
        "ended": host.timestamp(),
        "changes": dict(outcome.changes),
        "result": outcome.result,
        "reason": order.reason,
        "who": dict(host.who),
    }
    try:
        head = journal.append(host.settings.journal_file, body, record.journal)
        write_record(host.settings.record_file, replace(record, journal=head))
    except (OSError, LivepatchError) as problem:
        raise _unwritten(outcome, problem) from problem


def _unwritten(outcome: Outcome, problem: OSError | LivepatchError) -> LivepatchError:
    return LivepatchError(
        Kind.JOURNAL,
        f"{outcome.comment} But that could not be written into the host's journal or record "
        f"({cause(problem)}).",
        remedy="Make room, or see livepatch.verify; keep this answer, livepatch.history may lack the act.",
        changes=outcome.changes,
    )
