"""Starting another kernel under an approval: load it, drain, leave. What fails is undone in reverse.

The order is that of what can go wrong: whether an image is taken only the kernel can say, so it is loaded
before anything is drained; the drain can fail, so nothing is ordered before it is through; and a newer
approval may come during a drain that takes an hour, so the approval is held against the record once more,
under the lock under which the boot is ordered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from livepatch_core.errors import LivepatchError
from livepatch_core.host import health, move
from livepatch_core.host.approval import Approval, accept, parse_approval, refuse_held
from livepatch_core.host.context import Host
from livepatch_core.host.lock import exclusive
from livepatch_core.host.outcome import Outcome
from livepatch_core.host.record import read_record, write_record
from livepatch_core.kernel.identity import Identity, read_identity
from livepatch_core.kexec import boot, leave, load
from livepatch_core.kexec import status as kexec_status
from livepatch_core.kexec.record import read_notes
from livepatch_core.restart import hooks as hook_calls
from livepatch_core.restart import kernel
from livepatch_core.restart.hooks import Hook, Hooks
from livepatch_core.restart.record import Method, Restart, Stage, lock_of, read_restart, write_restart
from livepatch_core.words import Kind

T = TypeVar("T")

UNIT = "livepatch-restart"
DELAY = 15.0  # seconds from the order to leaving: the answer is with the master long before
DRAIN_SECONDS = 1800.0
# Another act may hold the host's lock: a transition has 75 s, and its reversal as long. It cannot be waited
# for: flock has no time-out.
LOCK_SECONDS = 300.0
POLL = 1.0


@dataclass(frozen=True)
class Order:
    """approval: as it came, unparsed. kernel: a release, or ``newest``. deadline: seconds from the beginning
    after which the host leaves no more."""

    approval: object
    method: Method
    kernel: str
    drain: Hook | None = None
    undrain: Hook | None = None
    reason: str = ""
    delay: float = DELAY
    deadline: float = DRAIN_SECONDS
    test: bool = False


def restart(host: Host, order: Order, hooks: Hooks) -> Outcome:
    """Have the kernel started, if the approval names it: the host leaves ``delay`` seconds after this
    returned. For the same approval again: the same answer, and nothing else.

    Raises LivepatchError for what is refused before anything was touched; what fails later is undone, and
    the outcome says so.
    """
    approval, began = parse_approval(order.approval), host.clock()
    with exclusive(lock_of(host), "restart", test=order.test):
        found, here = read_restart(host), read_identity(host.roots)
        if found is not None and found.is_of(approval):
            return _again(host, found, here, hooks)
        kernel.refuse_open(found, here.boot_id)
        hook_calls.refuse_missing(hooks, order.drain, order.undrain)
        with exclusive(host.settings.lock_file, "restart", test=order.test):
            release = _approved(host, order, approval, here)
            if order.test:
                return _predicted(order, here, release)
            begun = _begin(host, order, approval, here, release)
            try:
                if order.method is Method.KEXEC:
                    load.load_held(host, load.Wish(kernel=release, loads=kernel.LOADS))
            except LivepatchError as error:
                return _undone(host, begun, error, hooks)
        try:
            drained = _drained(host, order, begun, hooks)
            late = began + order.deadline
            return patiently(host, lambda: _leave(host, order, approval, drained, late))
        except LivepatchError as error:
            return undo(host, read_restart(host) or begun, error, hooks)


def undo(host: Host, restart: Restart, error: LivepatchError, hooks: Hooks) -> Outcome:
    """Nothing was booted: take back the order, forget the image, bring back what was drained. While an order
    stands that could not be taken back nothing comes back: the host may leave under it."""
    try:
        _take_back(host, restart)
    except LivepatchError as problem:
        return _stands(host, restart, error, problem)
    try:
        _forget(host, restart)
    except LivepatchError as problem:
        text = f"{error.message.rstrip('.')}. And: {problem.message}"
        error = LivepatchError(error.kind, text, remedy=error.remedy, **error.evidence)
    return _undone(host, restart, error, hooks)


def undrained(host: Host, restart: Restart, hooks: Hooks) -> Outcome:
    """The end: what was drained comes back, whatever was found. What cannot is owed, and is tried again by
    whoever asks again."""
    done = replace(restart, stage=Stage.DONE)
    if restart.owed:
        try:
            hook_calls.run(hooks, _undrain_of(restart), "The undrain")
            done = replace(done, owed=False, back=True, away="")
        except LivepatchError as problem:
            done = replace(done, away=problem.message)
    return write_restart(host, done).outcome()


def patiently(host: Host, act: Callable[[], T]) -> T:
    """``act``, again while another act is under way. Raises what it raises, busy after LOCK_SECONDS."""
    deadline = host.clock() + LOCK_SECONDS
    while True:
        try:
            return act()
        except LivepatchError as problem:
            if problem.kind is not Kind.BUSY or host.clock() >= deadline:
                raise
        host.pause(POLL)


def _approved(host: Host, order: Order, approval: Approval, here: Identity) -> str:
    """The release, if the approval names it. It is obeyed from here on, as that of any move: one that cannot
    be carried out still outranks older ones."""
    record = read_record(host.settings.record_file)
    if not order.test:
        record = move.recover(host, record)
    accepted = accept(approval, record)
    if accepted != record and not order.test:
        write_record(host.settings.record_file, accepted)
    release = kernel.find(host, order.method, order.kernel)
    if release not in approval.builds:
        raise LivepatchError(
            Kind.UNAPPROVED,
            f"Approval rev {approval.rev} does not name kernel {release}; nothing was changed.",
            remedy="Roll out with the method kexec or reboot: it approves the kernels that it starts.",
        )
    refuse_held(approval, accepted, here.build_id or "", release)
    return release


def _begin(host: Host, order: Order, approval: Approval, here: Identity, release: str) -> Restart:
    if here.boot_id is None:
        raise LivepatchError(
            Kind.UNSUPPORTED, "The kernel does not name its boot; nothing was changed.", remedy="Mount /proc."
        )
    begun = Restart(
        ledger_id=approval.ledger_id,
        rev=approval.rev,
        method=order.method,
        kernel=release,
        boot_id=here.boot_id,
        at=host.timestamp(),
        approval={
            "ledger_id": approval.ledger_id,
            "rev": approval.rev,
            "builds": {build: vars(one).copy() for build, one in approval.builds.items()},
        },
        reason=order.reason,
        undrain=order.undrain.document() if order.undrain else None,
        sample=health.sample(host).document(),
        evidence={"from": here.release},
    )
    return write_restart(host, begun)


def _drained(host: Host, order: Order, begun: Restart, hooks: Hooks) -> Restart:
    if order.drain is None:
        return begun
    draining = replace(begun, stage=Stage.DRAINING, owed=order.undrain is not None)
    write_restart(host, draining)
    hook_calls.run(hooks, order.drain, "The drain")
    return draining


def _leave(host: Host, order: Order, approval: Approval, restart: Restart, late: float) -> Outcome:
    """late: when it is too late, on the host's clock."""
    with exclusive(host.settings.lock_file, "restart"):
        if host.clock() > late:
            raise LivepatchError(Kind.STALLED, f"The drain took longer than {order.deadline:.0f} s")
        record = read_record(host.settings.record_file)
        accept(approval, record)
        refuse_held(approval, record, read_identity(host.roots).build_id or "", restart.kernel)
        kernel.find(host, restart.method, restart.kernel)
        text = f"Kernel {restart.kernel} starts in {order.delay:g} s."
        left, due = host.now() + order.delay, host.clock() + order.delay
        leaving = replace(restart, stage=Stage.LEAVING, left=left, due=due, comment=text)
        write_restart(host, leaving)
        if restart.method is Method.KEXEC:
            leaving = _order_kexec(host, order, leaving)
        else:
            _note_reboot(host, leaving)
            leave.by_systemd(UNIT, order.delay, "reboot", "Reboot into another kernel (livepatch)")
    changes = {"boot": {"old": restart.evidence["from"], "new": restart.kernel}}
    return Outcome(True, leaving.told(), changes=changes, details={"restart": leaving.document()})


