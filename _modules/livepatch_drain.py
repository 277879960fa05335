"""
Emptying a libvirt host before it leaves, and filling it again
==============================================================

``drain`` saves every virtual machine to disk (or shuts it down, or runs the operator's command that moves all
to other hosts), ``undrain`` brings them back and sets their clocks. Take them as the drain and undrain of a
rollout by kexec or reboot. Either all leave or none: what cannot be saved stops it, and the others return,
with their clocks set. What the operator's command moved stays away until ``undrain``.

Configuration (in the *minion's* configuration, never pillar), all optional:

.. code-block:: yaml

    livepatch_drain:
      uri: qemu:///system
      means: save             # save, shutdown or command
      timeout: 600            # seconds for each virtual machine; a command has that time for each as well
      command: [/usr/local/sbin/evacuate, --all]       # for means command
      back: [/usr/local/sbin/evacuate, --return]

Every function that changes something returns ``result``, ``comment``, ``changes``, and ``kind`` on failure,
as those of ``livepatch`` do.

Functions that only read raise CommandExecutionError, so that the job fails, where what was asked for cannot
be read or found; a call that makes no sense raises SaltInvocationError.
"""

from __future__ import annotations

from collections.abc import Mapping

import salt.utils.args
from salt.exceptions import CommandExecutionError, SaltInvocationError

import livepatch_core

livepatch_core.refresh()

from livepatch_core.drain import drain as host_drain
from livepatch_core.drain.record import Means
from livepatch_core.drain.virsh import URI, Virsh
from livepatch_core.host import calls
from livepatch_core.host.context import Host

__virtualname__ = "livepatch_drain"

KEYS = ("uri", "means", "timeout", "command", "back")


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "livepatch_drain needs a Linux kernel"
    return __virtualname__


def status(**kwargs):
    """
    Which virtual machines run here (``active``) and which left and are not back (``drained``). Reads only.

    CLI Example:

    .. code-block:: bash

        salt 'hv1' livepatch_drain.status
    """
    host, virsh, _ = _call(kwargs, {})
    return _answer(lambda: host_drain.status(host, virsh))


def drain(means=None, timeout=None, test=False, **kwargs):
    """
    Take every virtual machine off this host. A second call changes nothing.

    After a drain that died it goes on. Refused while others are away by another ``means`` or libvirt
    (``undrain`` first), and for a transient machine, of which libvirt would forget the definition. Stopped by
    a machine that cannot be saved, and by one that is started meanwhile. A save that takes longer than
    ``timeout`` is aborted. What may yet end, or could not be brought back, is named, and stays in the record
    for ``undrain``.

    means
        ``save`` (default: memory to disk, the guest goes on where it was), ``shutdown``, or ``command``: the
        one of the minion's configuration.
    timeout
        Seconds for each virtual machine, default 600.
    test
        Change nothing; say what would be done.

    CLI Example:

    .. code-block:: bash

        salt 'hv1' livepatch_drain.drain test=True
    """
    host, virsh, order = _call(kwargs, {"means": means, "timeout": timeout}, test)
    return _act(lambda: host_drain.drain(host, virsh, order))


def undrain(timeout=None, test=False, **kwargs):
    """
    Bring back what left, and set the clocks of what was saved (its guest agent does that: where there is none
    the clock stands where it was saved until the guest sets it itself, which the comment says). One is back
    when libvirt says that it runs, also where the operator's command brings it. Machines that the drain had
    not come to are not started.

    timeout
        Seconds for each virtual machine, default 600.
    test
        Change nothing; say what would be done.

    CLI Example:

    .. code-block:: bash

        salt 'hv1' livepatch_drain.undrain
    """
    host, virsh, order = _call(kwargs, {"timeout": timeout}, test)
    return _act(lambda: host_drain.undrain(host, virsh, order))


# -- between Salt and the library -----------------------------------------------------------------------


def _call(kwargs, given, test=False):
    """Host, libvirt and order: arguments first, then the minion's configuration."""
    unknown = salt.utils.args.clean_kwargs(**kwargs)
    if unknown:
        salt.utils.args.invalid_kwargs(unknown)
    configured = __opts__.get("livepatch_drain") or {}
    if not isinstance(configured, Mapping) or set(configured) - set(KEYS):
        raise CommandExecutionError(f"livepatch_drain in the minion configuration: only {', '.join(KEYS)}")
    chosen = {**configured, **{key: value for key, value in given.items() if value is not None}}
    order = host_drain.Order(
        means=calls.word("means", chosen.get("means", "save"), Means, SaltInvocationError),
        timeout=calls.seconds(
            "timeout", chosen.get("timeout", host_drain.LEAVE_SECONDS), SaltInvocationError
        ),
        command=_words("command", chosen.get("command", [])),
        back=_words("back", chosen.get("back", [])),
        test=bool(test) or bool(__opts__.get("test")),
    )
    host = Host(_answer(lambda: calls.settings_of(__opts__)), lambda name: None, calls.who(kwargs, __opts__))
    return host, Virsh(str(chosen.get("uri", URI))), order


def _words(name, value):
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise SaltInvocationError(f"livepatch_drain:{name} is {value!r}, not a list of words")
    return tuple(value)


def _act(perform):
    """Run an act: its document, and the return code that goes with it."""
    return calls.concluded(perform, __context__).document()


def _answer(question):
    return calls.answered(question, CommandExecutionError)
