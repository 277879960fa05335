"""
Live kernel patching on this host: go to a level, see what the kernel is, go back
=================================================================================

A *level* is a positive integer per kernel build; level N contains every fix of the levels below it, and
level 0 is the kernel as it booted. Levels are listed in a catalog on the master's file server
(``salt://livepatch/<release>/catalog.yaml``).

Configuration (in the *minion's* configuration, never pillar), all optional:

.. code-block:: yaml

    livepatch:
      policy: approved        # or newest: this site wants no approvals
      on_stall: reverse       # what to do when a transition stalls: reverse, wait or keep
      deadline: 75            # seconds; scaled up with CPUs and threads
      require_signature: false  # the kernel module's own signature
      publisher_key: /etc/salt/pki/publisher.pem  # or PEM, or base64: load no level he did not sign
      allow_load: false       # livepatch.load and livepatch.unload
      allow_force: false      # livepatch.force
      soak: 900               # seconds a level must be healthy before it is proven and may be loaded at boot
      on_unhealthy: revert    # or keep: what to do when a probe fails after a move
      services: [sshd]        # systemd units that must stay active
      probes:                 # execution functions, with equals, contains, below or above
        - {fun: network.ping, args: [10.0.0.1], contains: '0% packet loss'}
      off_file: /etc/livepatch/off  # while it exists nothing is loaded at boot

Every function that changes something returns ``result`` (True or False), ``comment`` (a sentence),
``changes`` (old and new), and when it was refused or failed ``kind``, one word of a fixed list. With
``test=True`` it changes nothing, ``test`` is True and ``changes`` is what would change. The job's return code
is 1 whenever ``result`` is False.

Functions that only read raise CommandExecutionError, so that the job fails, where what was asked for cannot
be read or found; a call that makes no sense raises SaltInvocationError.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import salt.utils.args
import salt.utils.data
from salt.exceptions import CommandExecutionError, SaltException, SaltInvocationError

import livepatch_core

livepatch_core.refresh()

from livepatch_core.errors import LivepatchError
from livepatch_core.host import apply as host_apply
from livepatch_core.host import byhand, calls, events, inquiry, journal, lastact, soak, told, watch
from livepatch_core.host import cves as host_cves
from livepatch_core.host import persist as host_persist
from livepatch_core.host import revert as host_revert
from livepatch_core.host import stage as host_stage
from livepatch_core.host import status as host_status
from livepatch_core.host.move import Wish
from livepatch_core.host.recognise import for_one_look
from livepatch_core.kernel.patches import read_patches
from livepatch_core.providers import face, whole
from livepatch_core.restart import kernel as restart_kernel
from livepatch_core.restart import record as restart_record
from livepatch_core.words import Kind, OnStall

log = logging.getLogger(__name__)

__virtualname__ = "livepatch"
MODULE_PLACES = "Give a path on the minion, or a file that the master serves (salt://)."


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "livepatch needs a Linux kernel"
    return __virtualname__


def status(**kwargs):
    """
    What the kernel of this host is: verdict and reason, flags, level and approved level, patches with the
    functions in force, how long a transition has lasted (``transition_age``, seconds; None where none runs or
    it is not known), stragglers, fixes (CVE) in force, what the next boot will load, whether a reboot is
    owed. Changes nothing in the kernel; a crash that the master was not told of is told now.

    ``provider`` is the system the verdict comes from: ``klp``, or another one that patches this kernel
    (``kgraft``, ``ksplice``, ``kernelcare``, ``canonical``; then ``effective`` is its kernel version).
    ``providers`` lists all others that are at work here, ``conflicts`` those that must not be mixed,
    ``doubts`` what else is not to be relied upon.

    The verdict is one of ``patched``, ``patching``, ``stalled``, ``reverting``, ``unpatched``, ``uncovered``,
    ``unsupported``, ``unknown``; it is ``patched`` only when the transition has ended, every function that
    was promised is in force, and each module patched is the build that the level was proven against.

    CLI Example:

    .. code-block:: bash

        salt '*' livepatch.status
    """
    host = _host(kwargs)
    document = _answer(lambda: _status(host))
    _tell(host, None)
    return document


def apply(
    level=None,
    reason=None,
    approval=None,
    on_stall=None,
    deadline=None,
    override=None,
    test=False,
    by_state=False,
    **kwargs,
):
    """
    Bring this host to a level and prove it.

    Without arguments the host goes where its approval says, which is taken from the pillar
    (``livepatch:approval``); with no approval it holds its level. A second call changes nothing.

    level
        An integer from 0, given by hand. Needs ``reason``, and holds until this kernel build is
        approved a level anew.
    reason
        Why; goes into the host's journal.
    approval
        The approval itself, as the rollout passes it: ``{"ledger_id", "rev", "builds"}``.
    on_stall
        ``reverse``, ``wait`` or ``keep`` when the transition passes its deadline; default from the minion's
        configuration.
    deadline
        Seconds until a transition counts as stalled on a small host; scaled up with CPUs and threads.
    override
        Names of preflight checks whose inconclusive answer shall not refuse: ``kernel-build``,
        ``target-build``, ``reliable-stacks``, ``takeover`` (replace a patch that nobody here knows).
    test
        Change nothing; ``changes`` says what would be changed.
    by_state
        The level is said by a state, at each of its runs: it holds against what was approved when it was
        said first with this reason, and no newer approval is undone.

    CLI Example:

    .. code-block:: bash

        salt '*' livepatch.apply
        salt 'host1' livepatch.apply level=2 reason='trying the fix for CVE-2026-1' test=True
    """
    if level is None and approval is None:
        approval = _approval_in_pillar()
    wish = _wish(level, reason, approval, on_stall, deadline, override, test, by_state is True)
    return _act("apply", kwargs, lambda host: lastact.noted(host, wish, host_apply.apply))


def revert(level=None, reason=None, approval=None, on_stall=None, deadline=None, test=False, **kwargs):
    """
    Go back, by the least risky way, and say which: reverse a running transition; else replace what is in
    force by a lower level, where neither has callbacks, system states or shadow variables; else by way of
    level 0.

    level
        Where to go, default 0. While a transition is running it is reversed, and without ``level`` that is
        all.
    reason
        Why; needed unless an ``approval`` is given. The host then holds against approvals up to the newest
        it has seen.
    approval, on_stall, deadline, test
        As for :py:func:`apply`.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch.revert reason='customer sees stalls'
    """
    wish = _wish(level, reason, approval, on_stall, deadline, None, test)
    return _act("revert", kwargs, lambda host: host_revert.revert(host, wish))


def preflight(path=None, level=None, reason=None, approval=None, override=None, **kwargs):
    """
    Everything ``apply`` would check before it loads a module, without loading it: each check with its
    verdict (``pass``, ``fail``, ``warn``, ``inconclusive``), reason and remedy.

    path
        A module file (a path on the host, or ``salt://``); by default the module of the level that
        ``apply`` would go to with the same ``level``, ``reason`` and ``approval``.
    override
        As for :py:func:`apply`.

    CLI Example:

    .. code-block:: bash

        salt '*' livepatch.preflight
        salt 'host1' livepatch.preflight path=/root/livepatch_3.ko
    """
    host = _host(kwargs)
    if path is not None:
        allowed = _checked(calls.names, "override", override)
        return _answer(lambda: inquiry.preflight_file(host, _read(path), allowed))
    if level is None and approval is None:
        approval = _approval_in_pillar()
    if level is not None and reason is None:
        reason = "preflight"
    return _answer(
        lambda: inquiry.preflight_level(host, _wish(level, reason, approval, None, None, override, True))
    )


def load(path, reason=None, on_stall=None, deadline=None, override=None, test=False, **kwargs):
    """
    Load one livepatch module, whatever the catalog says. Needs ``allow_load: true`` in the minion's own
    configuration; preflight and journal are those of ``apply``.

    path
        A path on the host, or ``salt://``.
    reason
        Why; needed, goes into the journal.
    on_stall, deadline, override, test
        As for :py:func:`apply`.

    CLI Example:

    .. code-block:: bash

        salt 'lab1' livepatch.load /root/livepatch-test.ko reason='trying it'
    """
    order = _order(reason, on_stall, deadline, override, test)
    return _act("load", kwargs, lambda host: byhand.load(host, _read(path), order))


def unload(name, reason=None, on_stall=None, deadline=None, test=False, **kwargs):
    """
    Disable one patch by its name, whoever loaded it, and remove its module. Needs ``allow_load: true`` in
    the minion's own configuration.

    name
        The patch, as ``livepatch.list_patches`` shows it.
    reason
        Why; needed, goes into the journal.
    on_stall, deadline, test
        As for :py:func:`apply`.

    CLI Example:

    .. code-block:: bash

        salt 'lab1' livepatch.unload livepatch_test reason='done with it'
    """
    order = _order(reason, on_stall, deadline, None, test)
    return _act("unload", kwargs, lambda host: byhand.unload(host, name, order))


def force(patch, reason=None, test=False, **kwargs):
    """
    End the transition of ``patch`` by declaring every task switched. Unsafe: tasks may be inside old code.
    Needs ``allow_force: true`` in the minion's own configuration and a reason; stragglers and their stacks
    are journaled; the host then owes a reboot and takes no more live patches until it has had one.

    patch
        The patch in transition.
    reason
        Why; needed, goes into the journal.
    test
        Change nothing; say what would be done.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch.force livepatch_2 reason='approved by J. Doe, ticket 42'
    """
    order = _order(reason, None, None, None, test)
    return _act("force", kwargs, lambda host: byhand.force(host, patch, order))


def list_patches(**kwargs):
    """
    The live patches the kernel shows, with their state: ``patched``, ``patching``, ``unpatching``,
    ``disabled`` or ``unknown``.

    CLI Example:

    .. code-block:: bash

        salt '*' livepatch.list_patches
    """
    return {patch.name: str(patch.state) for patch in read_patches(_host(kwargs).roots)}


def info(path, **kwargs):
    """
    Everything a module file says about itself: name, kernel builds it was proven against, functions and
    positions, cumulative or not, callbacks, system states, signature.

    path
        A path on the host, or ``salt://``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch.info salt://livepatch/6.1.0-56-amd64/livepatch_1-d666ebf3d843.ko
    """
    _host(kwargs)
    return _answer(lambda: inquiry.info(_read(path)))


def available(**kwargs):
    """
    The levels the catalog has for the running kernel build.

    CLI Example:

    .. code-block:: bash

        salt '*' livepatch.available
    """
    return _answer(lambda: inquiry.available(_host(kwargs)))


def transition(**kwargs):
    """
    The running transition and the threads that hold it up: what each is, where it sleeps, whose it is.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch.transition
    """
    return _answer(lambda: watch.transition_document(_host(kwargs)))


def wait(timeout=75, **kwargs):
    """
    Wait until the running transition has ended; changes nothing.

    timeout
        Seconds to wait at most, less than a day; default 75.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch.wait timeout=30
    """
    return _act("wait", kwargs, lambda host: watch.wait(host, _checked(calls.seconds, "timeout", timeout)))


def history(limit=20, **kwargs):
    """
    The last acts that changed this kernel, from the host's journal: who, what, digest, before, after,
    duration, stragglers, kernel log.

    limit
        How many at most, the newest; default 20.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch.history limit=5
    """
    if type(limit) is not int or limit < 1:
        raise SaltInvocationError(f"limit is {limit!r}, not a positive integer")
    return _answer(lambda: inquiry.history(_host(kwargs), limit))


def verify(seq=None, hash=None, **kwargs):
    """
    Whether the host's journal is whole, torn (a crash while writing), truncated (lines cut off the end) or
    tampered (edited).

    seq, hash
        The head as somebody else remembers it, from an earlier return; by default the host's own record.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch.verify
    """
    if (seq is None) != (hash is None):
        raise SaltInvocationError("give both seq and hash, or neither")
    head = None if seq is None else journal.Head(seq, hash)
    document = _answer(lambda: inquiry.verify(_host(kwargs), head))
    if not document["result"]:
        __context__["retcode"] = 1
    return document


def adopt_ledger(ledger_id, rev=0, reason=None, **kwargs):
    """
    Obey another ledger from now on: after the old one was lost for good, or the host changed masters.

    ledger_id
        The new ledger's id; the host then takes approvals of that ledger from ``rev`` on.
    rev
        The lowest rev to accept, from 0.
    reason
        Why; needed.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch.adopt_ledger ledger-7f3a reason='master rebuilt'
    """
    order = _order(reason, None, None, None, False)
    return _act("adopt_ledger", kwargs, lambda host: byhand.adopt_ledger(host, ledger_id, rev, order))


def unhold(reason=None, test=False, **kwargs):
    """
    Lift the hold of a level that was set by hand, so that the approval (or the newest level) rules again at
    the next apply. The level in force stays what it is until then.

    reason
        Why; needed.
    test
        Change nothing; say what would be done.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch.unhold reason='trial is over'
    """
    order = _order(reason, None, None, None, test)
    return _act("unhold", kwargs, lambda host: byhand.unhold(host, order))


def persist(test=False, expected=None, **kwargs):
    """
    Keep the level in force over a boot: the boot unit loads it with neither master nor network. At once if
    the level has proved healthy for the soak time; otherwise as soon as it has. At level 0 there is nothing
    to keep, which is well unless the next boot would load a level. A level that is kept, and that the next
    boot does not load all the same (blocked, quarantined, switched off), is refused with the reason.

    test
        Change nothing; say what would be done.
    expected
        With ``test``: the level that will be in force by then, as a prediction of ``apply`` names it.

    CLI Example:

    .. code-block:: bash

        salt '*' livepatch.persist
    """
    if _expected(expected, test) is None:
        return _act("persist", kwargs, lambda host: host_persist.persist(host, _testing(test)))
    return _act("persist", kwargs, lambda host: host_persist.predict(host, expected))


def not_persisted(test=False, expected=None, **kwargs):
    """
    Load nothing at boot any more. What is in force stays until then.

    test
        Change nothing; say what would be done.
    expected
        As for :py:func:`persist`.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch.not_persisted
    """
    moved = _expected(expected, test) is not None
    return _act("not_persisted", kwargs, lambda host: host_persist.not_persisted(host, _testing(test), moved))


def quarantine(level, reason=None, test=False, **kwargs):
    """
    Refuse a level on this host, at boot too, until it is released. What is in force stays.

    level
        The level.
    reason
        Why; needed.
    test
        Change nothing; say what would be done.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch.quarantine 3 reason='stalls with our tracer'
    """
    order = _order(reason, None, None, None, test)
    return _act("quarantine", kwargs, lambda host: host_persist.put_in_quarantine(host, level, order))


def release(level, reason=None, test=False, **kwargs):
    """
    Let a level that is quarantined, or held because the host went down without a trace, be loaded again.

    level
        The level, one of the running kernel build. Or the SHA-256 of a module, as the refusal and
        ``quarantine.json`` name it: for one of another build, or one that ``load`` brought and the catalog
        does not know.
    reason
        Why; needed.
    test
        Change nothing; say what would be done.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch.release 3 reason='rack 12 lost its power'
    """
    order = _order(reason, None, None, None, test)
    return _act("release", kwargs, lambda host: host_persist.release(host, level, order))


def health(**kwargs):
    """
    Whether the host is as well as before its level was loaded: ``verdict`` (``pass``, ``fail``,
    ``inconclusive``) and what each probe found. Reads only.

    CLI Example:

    .. code-block:: bash

        salt '*' livepatch.health
    """
    return _answer(lambda: soak.check_now(_host(kwargs)).document())


def brief(health=False, grains=None, kernel=None, **kwargs):
    """
    The few facts that beacon and rollout compare: verdict, flags, level, drift, what is quarantined or held,
    kernel build, the rev acted on, how the last act under an approval ended, what became of the last
    ``restart`` under one. Reads no catalog, so it asks nothing of the master. Fit for the mine.

    health
        Also ask the probes, as :py:func:`health` does.
    grains
        Names of grains whose values are wanted beside it, a list.
    kernel
        A release, or ``newest``: which installed kernel that means here is wanted beside it.

    CLI Example:

    .. code-block:: bash

        salt '*' livepatch.brief
        salt '*' livepatch.brief health=True
    """
    document = _answer(lambda: _brief(_host(kwargs), health is True))
    if kernel is not None:
        document["kernel"] = _answer(lambda: restart_kernel.meant(_host({}), str(kernel)))
    wanted = grains if isinstance(grains, list) else []
    values = {name: salt.utils.data.traverse_dict_and_list(__grains__, name) for name in map(str, wanted)}
    return {**document, "grains": values} if wanted else document


def stage(builds=None, payloads=None, spread=0, **kwargs):
    """
    Fetch the module of a level ahead of the move, check its digest and keep it; nothing is loaded, and it
    needs no approval to be there. A rollout calls this before it approves.

    builds
        By kernel build, as in an approval: ``{build_id: {"level": 2, "sha256": "..."}}``.
    payloads
        By kernel build, for a level that the file server withholds: its catalog entry and the module itself.
    spread
        Seconds over which the hosts divide themselves before they fetch.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch.stage '{"4f1c...": {"level": 2, "sha256": "9a3e..."}}'
    """
    host = _host(kwargs)
    try:
        answer = {"result": True, **host_stage.stage(host, builds, payloads, spread)}
    except LivepatchError as error:
        __context__["retcode"] = 1
        answer = {"result": False, "comment": str(error), "kind": str(error.kind)}
    return {**answer, "look": _answer(lambda: _brief(host, True))}


def at_level(**kwargs):
    """
    Whether a level above 0 is in force; what SLS files ask in ``onlyif``.

    CLI Example:

    .. code-block:: bash

        salt '*' livepatch.at_level
    """
    return bool(_answer(lambda: host_status.brief(_host(kwargs)))["level"])


def soaked(**kwargs):
    """
    Do the health check that is due for a level that has yet to prove itself, as the systemd timer does, and
    revert it if it fails; for hosts without the timer, and for probes that need a master or pillar.

    CLI Example:

    .. code-block:: bash

        salt '*' livepatch.soaked
    """
    return _act("soaked", kwargs, soak.tick)


def cves(**kwargs):
    """
    CVEs by what is known of them here: ``fixed`` in the running kernel, ``fixable`` by a released level of
    the catalog, ``uncovered`` (named in the catalog, but by no level that may be loaded on this build).

    CLI Example:

    .. code-block:: bash

        salt '*' livepatch.cves
    """
    host = _host(kwargs)
    return _answer(lambda: host_cves.cves(host, _status(host)))


# -- between Salt and the library -----------------------------------------------------------------------


def _host(kwargs):
    """The host as the library sees it; refuses arguments that no function here has."""
    unknown = salt.utils.args.clean_kwargs(**kwargs)
    unknown.pop("saltenv", None)
    if unknown:
        salt.utils.args.invalid_kwargs(unknown)
    return _answer(lambda: calls.host_of(__opts__, kwargs, _cache_file, (SaltException,), _ask))


def _cache_file(url, saltenv):
    return __salt__["cp.cache_file"](url, saltenv)


def _status(host):
    return whole.status(host, face.Site(host.roots), inquiry.covered(host), *for_one_look())


def _brief(host, health):
    document = {**host_status.brief(host), "restart": restart_record.shown(host)}
    return {**document, "health": soak.check_now(host).document()} if health else document


def _ask(fun, args):
    """The answer of an execution function that the operator named as a probe."""
    return calls.called(__salt__, __context__, fun, args, {})[0]


def _approval_in_pillar():
    """From ``__pillar__`` and not by pillar.get, which on 3008 shows an execution module asterisks."""
    value = __pillar__.get("livepatch")
    if value is None:
        return None
    return value.get("approval") if isinstance(value, Mapping) else {"error": "livepatch is no mapping"}


def _read(path):
    """A module file from the host or from the file server."""
    if not isinstance(path, str) or not path:
        raise SaltInvocationError(f"path is {path!r}, not the path of a file")
    if "://" in path:
        saltenv = __opts__.get("saltenv") or "base"
        data = calls.fetch(_cache_file, (SaltException,), path, saltenv)
    else:
        try:
            data = Path(path).read_bytes()
        except OSError as problem:
            raise LivepatchError(
                Kind.ARGUMENT,
                f"{path} could not be read ({problem.strerror}); nothing was changed.",
                remedy=MODULE_PLACES,
            ) from problem
    if data is None:
        raise LivepatchError(
            Kind.ARGUMENT, f"There is no file {path}; nothing was changed.", remedy=MODULE_PLACES
        )
    return data


def _wish(level, reason, approval, on_stall, deadline, override, test, by_state=False):
    if level is not None and type(level) is not int:
        raise SaltInvocationError(f"level is {level!r}, not an integer from 0")
    return Wish(
        approval=approval,
        level=level,
        reason=reason,
        on_stall=None if on_stall is None else _checked(calls.word, "on_stall", on_stall, OnStall),
        deadline=None if deadline is None else _checked(calls.seconds, "deadline", deadline),
        override=_checked(calls.names, "override", override),
        test=_testing(test),
        by_state=by_state,
    )


def _order(reason, on_stall, deadline, override, test):
    return byhand.Order(
        reason=reason,
        on_stall=None if on_stall is None else _checked(calls.word, "on_stall", on_stall, OnStall),
        deadline=None if deadline is None else _checked(calls.seconds, "deadline", deadline),
        override=_checked(calls.names, "override", override),
        test=_testing(test),
    )


def _testing(test):
    return bool(test) or bool(__opts__.get("test"))


def _expected(level, test):
    if level is not None and (type(level) is not int or level < 0 or not _testing(test)):
        raise SaltInvocationError(f"expected is {level!r}: it is an integer from 0, and goes with test=True")
    return level


def _checked(check, name, value, *more):
    """An argument as ``livepatch_core.host.calls`` checks it."""
    return check(name, value, *more, SaltInvocationError)


def _act(verb, kwargs, perform):
    """Run an act: its document, and the return code that goes with it; the master is told what it changed."""
    host = _host(kwargs)
    outcome = calls.concluded(lambda: perform(host), __context__)
    _tell(host, events.of_act(verb, outcome, host.who))
    return outcome.document()


def _answer(question):
    return calls.answered(question, CommandExecutionError)


def _tell(host, event):
    """Send ``event``, if there is one, and the crashes of which nobody was told; then the grain is read anew.

    Whatever fails here is logged: what was done is done.
    """
    try:
        crashes = told.tell(host, lambda crash: _send(events.of_crash(crash, host.who)))
    except LivepatchError as problem:
        log.warning("the master is not told of crashes: %s", problem)
        crashes = ()
    if event is not None:
        _send(event)
    if crashes or event is not None:
        _call("saltutil.refresh_grains", refresh_pillar=False)


def _send(event):
    return _call("event.send", event.tag, dict(event.data))


def _call(function, *args, **kwargs):
    """Whether it did what it says; the act that this comes after does not fail for it."""
    try:
        done = bool(__salt__[function](*args, **kwargs))
    except (SaltException, OSError, KeyError) as problem:
        log.warning("%s failed: %s: %s", function, type(problem).__name__, problem)
        return False
    if not done:
        log.warning("%s (%s) reached no minion", function, ", ".join(map(str, args[:1])))
    return done