def _order_kexec(host: Host, order: Order, leaving: Restart) -> Restart:
    """The approved kernel, as the distribution has it, and no other: during the drain somebody may have
    loaded one, which is replaced, or ordered one, which is not waited for, be it the same: how it would start
    is not what was approved."""
    departure = read_notes(host).departure
    if departure is not None and leave.pending(host, departure, leaving.boot_id):
        text = f"Kernel {departure.to} was ordered by somebody else during the drain"
        raise LivepatchError(Kind.CONFLICT, f"{text}; {leaving.kernel} is approved: neither may start")
    done = boot.boot_held(
        host, boot.Order(load.Wish(kernel=leaving.kernel), leaving.reason, None, order.delay)
    )
    ordered = done.details["departure"]
    return write_restart(
        host, replace(leaving, left=ordered["left"], due=ordered["due"], comment=done.comment)
    )


def _note_reboot(host: Host, leaving: Restart) -> None:
    """The line comes before the act: nothing of this boot could write it afterwards."""
    body = {
        "act": "reboot",
        "id": f"{leaving.ledger_id}/{leaving.rev}",
        "patch": None,
        "boot_id": leaving.boot_id,
        "began": host.timestamp(),
        "from": leaving.evidence["from"],
        "to": leaving.kernel,
        "reason": leaving.reason,
        "who": dict(host.who),
    }
    boot.note(host, body)


