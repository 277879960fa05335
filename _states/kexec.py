"""
The kernel a host shall run, started with kexec
===============================================

.. code-block:: yaml

    newest kernel:
      kexec.booted:
        - kernel: newest
        - reason: monthly kernel
        - order: last

The host leaves a few seconds after the state has run: have nothing come after it.
"""

from __future__ import annotations

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "kexec"


def __virtual__():
    if "kexec.boot" not in __salt__:
        return False, "the execution module kexec is not available"
    return __virtualname__


def booted(name, kernel="newest", reason=None, how=None, delay=10, override=None, again=False):
    """
    The host runs that kernel; it is started with kexec if it does not. Runs nothing twice: an order that did
    not lead to that kernel is not given again by itself, so that no highstate starts a host in a circle.

    name
        Any name; nothing is read from it.
    kernel
        A release that is installed, or ``newest`` (default): the newest complete one of the running flavour.
        ``newest`` never goes back to an older one: where only older ones are installed the state fails.
    reason
        Why; needed when the host has to leave, goes into its journal.
    how
        ``systemd`` or ``direct``; default: what PID 1 is.
    delay
        Seconds until it starts, default 10.
    override
        As for :py:func:`kexec.load`.
    again
        Give an order again that did not lead to that kernel the last time.

    .. code-block:: yaml

        newest kernel:
          kexec.booted:
            - reason: CVE-2026-1 cannot be patched live
            - order: last
    """
    try:
        wanted, settled = _wanted(kernel)
        if settled:
            return _state(name, True, settled)
        last = __salt__["kexec.status"]()["last"]
        if last and last["to"] == wanted and last["ended"] in ("stayed", "otherwise") and not again:
            text = (
                f"Kernel {wanted} was ordered at {last['at']}, and the host does not run it ({last['ended']})"
            )
            return _state(name, False, f"{text}. See why; then say again: true.")
        asked = {"kernel": wanted, "reason": reason, "how": how, "delay": delay, "override": override}
        done = __salt__["kexec.boot"](test=bool(__opts__["test"]), **asked)
    except (CommandExecutionError, SaltInvocationError) as problem:
        return _state(name, False, str(problem))
    result = None if done.get("test") and done["changes"] else done["result"]
    return _state(name, result, done["comment"], done["changes"])


def mod_watch(name, sfun=None, **kwargs):
    """
    Do the state again when something it watches has changed.

    name, sfun, kwargs
        As Salt passes them.

    .. code-block:: yaml

        kexec.booted:
          - watch:
            - pkg: linux-image-amd64  # then kexec.mod_watch is called
    """
    if sfun != "booted":
        return _state(name, False, f"kexec.{sfun} cannot watch anything.")
    known = ("kernel", "reason", "how", "delay", "override", "again")
    return booted(name, **{key: value for key, value in kwargs.items() if key in known})


def _wanted(kernel):
    """The release, and a sentence if the host needs nothing."""
    found = __salt__["kexec.candidates"]()
    running, newest = found["running"], found["newest"]
    if kernel != "newest":
        return kernel, f"Kernel {kernel} runs." if kernel == running else ""
    incomplete = "".join(
        f" {one['release']} is newer and lacks its {' and '.join(one['missing'])}: mend its package."
        for one in found["incomplete_newer"]
    )
    if newest is None:
        raise CommandExecutionError(
            f"No complete kernel of the running flavour that is not older than {running} is installed; "
            f"nothing was changed.{incomplete}"
        )
    if found["newer"]:
        return newest, ""
    none = "none that is newer is complete" if incomplete else "none that is newer is installed"
    return newest, f"Kernel {running} runs; {none}.{incomplete}"


def _state(name, result, comment, changes=None):
    return {"name": name, "result": result, "comment": comment, "changes": changes or {}}
