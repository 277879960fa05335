"""
The level a host shall be at, and whether it shall be there after a boot
========================================================================

.. code-block:: yaml

    kernel-fixes:
      livepatch.applied:
        - uncovered: warn

    kernel-fixes-at-boot:
      livepatch.persisted:
        - require:
          - livepatch: kernel-fixes

``applied`` and ``absent`` go by the same rule as ``livepatch.apply``: without an approval the host holds what
it has, and the state fails. With ``test=True`` the changes are what a real preflight predicts.
"""

from __future__ import annotations

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "livepatch"

CHOICES = ("fail", "warn", "ok")
PREDICTED = "livepatch.predicted_level"  # in the context that the states of one run share


def __virtual__():
    if "livepatch.apply" not in __salt__:
        return False, "the execution module livepatch is not available"
    return __virtualname__


def applied(
    name,
    level="approved",
    reason=None,
    uncovered="fail",
    unsupported="fail",
    frozen="fail",
    on_stall=None,
    deadline=None,
    override=None,
):
    """
    The host is at its level, and every function that the level promised is in force.

    name
        Any name; nothing is read from it.
    level
        ``approved`` (default): where the host's approval in pillar says. An integer: that level, by hand;
        needs ``reason``, and holds until this kernel build is approved anew or given another level by hand;
        from then on this state fails (``superseded``) where the host was told another level. ``newest``:
        the newest released level, on minions whose own configuration has ``policy: newest``.
    reason
        Why, for a level given as an integer; goes into the host's journal. Another reason makes it a new
        level by hand, which holds again.
    uncovered
        What it means that the catalog has no level for this kernel build: ``fail`` (default), ``warn`` or
        ``ok``.
    unsupported
        The same for a kernel that cannot be live-patched.
    frozen
        The same for a host that somebody has frozen (``livepatch_ledger.freeze``): it holds its level.
    on_stall, deadline, override
        As for :py:func:`livepatch.apply`.

    .. code-block:: yaml

        at the approved level:
          livepatch.applied:
            - uncovered: warn
            - unsupported: ok
    """
    said = {"uncovered": uncovered, "unsupported": unsupported, "frozen": frozen}
    wrong = [f"{key} is {value!r}, not one of {', '.join(CHOICES)}" for key, value in said.items()]
    wrong = [text for text, value in zip(wrong, said.values()) if value not in CHOICES]
    if level not in ("approved", "newest") and type(level) is not int:
        wrong.append(f"level is {level!r}, not approved, newest or an integer from 0")
    if wrong:
        return _state(name, False, "; ".join(wrong) + "; nothing was changed.")
    asked = {"on_stall": on_stall, "deadline": deadline, "override": override}
    if type(level) is int:
        asked.update(level=level, reason=reason, by_state=True)
    if level == "newest" and (__opts__.get("livepatch") or {}).get("policy") != "newest":
        text = "level newest needs livepatch:policy newest in the minion's own configuration"
        return _state(name, False, f"{text}; nothing was changed.")
    return _done(name, "apply", said, asked)


def absent(name, reason=None, on_stall=None, deadline=None):
    """
    The host is at level 0: nothing that this project loaded is in force.

    name
        Any name.
    reason
        Why; needed, as this is a level by hand: it holds until this kernel build is approved anew, and as
        with ``applied`` not again after that, until the reason is another one.
    on_stall, deadline
        As for :py:func:`livepatch.apply`.

    .. code-block:: yaml

        nothing in force:
          livepatch.absent:
            - reason: this host is kept as it booted
    """
    asked = {"level": 0, "reason": reason, "by_state": True, "on_stall": on_stall, "deadline": deadline}
    return _done(name, "apply", {}, asked)


def persisted(name):
    """
    The level in force is loaded again at boot, without a master: at once if it has proved healthy, else as
    soon as it has. True at level 0 too, where the next boot loads nothing. With ``test=True`` after an
    ``applied`` or ``absent`` of the same run it goes by the level that these predict.

    name
        Any name.

    .. code-block:: yaml

        there after a boot:
          livepatch.persisted: []
    """
    return _done(name, "persist", {}, {"expected": _predicted()})


def not_persisted(name):
    """
    Nothing is loaded at boot; what is in force stays until then.

    name
        Any name.

    .. code-block:: yaml

        gone after a boot:
          livepatch.not_persisted: []
    """
    return _done(name, "not_persisted", {}, {"expected": _predicted()})


def mod_watch(name, sfun="applied", **kwargs):
    """
    When something watched has changed, the state is asked again: a move happens only if one is due.

    name
        As of the state that watches.
    sfun
        Which function of this module watches.

    .. code-block:: yaml

        at the approved level:
          livepatch.applied:
            - watch:  # a change there calls livepatch.mod_watch
              - file: /etc/salt/minion.d/livepatch.conf
    """
    functions = {
        "applied": applied,
        "absent": absent,
        "persisted": persisted,
        "not_persisted": not_persisted,
    }
    if sfun not in functions:
        return _state(name, False, f"livepatch.{sfun} cannot watch; nothing was changed.")
    wanted = {key: value for key, value in kwargs.items() if key in _arguments(functions[sfun])}
    return functions[sfun](name, **wanted)


def _predicted():
    """The level that an earlier state of this dry run would have brought about, None where none would."""
    return __context__.get(PREDICTED) if __opts__.get("test") else None


def _arguments(function):
    return function.__code__.co_varnames[1 : function.__code__.co_argcount]


def _done(name, verb, choices, arguments):
    """Ask the execution module, and say what it said as a state does."""
    given = {key: value for key, value in arguments.items() if value is not None}
    try:
        answer = __salt__[f"livepatch.{verb}"](test=bool(__opts__.get("test")), **given)
    except (CommandExecutionError, SaltInvocationError) as problem:
        return _state(name, False, str(problem))
    choice = choices.get(answer.get("kind"), "fail")
    if answer["result"] is False and choice != "fail":
        __context__.pop("retcode", None)  # the module took it for a failure; here it is none
        state = _state(name, True, answer["comment"])
        return {**state, "warnings": [answer["comment"]]} if choice == "warn" else state
    if answer.get("test") and verb == "apply" and "level" in answer["changes"]:
        __context__[PREDICTED] = answer["changes"]["level"]["new"]
    result = None if answer.get("test") and answer["changes"] else answer["result"]
    return _state(name, result, answer["comment"], answer["changes"])


def _state(name, result, comment, changes=None):
    return {"name": name, "result": result, "comment": comment, "changes": dict(changes or {})}
