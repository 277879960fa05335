"""
Starting another kernel under an approval
=========================================

What a rollout by kexec or reboot tells a host: ``check`` whether it could, ``leave`` (load the kernel,
drain, boot), and ``finish`` once it is back (kernel, level and health verified, undrain). Each may be asked
again and then gives the same answer; a host is booted once for an approval. An operator alone has
``kexec.boot``, and ``finish`` for what a rollout left behind.

What was begun and what is owed stands in ``restart.json`` in the state directory of ``livepatch``, whose
configuration holds here. Every function that changes something returns ``result``, ``comment``, ``changes``,
and ``kind`` on failure, as those of ``livepatch`` do.

``status`` raises CommandExecutionError, so that the job fails, where the record cannot be read; ``check``
says in ``comment`` why not, with ``result`` False. A call that makes no sense raises SaltInvocationError.
"""

from __future__ import annotations

import salt.utils.args
from salt.exceptions import CommandExecutionError, SaltException, SaltInvocationError

import livepatch_core

livepatch_core.refresh()

from livepatch_core.errors import LivepatchError
from livepatch_core.host import calls
from livepatch_core.restart import arriving, hooks, leaving, record
from livepatch_core.restart import kernel as restart_kernel

__virtualname__ = "livepatch_restart"


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "livepatch_restart needs a Linux kernel"
    return __virtualname__


def status(**kwargs):
    """
    The last restart under an approval: ``stage`` (``begun``, ``draining``, ``leaving``, ``finishing``,
    ``done``), whether what was drained is ``owed``, ``result`` and ``comment``, and the ``evidence`` found
    afterwards: boot ids, kernel as asked, seconds away. None where there was none. Reads only.

    CLI Example:

    .. code-block:: bash

        salt '*' livepatch_restart.status
    """
    host = _host(kwargs)
    found = _answer(lambda: record.read_restart(host))
    return None if found is None else found.document()


def check(method, kernel="newest", drain=None, undrain=None, **kwargs):
    """
    Whether this host could be restarted, without touching anything: ``kernel``, the release that would run,
    and ``running``; or why not. Only the kernel itself can judge an image for good.

    method
        ``kexec`` or ``reboot``.
    kernel
        A release that is installed, or ``newest`` (default).
    drain, undrain
        As for :py:func:`leave`.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch_restart.check kexec
    """
    host, how = _host(kwargs), _method(method)

    def ask():
        used = (hooks.parse_hook("drain", drain), hooks.parse_hook("undrain", undrain))
        return {"result": True, **restart_kernel.check(host, how, _release(kernel), _hooks(), *used)}

    try:
        answer = ask()
    except LivepatchError as error:
        __context__["retcode"] = 1
        answer = {"result": False, "comment": str(error), "kind": str(error.kind)}
    return {**answer, "look": __salt__["livepatch.brief"](health=True)}


def leave(
    method,
    approval,
    kernel="newest",
    drain=None,
    undrain=None,
    reason="",
    delay=leaving.DELAY,
    deadline=leaving.DRAIN_SECONDS,
    test=False,
    **kwargs,
):
    """
    Start another kernel: load it (only the running kernel can judge it, so before anything is drained), drain
    this host, and leave a moment after this returned. What fails is undone in reverse, and nothing is booted.
    For the same approval again: the same answer, and nothing else.

    method
        ``kexec``, or ``reboot`` (through the firmware, whose boot loader chooses the kernel).
    approval
        As the rollout passes it: ``{"ledger_id", "rev", "builds"}``; ``builds`` must have an entry for the
        kernel's release. A newer one that comes during the drain stops it.
    kernel
        A release that is installed, or ``newest`` (default): the newest complete one of the running flavour.
        With ``reboot`` it is only what is expected.
    drain, undrain
        ``{"fun", "args", "kwargs"}``: what empties this host before, and what fills it again. undrain is
        called after a failure, too.
    reason
        Why; goes into the host's journal.
    delay
        Seconds from the answer to leaving, default 15.
    deadline
        Seconds after which it does not leave any more, default 1800.
    test
        Change nothing; say what would be done.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch_restart.leave kexec '{ledger_id: l, rev: 7, builds: {...}}' test=True
    """
    host, how = _host(kwargs), _method(method)

    def act():
        order = leaving.Order(
            approval=approval,
            method=how,
            kernel=_release(kernel),
            drain=hooks.parse_hook("drain", drain),
            undrain=hooks.parse_hook("undrain", undrain),
            reason=str(reason),
            delay=calls.seconds("delay", delay, SaltInvocationError, zero=True),
            deadline=calls.seconds("deadline", deadline, SaltInvocationError),
            test=bool(test) or bool(__opts__.get("test")),
        )
        return leaving.restart(host, order, _hooks())

    return _act(act)


def finish(**kwargs):
    """
    After the boot: verify kernel, level and health, then bring back what was drained, whatever was found. A
    host that was told to leave and did not is taken back to where it was. Again: the same answer; what is
    still owed is tried once more. The level is that of the approval under which it was restarted, unless a
    newer one came since.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch_restart.finish
    """
    host = _host(kwargs)
    answer = _act(lambda: arriving.finish(host, _hooks()))
    return {**answer, "look": __salt__["livepatch.brief"](health=True)}


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


def _method(value):
    return calls.word("method", value, record.Method, SaltInvocationError)


def _release(value):
    if not isinstance(value, str) or not value:
        raise SaltInvocationError(f"kernel is {value!r}, neither a release nor 'newest'")
    return value


def _hooks():
    return hooks.Hooks(lambda fun: fun in __salt__, lambda one: _called(one.fun, one.args, dict(one.kwargs)))


def _ask(fun, args):
    """The answer of an execution function that the operator named as a probe."""
    return _called(fun, args, {})[0]


def _called(fun, args, kwargs):
    return calls.called(__salt__, __context__, fun, args, kwargs)


def _act(perform):
    """Run an act: its document, and the return code that goes with it."""
    return calls.concluded(perform, __context__).document()


def _answer(question):
    return calls.answered(question, CommandExecutionError)
