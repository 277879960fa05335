"""
Starting another kernel with kexec
==================================

What cannot be patched live needs another kernel. kexec starts it without the firmware: the running kernel
loads the image, and at the end of an orderly shutdown jumps into it. Services stop and start again; only the
firmware's own minutes are saved. The level of the new kernel is loaded by the boot unit, as after any boot.

The files are those of ``livepatch``: the minion's configuration key ``livepatch`` says where its state is.
What was loaded, and when this host left which kernel, stands in ``kexec.json`` in its state directory.

Every function that changes something returns ``result`` (True or False), ``comment`` (a sentence),
``changes`` (old and new), and when it was refused or failed ``kind``, one word of a fixed list. With
``test=True`` it changes nothing, ``test`` is True and ``changes`` is what would change. The job's return code
is 1 whenever ``result`` is False.

Functions that only read raise CommandExecutionError, so that the job fails, where what was asked for cannot
be read or found; a call that makes no sense raises SaltInvocationError.
"""

from __future__ import annotations

import salt.utils.args
from salt.exceptions import CommandExecutionError, SaltException, SaltInvocationError

import livepatch_core

livepatch_core.refresh()

from livepatch_core.host import calls
from livepatch_core.kexec import boot as kexec_boot
from livepatch_core.kexec import candidates as kexec_candidates
from livepatch_core.kexec import load as kexec_load
from livepatch_core.kexec import status as kexec_status
from livepatch_core.kexec.leave import How
from livepatch_core.restart import byhand

__virtualname__ = "kexec"


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "kexec needs a Linux kernel"
    return __virtualname__


def status(**kwargs):
    """
    What is loaded for the next boot, and what became of the last order to leave: ``last.ended`` is
    ``ordered`` (still to come), ``stayed`` (the host never left), ``kexec`` (this boot was started by it) or
    ``otherwise`` (the host booted, but not by it). ``last.as_asked``: the kernel that runs is the one that
    was asked for. ``last.away``: seconds until the new ``kernel`` ran and until its ``level`` was in force.
    Reads only.

    CLI Example:

    .. code-block:: bash

        salt '*' kexec.status
    """
    return _answer(lambda: kexec_status.status(_host(kwargs)))


def candidates(**kwargs):
    """
    The kernels installed on this host, newest first, by Debian's order of versions: ``release``, ``flavour``,
    whether it is ``running``, what it is ``missing`` to be started, whether it supports ``livepatch``, and
    the ``fixes`` it carries by the catalog's ``kernels.yaml`` (None where there is no such file). ``newest``
    is the newest complete one of the running flavour, None where only older ones than what runs are there;
    ``newer`` whether it is newer than what runs; ``newest_since`` when it was installed.
    ``incomplete_newer``: releases that would be the newest, and what each lacks.

    CLI Example:

    .. code-block:: bash

        salt '*' kexec.candidates
    """
    return _answer(lambda: kexec_candidates.candidates(_host(kwargs)))


def preflight(kernel="newest", image="", initrd="", cmdline="", override=None, **kwargs):
    """
    Everything ``load`` would check, without loading: each check with its verdict (``pass``, ``fail``,
    ``warn``, ``inconclusive``), reason and remedy. Only the kernel itself can judge an image for good.

    kernel, image, initrd, cmdline, override
        As for :py:func:`load`.

    CLI Example:

    .. code-block:: bash

        salt '*' kexec.preflight
    """
    host, wish = _host(kwargs), _wish(kernel, image, initrd, cmdline, override, True)
    return _answer(lambda: kexec_load.preflight(host, wish))


