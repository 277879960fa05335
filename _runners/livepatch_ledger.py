"""
The ledger: which host may go to which level
============================================

No host moves without an approval. ``approve`` writes one for each host of a target, the external pillar
``livepatch`` hands it to its host, and every write raises the ledger's ``rev``: the highest rev wins,
whatever reaches a host late. A rollback is an approval of a lower level.

Configuration (of the master):

.. code-block:: yaml

    livepatch:
      catalog_dir: /srv/livepatch
      state_dir: /var/lib/livepatch-master    # the default: the ledger; outside Salt's cachedir
    ext_pillar:
      - livepatch: {}

Functions that change something return ``result``, ``comment`` (a sentence), and when refused ``kind``, one
word of a fixed list; then ``salt-run`` ends with 1 and an orchestration's ``salt.runner`` fails.
"""

from __future__ import annotations

import json

import salt.client
import salt.utils.args
import salt.utils.minions
from salt.exceptions import SaltException

import livepatch_core

livepatch_core.refresh()

from livepatch_core.catalog import calls
from livepatch_core.catalog.shelf import read_shelves, releases
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger import acts, recover
from livepatch_core.ledger import show as showing
from livepatch_core.ledger.grants import grants_for, released
from livepatch_core.ledger.handout import hand_out
from livepatch_core.rollout import targets
from livepatch_core.words import Kind

__virtualname__ = "livepatch_ledger"

MOST_HISTORY = 1_000_000  # writes that are shown
REPORTS = "Make it with: salt --static --out=json '*' livepatch.status."


def __virtual__():
    return __virtualname__


def approve(
    tgt=None,
    level=None,
    why=None,
    tgt_type="glob",
    kernel_build=None,
    release=None,
    while_frozen=False,
    **kwargs,
):
    """
    Let the hosts of a target have a level, whichever kernel build of the catalog they run. For kernel builds
    that have no such level they keep what they had.

    tgt
        The target; it is resolved once, now, against the accepted keys.
    level
        An integer from 0 (unpatched), or ``newest``: the highest released level of each kernel build. A level
        that is in testing or blocked is refused.
    why
        Why; needed.
    tgt_type
        ``glob``, ``list``, ``grain``, ``compound`` ...
    kernel_build
        Only for this kernel build (GNU build-id).
    release
        Only for the kernel builds of this release (``uname -r``).
    while_frozen
        Also for hosts that are frozen; they are handed it when they are thawed.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_ledger.approve 'hv*' 2 why='CVE-2026-1234, ticket 42'
    """

    def act():
        by, master = _author(why), _master()
        only_build, only_release = calls.text("kernel_build", kernel_build), calls.text("release", release)
        grants, without = grants_for(_standings(master), level, only_build, only_release)
        done = acts.approve(master, _resolve(tgt, tgt_type), grants, by, while_frozen=while_frozen is True)
        skipped = f" No such level for kernel build {', '.join(without)}." if without else ""
        sentence = f"Rev {done['rev']}: {done['minions']} hosts may have level {level}"
        comment = f"{sentence} of {len(grants)} kernel builds.{skipped}"
        return {"result": True, "comment": comment, **done, "without": without}

    return _answer(act, kwargs)


def show(tgt=None, tgt_type="glob", history=10, **kwargs):
    """
    What the ledger says: its id and rev, who is frozen, each host's levels, the last writes.

    tgt, tgt_type
        Only these hosts; by default all that have an approval.
    history
        How many writes, newest first.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_ledger.show
        salt-run livepatch_ledger.show 'hv1'
    """

    def ask():
        if type(history) is not int or not 0 <= history <= MOST_HISTORY:
            raise calls.bad_argument(f"history is {history!r}, not an integer from 0 to {MOST_HISTORY}")
        minions = None if tgt is None else set(_resolve(tgt, tgt_type))
        return showing.show(_master().state_dir, minions, history)

    return _answer(ask, kwargs)


def approval(minion=None, **kwargs):
    """
    What one host is handed, exactly as the pillar hands it: its approval, or an error value.

    minion
        The minion's id.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_ledger.approval hv1
    """
    return _answer(lambda: hand_out(_master().state_dir, str(minion)), kwargs)


def freeze(tgt=None, why=None, tgt_type="glob", fleet=False, **kwargs):
    """
    Hand out no approvals: the hosts hold the level they have, and no rollout tells them to move, forward or
    back. What a host was told before goes on.

    tgt, tgt_type
        The hosts.
    why
        Why; needed, the hosts show it.
    fleet
        True instead of a target: every host, also those that come later.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_ledger.freeze 'rack7*' why='disk array is being replaced'
        salt-run livepatch_ledger.freeze fleet=True why='incident 7'
    """
    return _answer(lambda: _frozen(acts.freeze, tgt, why, tgt_type, fleet), kwargs)


def unfreeze(tgt=None, why=None, tgt_type="glob", fleet=False, **kwargs):
    """
    Lift a freeze. That of the fleet and those of single hosts are lifted apart.

    tgt, tgt_type
        The hosts.
    why
        Why, for the record; needed.
    fleet
        True instead of a target: the freeze of the fleet.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_ledger.unfreeze fleet=True why='incident 7 is over'
    """
    return _answer(lambda: _frozen(acts.unfreeze, tgt, why, tgt_type, fleet), kwargs)


def backup(path=None, **kwargs):
    """
    A copy of the ledger in one file, durable when this returns.

    path
        An absolute path; nothing is overwritten.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_ledger.backup /var/backups/ledger-2026-11-24
    """

    def act():
        done = recover.backup(_master(), calls.path(path))
        return {"result": True, "comment": f"Rev {done['rev']} is in {done['path']}.", **done}

    return _answer(act, kwargs)