def _take_back(host: Host, restart: Restart) -> None:
    """The order, and one that somebody else gave meanwhile. Raises LivepatchError where one stands."""
    if restart.method is Method.REBOOT and restart.stage is Stage.LEAVING:
        leave.take_back(UNIT)
    if not _is_ordered(host):
        return
    try:
        patiently(host, lambda: load.unload(host))
    except LivepatchError:
        if _is_ordered(host):
            raise


def _is_ordered(host: Host) -> bool:
    last = kexec_status.status(host)["last"]
    return last is not None and last["ended"] == kexec_status.Ended.ORDERED


def _forget(host: Host, restart: Restart) -> None:
    """Unload the image if it is ours."""
    loaded = kexec_status.status(host)["loaded"] or {}
    if restart.method is Method.KEXEC and loaded.get("by") == "us":
        patiently(host, lambda: load.unload(host))


def _stands(host: Host, restart: Restart, error: LivepatchError, problem: LivepatchError) -> Outcome:
    """The host may yet leave: what was drained stays away until livepatch_restart.finish sees what it did."""
    away = " What was drained stays away." if restart.owed else ""
    comment = f"{error.message.rstrip('.')}. And: {problem.message}{away}"
    remedy = f"{problem.remedy}; then livepatch_restart.finish."
    kept = replace(restart, result=False, kind=str(error.kind), comment=f"{comment} {remedy}")
    return write_restart(host, kept).outcome()


def _undone(host: Host, restart: Restart, error: LivepatchError, hooks: Hooks) -> Outcome:
    """Bring back what was drained, and say how it ended: nothing was booted."""
    comment = f"{error.message.rstrip('.')}. Nothing was booted. {error.remedy}".rstrip()
    ended = replace(restart, left=0.0, due=0.0, result=False, kind=str(error.kind), comment=comment)
    outcome = undrained(host, ended, hooks)
    return replace(outcome, details={**error.evidence, **outcome.details})


def _undrain_of(restart: Restart) -> Hook:
    found = hook_calls.parse_hook("undrain", restart.undrain)
    assert found is not None  # only what names one owes it
    return found


def _again(host: Host, found: Restart, here: Identity, hooks: Hooks) -> Outcome:
    """The answer of before. A process that died between is a failure: what it had begun is undone."""
    if found.stage is Stage.DONE:
        return found.outcome()
    if found.boot_id != here.boot_id:
        text = "This host has booted since it was told to: livepatch_restart.finish says what became of it."
        return Outcome(True, text, details={"restart": found.document()})
    if found.stage is Stage.LEAVING:
        told = Outcome(True, found.told(), details={"restart": found.document()})
        return found.outcome() if found.result is False else told
    return undo(host, found, LivepatchError(Kind.INTERNAL, "The process that drained this host died"), hooks)


def _predicted(order: Order, here: Identity, release: str) -> Outcome:
    drained = f" after {order.drain}" if order.drain else ""
    changes = {"boot": {"old": here.release, "new": release}}
    return Outcome(None, f"Would start kernel {release} by {order.method}{drained}.", changes=changes)
