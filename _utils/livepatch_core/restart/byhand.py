"""``kexec.boot``, the operator's own verb, beside a restart under an approval."""

from __future__ import annotations

from livepatch_core.host.context import Host
from livepatch_core.host.lock import exclusive
from livepatch_core.host.outcome import Outcome
from livepatch_core.kernel.identity import read_identity
from livepatch_core.kexec import boot as kexec_boot
from livepatch_core.restart.kernel import refuse_open
from livepatch_core.restart.record import Method, Stage, lock_of, read_restart


def boot(host: Host, order: kexec_boot.Order) -> Outcome:
    """As ``kexec.boot.boot``, but not in the middle of a drain, nor where one died: what has not left yet
    would go down with the host. Raises LivepatchError (busy, conflict)."""
    with exclusive(lock_of(host), "kexec boot", test=order.test):
        found, here = read_restart(host), read_identity(host.roots)
        if found is not None and found.boot_id == here.boot_id and found.stage is not Stage.DONE:
            ordered = found.stage is Stage.LEAVING and found.method is Method.KEXEC
            refuse_open(None if ordered else found, here.boot_id)
        return kexec_boot.boot(host, order)