def restore(path=None, why=None, seen_rev=None, **kwargs):
    """
    Take over the approvals of a backup. The rev goes above every rev known, and the fleet is frozen:
    approvals of the backup may have been superseded since. Look at them, then ``unfreeze``.

    path
        The backup, an absolute path.
    why
        Why; needed.
    seen_rev
        Where the ledger itself is gone: the highest rev that the hosts report (``approved:rev`` in
        livepatch.status). Without it the ledger gets a new id, and hosts have to be told (adopt_ledger).

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_ledger.restore /var/backups/ledger-2026-11-24 why='disk died' seen_rev=812
    """

    def act():
        done = recover.restore(_master(), calls.path(path), _author(why), seen_rev)
        adopt = " It has a new id: run livepatch.adopt_ledger on the hosts." if done["adopt"] else ""
        return {"result": True, "comment": f"{_recovered(done)}{adopt}", **done}

    return _answer(act, kwargs)


def rebuild(tgt=None, why=None, tgt_type="glob", ledger_id=None, reports=None, timeout=60, **kwargs):
    """
    A new ledger from the approvals that the hosts obey, where the old one is lost. The rev goes above every
    rev they report, and the fleet is frozen: look, then ``unfreeze``. Hosts that did not answer have no
    approval.

    tgt, tgt_type
        The hosts to ask.
    why
        Why; needed.
    ledger_id
        Which ledger to go on with, where the hosts obey several.
    reports
        Instead of asking: a JSON file with the hosts' livepatch.status documents by minion id.
    timeout
        Seconds to wait for answers.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_ledger.rebuild '*' why='ledger lost with the disk'
    """

    def act():
        by, master = _author(why), _master()
        answers = _documents(reports) if reports is not None else _ask(tgt, tgt_type, timeout)
        heard = [recover.parse_report(minion, answer) for minion, answer in sorted(answers.items())]
        done = recover.rebuild(
            master, heard, released(_standings(master)), by, calls.text("ledger_id", ledger_id)
        )
        return {"result": True, "comment": _recovered(done), **done}

    return _answer(act, kwargs)


# -- between Salt and the library -----------------------------------------------------------------------


def _frozen(act, tgt, why, tgt_type, fleet):
    if (tgt is None) == (fleet is not True):
        raise calls.bad_argument("Give either a target or fleet=True")
    done = act(_master(), None if fleet is True else _resolve(tgt, tgt_type), _author(why))
    return {"result": True, "comment": f"Rev {done['rev']}.", **done}


def _recovered(done):
    counts = f"is at rev {done['rev']} with {done['minions']} approvals"
    return f"Ledger {done['ledger_id']} {counts}, and the fleet is frozen."


def _standings(master):
    return [one for name in releases(master) for one in read_shelves(master, name).standings()]


def _resolve(tgt, tgt_type):
    """The ids a target means, once. Without cached grains some targets match hosts that Salt knows nothing
    of (minion_data_cache), and those are not what was asked for.
    """
    if tgt_type not in ("glob", "list", "pcre") and __opts__.get("minion_data_cache") is False:
        raise LivepatchError(
            Kind.ARGUMENT,
            f"The master keeps no grains (minion_data_cache: False), so a target of type {tgt_type} would "
            "match every host; nothing was changed.",
            remedy="Give the hosts as a list.",
        )
    check = salt.utils.minions.CkMinions(__opts__).check_minions
    try:
        return targets.resolve(check, tgt, tgt_type, lambda name: True)[0]
    except SaltException as problem:
        raise calls.bad_argument(f"The target {tgt!r} is none: {problem}") from problem


def _ask(tgt, tgt_type, timeout):
    """livepatch.status of each host that answers in time."""
    minions = _resolve(tgt, tgt_type)
    calls.timeout(timeout)
    try:
        with salt.client.get_local_client(mopts=__opts__) as client:
            return _answers(client, minions, timeout)
    except SaltException as problem:
        raise LivepatchError(
            Kind.INTERNAL,
            f"The hosts could not be asked ({problem}); nothing was changed.",
            remedy="Start the master, or give what the hosts say in a file (reports=).",
        ) from problem


def _answers(client, minions, timeout):
    job = client.run_job(minions, "livepatch.status", tgt_type="list", timeout=timeout, listen=True)
    if not job:
        return {}
    answers = client.get_iter_returns(
        job["jid"], job["minions"], timeout=timeout, tgt=minions, tgt_type="list", expect_minions=True
    )
    return {
        minion: answer.get("ret")
        for batch in answers
        for minion, answer in batch.items()
        if minion in minions and isinstance(answer, dict)
    }


def _documents(reports):
    try:
        documents = json.loads(calls.read_file(reports))
    except (ValueError, RecursionError) as problem:
        raise LivepatchError(
            Kind.ARGUMENT,
            f"{reports} is not a JSON file that can be read ({problem}); nothing was changed.",
            remedy=REPORTS,
        ) from problem
    if not isinstance(documents, dict):
        raise LivepatchError(
            Kind.ARGUMENT, f"{reports} holds no mapping by minion id; nothing was changed.", remedy=REPORTS
        )
    return documents


def _master():
    return calls.master_of(__opts__)


def _author(why):
    return calls.author_of(globals().get("__user__"), why)


def _answer(act, kwargs):
    return calls.concluded(act, salt.utils.args.clean_kwargs(**kwargs), __context__)