def load(kernel="newest", image="", initrd="", cmdline="", override=None, test=False, **kwargs):
    """
    Load a kernel for ``kexec.boot``; nothing else happens yet. The running kernel reads and judges the image
    (``kexec_file_load``). A second call changes nothing. A crash kernel is left alone.

    kernel
        A release that is installed, or ``newest`` (default): the newest complete one of the running flavour.
    image
        The path of its image; default: the one that its package installed.
    initrd
        The path of its initrd; default: the one that its package made. False: start it without one.
    cmdline
        Its command line; default: the running one. A word ``livepatch.kexec=...`` is added, by which the boot
        is recognised afterwards.
    override
        Names of checks whose answer shall not refuse: ``image-loaded`` (somebody else loaded one),
        ``initrd``, ``modules``, ``livepatch-support``, ``memory``.
    test
        Change nothing; say what would be done.

    CLI Example:

    .. code-block:: bash

        salt 'host1' kexec.load test=True
        salt 'host1' kexec.load 6.1.0-57-amd64
    """
    return _act(
        kwargs,
        test,
        lambda host, testing: kexec_load.load(host, _wish(kernel, image, initrd, cmdline, override, testing)),
    )


def unload(test=False, **kwargs):
    """
    Forget the loaded image, whoever loaded it, and take back an order to start it that is still pending.

    test
        Change nothing; say what would be done.

    CLI Example:

    .. code-block:: bash

        salt 'host1' kexec.unload
    """
    return _act(kwargs, test, kexec_load.unload)


def boot(
    kernel=None,
    reason=None,
    how=None,
    delay=5,
    image="",
    initrd="",
    cmdline="",
    override=None,
    test=False,
    **kwargs,
):
    """
    Start the loaded kernel, a moment from now, so that this call still returns. Where PID 1 is systemd its
    own way is taken: services are stopped, file systems unmounted. Ask :py:func:`status` afterwards. Refused
    (busy, conflict) while a restart under an approval drains this host, or where one died in its drain.

    kernel
        What to load first, as for :py:func:`load`, and anew where it is loaded already: the kernel does not
        tell which image it has. Default: what is loaded, which must be ours by our own notes; another program
        that has loaded its own image since is not noticed then, so name the kernel.
    reason
        Why; needed, goes into the host's journal.
    how
        ``systemd`` or ``direct`` (sync and jump: nothing is stopped before); default: what PID 1 is.
    delay
        Seconds until it starts, default 5.
    image, initrd, cmdline, override
        As for :py:func:`load`; for a ``kernel`` named here.
    test
        Change nothing; say what would be done.

    CLI Example:

    .. code-block:: bash

        salt 'host1' kexec.boot newest reason='CVE-2026-1 cannot be patched live'
    """

    manner = None if how is None else calls.word("how", how, How, SaltInvocationError)
    seconds = calls.seconds("delay", delay, SaltInvocationError, zero=True)

    def act(host, testing):
        wish = None if kernel is None else _wish(kernel, image, initrd, cmdline, override, testing)
        return byhand.boot(host, kexec_boot.Order(wish, reason, manner, seconds, testing))

    return _act(kwargs, test, act)


# -- between Salt and the library -----------------------------------------------------------------------


def _host(kwargs):
    """The host as the library sees it; refuses arguments that no function here has."""
    unknown = salt.utils.args.clean_kwargs(**kwargs)
    unknown.pop("saltenv", None)
    if unknown:
        salt.utils.args.invalid_kwargs(unknown)
    return _answer(lambda: calls.host_of(__opts__, kwargs, _cache_file, (SaltException,)))


def _cache_file(url, saltenv):
    return __salt__["cp.cache_file"](url, saltenv)


def _wish(kernel, image, initrd, cmdline, override, test):
    for name, value in (("kernel", kernel), ("image", image), ("cmdline", cmdline)):
        if not isinstance(value, str):
            raise SaltInvocationError(f"{name} is {value!r}, not a text")
    if initrd is not False and not isinstance(initrd, str):
        raise SaltInvocationError(f"initrd is {initrd!r}, neither a path nor False")
    return kexec_load.Wish(
        kernel=kernel,
        image=image,
        initrd=None if initrd is False else initrd,
        cmdline=cmdline,
        override=calls.names("override", override, SaltInvocationError),
        test=test,
    )


def _act(kwargs, test, perform):
    """Run an act: its document, and the return code that goes with it."""
    host, testing = _host(kwargs), bool(test) or bool(__opts__.get("test"))
    return calls.concluded(lambda: perform(host, testing), __context__).document()


def _answer(question):
    return calls.answered(question, CommandExecutionError)
