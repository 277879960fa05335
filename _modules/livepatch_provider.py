"""
Other live-patch systems on this host: Ksplice, KernelCare, Canonical Livepatch, kGraft
=======================================================================================

``livepatch.status`` tells what is in force whichever system is underneath; here each is asked by itself, and
told to bring in or take out what it has, where it can. Their patches follow their vendors' rules: approvals
and levels of this project do not reach them.

Configuration (in the *minion's* configuration, never pillar):

.. code-block:: yaml

    livepatch_provider:
      allow: [ksplice]      # those that apply and revert may act on; default none

Every function that changes something returns ``result``, ``comment``, ``changes``, and ``kind`` on failure,
as those of ``livepatch`` do; with ``test=True`` it changes nothing.

Functions that only read raise CommandExecutionError, so that the job fails, where what was asked for cannot
be read or found; a call that makes no sense raises SaltInvocationError.
"""

from __future__ import annotations

from collections.abc import Mapping

import salt.utils.args
from salt.exceptions import CommandExecutionError, SaltInvocationError

import livepatch_core

livepatch_core.refresh()

from livepatch_core.host import calls
from livepatch_core.host.context import Host
from livepatch_core.providers import acts, face

__virtualname__ = "livepatch_provider"


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "livepatch_provider needs a Linux kernel"
    return __virtualname__


def status(**kwargs):
    """
    Every other live-patch system that is at work on this host: ``provider``, ``verdict`` and ``reason``, CVE
    names in ``fixes``, ``effective`` kernel version, and whether its word rests on the ``kernel`` or only on
    its ``client`` (``evidence``). An empty list: none was found. Reads only.

    CLI Example:

    .. code-block:: bash

        salt '*' livepatch_provider.status
    """
    _call(kwargs)
    return calls.answered(lambda: face.others(face.statuses(face.Site())), CommandExecutionError)


def apply(provider, reason=None, test=False, **kwargs):
    """
    Have a system bring in what its vendor has for this kernel. What it then says of itself decides.

    provider
        ``ksplice``, ``kernelcare`` or ``canonical``; must be allowed in the minion's own configuration.
    reason
        Why; needed, goes into the host's journal.
    test
        Change nothing; say what would be done.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch_provider.apply ksplice reason='ticket 42'
    """
    return _act(acts.apply, provider, reason, test, kwargs)


def revert(provider, reason=None, test=False, **kwargs):
    """
    Take everything of a system out of the kernel. Canonical Livepatch cannot; only a boot does.

    provider
        ``ksplice``, ``kernelcare`` or ``kgraft``; must be allowed in the minion's own configuration.
    reason
        Why; needed, goes into the host's journal.
    test
        Change nothing; say what would be done.

    CLI Example:

    .. code-block:: bash

        salt 'host1' livepatch_provider.revert ksplice reason='ticket 42'
    """
    return _act(acts.revert, provider, reason, test, kwargs)


# -- between Salt and the library -----------------------------------------------------------------------


def _call(kwargs):
    """The host, and the providers that the minion's configuration allows."""
    unknown = salt.utils.args.clean_kwargs(**kwargs)
    if unknown:
        salt.utils.args.invalid_kwargs(unknown)
    configured = __opts__.get("livepatch_provider") or {}
    allowed = configured.get("allow", []) if isinstance(configured, Mapping) else None
    if not isinstance(allowed, list) or set(configured) - {"allow"}:
        raise CommandExecutionError("livepatch_provider in the minion configuration: only allow, a list")
    settings = calls.answered(lambda: calls.settings_of(__opts__), CommandExecutionError)
    return Host(settings, lambda name: None, calls.who(kwargs, __opts__)), tuple(allowed)


def _act(perform, provider, reason, test, kwargs):
    """Run an act: its document, and the return code that goes with it."""
    if not isinstance(provider, str):
        raise SaltInvocationError(f"provider is {provider!r}, not a name")
    host, allowed = _call(kwargs)
    order = acts.Order(provider, reason, allowed, bool(test) or bool(__opts__.get("test")))
    return calls.concluded(lambda: perform(host, face.Site(), order), __context__).document()
