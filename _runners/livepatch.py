"""
Live patching as the master sequences it
========================================

``rollout`` moves a fleet to a level in waves: canaries first, never more than so many hosts of a failure
domain, a soak and gates after each wave, and it stops itself at the first threshold that is exceeded. What it
does stands in a journal, so that it survives the process that drives it: whoever takes it up asks the hosts
and goes on. ``plan`` shows beforehand who moves when, and decides nothing.

``build`` makes a module from a unified diff on the master's own host, which then needs what a builder minion
needs: the compiler that built the kernel, make, and the machine's own package archives or the kernel's parts
by path. It need not run that kernel.

Configuration (of the master), all optional:

.. code-block:: yaml

    livepatch:
      catalog_dir: /srv/livepatch
      state_dir: /var/lib/livepatch-master    # ledger and rollouts; outside Salt's cachedir
    engines:
      - livepatch: {}                         # takes over rollouts whose process ended
    livepatch_build:
      cache: /var/cache/salt/master/livepatch-build   # source trees, headers, images: some GB
      output: /srv/livepatch-modules                  # <cache>/modules by default; a folder per release in it
      jobs: 2                                         # compilers at once
      key: /root/livepatch.key                        # with certificate: sign what is built
      certificate: /root/livepatch.pem

A refusal is an answer, not a crash: ``result`` False and a sentence that says what to do; ``salt-run`` ends
with 1 and an orchestration's ``salt.runner`` fails.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import sys
import threading

import salt.cache
import salt.client
import salt.fileclient
import salt.utils.args
import salt.utils.event
import salt.utils.jid
import salt.utils.minions
from salt.exceptions import SaltException

import livepatch_core

livepatch_core.refresh()

from livepatch_core.build import calls as building
from livepatch_core.build import report as build_report
from livepatch_core.build import service
from livepatch_core.build.refusals import Refused
from livepatch_core.catalog import calls
from livepatch_core.errors import LivepatchError
from livepatch_core.report import follow, owing, page
from livepatch_core.report import rollout as rollout_report
from livepatch_core.rollout import (
    adoption,
    detaching,
    drawing,
    driver,
    events,
    inventory,
    options,
    owner,
    payloads,
    plandoc,
    plantext,
    saltfleet,
    targets,
    verbs,
)
from livepatch_core.rollout import status as standing
from livepatch_core.rollout.clock import SystemClock
from livepatch_core.rollout.owner import OwnerKind
from livepatch_core.words import Kind

__virtualname__ = "livepatch"
__func_alias__ = {"list_": "list"}

CLOCK = SystemClock()
OBEYED_SECONDS = 20  # for the owner to take a command; he does within seconds
NOBODY = calls.Author("", "", "")  # for a fleet that is only asked and listened to


def __virtual__():
    return __virtualname__


def build(
    patch=None,
    kernel=None,
    name=None,
    level=0,
    output=None,
    saltenv="base",
    accept=None,
    fan_out=None,
    replace=True,
    source=None,
    headers=None,
    kbuild=None,
    image=None,
    modules=None,
    display_progress=False,
    **kwargs,
):
    """
    Build a livepatch module from a unified diff, or from a series of diffs (a list, or separated by commas)
    that apply in order, on the master's own host.

    patch
        ``salt://`` address or absolute path of the diff, or several: a level contains all diffs of the
        levels below.
    kernel
        The release (``uname -r``) to build for.
    name
        Module name; ``livepatch_LEVEL`` if not given, and ``livepatch`` without a level.
    level
        Recorded in the module.
    output
        Directory for ``NAME.ko`` and ``NAME.build/`` (report, inputs, objects).
    saltenv
        Environment of a ``salt://`` address.
    accept
        A mapping from what the builder refused to the reason why it is safe, e.g.
        ``{'struct foo': 'only ever on the stack'}``.
    fan_out
        How many source files a header change may touch (50).
    replace
        Whether the module replaces all others when loaded (True: levels are cumulative).
    source, headers, kbuild, image, modules
        The kernel's parts by path, for other distributions and for builders without network. All or none.
    display_progress
        Print each stage as it begins, before the answer (which is then not all of the output). The stages
        are events too, ``livepatch/build/NAME/progress``.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.build salt://fixes/meminfo.patch kernel=6.1.0-56-amd64 level=1
    """
    given = {"name": name, "level": level, "accept": accept, "fan_out": fan_out, "replace": replace}
    given.update(source=source, headers=headers, kbuild=kbuild, image=image, modules=modules)

    def act():
        try:
            settings = building.parse_settings(__opts__.get("livepatch_build"), __opts__["cachedir"])
            order = building.order(kernel, _diffs(patch, saltenv), settings, given)
            place = settings.place(order.release, output)
            progress = _progress(order.module_name, display_progress is True)
            document = service.produce(order, settings.cache, place, progress)
        except Refused as refused:
            return {"result": False, "comment": str(refused), **build_report.describe_refusal(refused)}
        return {"result": True, "comment": f"Built {document['path']}.", **document}

    return _answer(act, kwargs)


def plan(tgt=None, level=None, tgt_type="glob", timeout=30, full=False, *args, **kwargs):
    """
    Who would move to a level, in which waves, under which limits, and when at the earliest. Asks the hosts
    how they are; changes nothing. The plan is kept, so that exactly this one can be rolled out later by its
    hash.

    Takes every option of :py:func:`rollout`.

    tgt, tgt_type
        The hosts; resolved once, now. Every accepted minion that matches is in exactly one group, with the
        reason.
    level
        An integer from 0, or ``newest``.
    timeout
        Seconds to wait for the hosts' answers.
    full
        The whole plan as data, too.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.plan 'hv*' 2 profile=careful max_per_domain=1
        salt-run livepatch.plan 'os:Debian' newest tgt_type=grain exposure='{detection: 90m, hosts: 50}'
    """

    def act():
        master = _master()
        drawn, unmatched = _draw(master, tgt, level, tgt_type, timeout, kwargs)
        payloads.refuse_unsendable(master, drawn)
        name = verbs.keep_plan(master, drawn)
        moving = sum(len(wave) for wave in drawn.waves)
        said = f"Plan {name}: {moving} of {len(drawn.hosts)} hosts move to level {drawn.options.level} in "
        comment = f"{said}{len(drawn.waves)} waves. Run it with livepatch.rollout plan={name}."
        answer = {"result": True, "comment": comment, "plan": name, "hash": plandoc.plan_hash(drawn)}
        answer.update({"text": plantext.as_text(drawn), "unmatched": unmatched})
        return {**answer, "document": plandoc.document(drawn)} if full is True else answer

    return _answer(act, set(kwargs) - set(options.KEYS), args)


def rollout(
    tgt=None,
    level=None,
    why=None,
    tgt_type="glob",
    plan=None,
    timeout=30,
    detach=False,
    display_progress=None,
    *args,
    **kwargs,
):
    """
    Move hosts to a level in waves. In the foreground it ends with the rollout, or where that waits for a
    person; Ctrl-C detaches, and the master's engine goes on with it. Without an engine it is refused; a
    second Ctrl-C then pauses the rollout.

    tgt, tgt_type
        The hosts, as for :py:func:`plan`.
    level
        An integer from 0 (a level below what a host has is a planned downgrade), or ``newest``.
    why
        Why; needed, goes into journal and ledger.
    plan
        Instead of target, level and options: a plan that :py:func:`plan` has kept, by its hash.
    timeout
        Seconds to wait for the hosts' answers while it is planned.
    detach
        Only start it; the engine drives it.
    display_progress
        True: a line on stderr for all that happens; False: none. By default where stderr is a terminal.
        The same goes out as events, ``salt/livepatch/rollout/<id>/...``.

    Options, each with a default from the profile (docs/rollout-planning.md explains them):
    ``profile`` (standard, emergency, careful), ``canaries``, ``canaries_per_stratum``, ``waves``,
    ``canary_soak``, ``soak``, ``look_every``, ``max_per_domain``, ``domain_grain``, ``role_grain``,
    ``parallel``, ``stage_deadline``, ``stage_spread``, ``move_deadline``, ``thresholds``, ``on_fail``,
    ``on_fail_canary``, ``block_on_rollback``, ``gates``, ``windows``, ``blackouts``, ``late``, ``late_for``,
    ``accept_versions``, ``allow_testing``, ``exposure``, ``seed``; and for hosts that are started with
    another kernel ``method`` or ``fallback`` (``kexec``, ``reboot``), ``kernel``, ``without_level``,
    ``drain``, ``undrain``, ``drain_deadline``, ``restart_deadline``.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.rollout 'hv*' 2 why='CVE-2026-1234' profile=careful
        salt-run livepatch.rollout plan=4be1a09f2c77 why='CVE-2026-1234' detach=True
        salt-run livepatch.rollout 'hv*' newest why='monthly kernel' method=kexec max_per_domain=1
    """

    def act():
        master, by = _master(), calls.author_of(globals().get("__user__"), why)
        folder = verbs.root(master)
        if detach is True and not adoption.alive(folder):
            raise _no_engine("nothing was started")
        if plan is not None:
            drawn = verbs.read_plan(master, plan, {**kwargs, "tgt": tgt, "level": level})
        else:
            drawn, _ = _draw(master, tgt, level, tgt_type, timeout, kwargs)
        idle = verbs.refuse_idle(drawn)
        if idle is not None:
            return {"result": True, "comment": idle}
        payloads.refuse_unsendable(master, drawn)
        begun = driver.start(folder, drawn, {"who": by.who, "at": by.at, "why": by.why}, CLOCK)
        if detach is True:
            comment = f"Rollout {begun} was started; the engine drives it."
            return {"result": True, "comment": comment, "id": begun}
        return _drive(master, folder / begun, by, display_progress)

    return _answer(act, set(kwargs) - set(options.KEYS), args)


def status(rollout_id=None, hosts=False, *args, **kwargs):
    """
    Where a rollout stands: state, reason, since when, what is next and when; each targeted host counted in
    exactly one state.

    rollout_id
        The rollout; by default the one that is active, else the newest.
    hosts
        All hosts, not only those that did not do well.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.status
        salt-run livepatch.status 20261124-101500-4be1 hosts=True
    """

    def ask():
        directory = verbs.find(verbs.root(_master()), rollout_id, ended=True)
        document = verbs.shown(standing.read(directory), CLOCK.now(), hosts is True)
        holder = owner.holder(directory)
        driven = holder.sentence() if holder is not None else None
        return {"comment": verbs.sentence(document), **document, "driven_by": driven}

    return _answer(ask, kwargs, args)


def watch(rollout_id=None, *args, **kwargs):
    """
    Follow a rollout on stderr until it ends or waits for a person. Ctrl-C ends the watching and nothing else.

    rollout_id
        The rollout; by default the one that is active, else the newest.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.watch
    """

    def act():
        master = _master()
        directory = verbs.find(verbs.root(master), rollout_id, ended=True)
        with saltfleet.of_master(__opts__, salt) as means, _interrupts() as pressed:
            fleet = saltfleet.SaltFleet(means, master, directory.name, NOBODY, follows=True)
            fleet.presses = pressed.count
            for line in follow.lines(directory, fleet, pressed.count):
                _line(line)
        document = verbs.shown(standing.read(directory), CLOCK.now())
        return {"comment": verbs.sentence(document), **document}

    return _answer(act, kwargs, args)


def list_(*args, **kwargs):
    """
    All rollouts, the newest first.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.list
    """
    return _answer(lambda: {"rollouts": verbs.listing(verbs.root(_master()))}, kwargs, args)


def pause(rollout_id=None, why=None, *args, **kwargs):
    """
    Dispatch no more hosts; those in flight finish.

    rollout_id
        The rollout; by default the one that is active.
    why
        Why; needed.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.pause why='looking at hv7'
    """
    return _command("pause", rollout_id, why, {}, kwargs, args)


def resume(rollout_id=None, why=None, acknowledge=None, display_progress=None, *args, **kwargs):
    """
    Go on with a rollout that is paused. Where no engine runs, this process drives it, as :py:func:`rollout`
    does.

    rollout_id
        The rollout; by default the one that is active.
    why
        Why; needed.
    acknowledge
        Where it has stopped itself: the counter that was exceeded (``failed``, ``stalled``, ``unreachable``,
        ``lost``, ``gate``), to say that it was understood.
    display_progress
        As for :py:func:`rollout`.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.resume why='hv7 was a broken disk' acknowledge=failed
    """
    return _command("resume", rollout_id, why, {"acknowledge": acknowledge}, kwargs, args, display_progress)


def promote(rollout_id=None, why=None, acknowledge=None, full=None, display_progress=None, *args, **kwargs):
    """
    On to the next wave: what is left of this wave's soak, and its gates, are passed over.

    rollout_id
        The rollout; by default the one that is active.
    why
        Why; needed.
    acknowledge
        As for :py:func:`resume`.
    full
        True: the soaks of all waves that are left, too; thresholds and limits hold.
    display_progress
        As for :py:func:`rollout`.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.promote why='canaries are well, and the fix is urgent'
    """
    given = {"acknowledge": acknowledge, "full": full}
    return _command("promote", rollout_id, why, given, kwargs, args, display_progress)


def retry(rollout_id=None, why=None, acknowledge=None, display_progress=None, *args, **kwargs):
    """
    The same plan again for the hosts that failed, stalled or were not there.

    rollout_id
        The rollout; by default the one that is active.
    why
        Why; needed.
    acknowledge
        As for :py:func:`resume`.
    display_progress
        As for :py:func:`rollout`.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.retry why='the tracer is gone'
    """
    return _command("retry", rollout_id, why, {"acknowledge": acknowledge}, kwargs, args, display_progress)


def skip(rollout_id=None, host=None, wave=None, why=None, *args, **kwargs):
    """
    Leave a host out, or all hosts of a wave that wait. A failed host that is skipped gives its place in its
    domain free.

    rollout_id
        The rollout; by default the one that is active.
    host
        The minion's id.
    wave
        The number of the wave, from 0 (canaries).
    why
        Why; needed.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.skip host=hv7 why='is being replaced'
    """
    return _command("skip", rollout_id, why, {"host": host, "wave": wave}, kwargs, args)


def abort(rollout_id=None, why=None, *args, **kwargs):
    """
    End it: no more hosts are dispatched, those in flight finish, the others stay as they are.

    rollout_id
        The rollout; by default the one that is active.
    why
        Why; needed.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.abort why='superseded by level 3'
    """
    return _command("abort", rollout_id, why, {}, kwargs, args)


def rollback(rollout_id=None, scope="all", block=None, why=None, display_progress=None, *args, **kwargs):
    """
    Take the hosts back to the levels they came from: approved first and at once, also for hosts that are
    away; then dispatched under the same limits, and verified. Also after it has ended; hosts that somebody
    has approved for another level or kernel since are then left there, and named.

    rollout_id
        The rollout; by default the one that is active.
    scope
        ``all``, or ``wave``: only the hosts of the newest wave in which any was approved. The others can be
        taken back afterwards.
    block
        True: block the level for the fleet as well.
    why
        Why; needed.
    display_progress
        As for :py:func:`rollout`.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.rollback why='customers see stalls' block=True
    """
    return _command(
        "rollback", rollout_id, why, {"scope": scope, "block": block}, kwargs, args, display_progress
    )


def confirm(rollout_id=None, gate=None, why=None, *args, **kwargs):
    """
    Pass a gate that asks a person, while it asks: each wave needs a word of its own.

    rollout_id
        The rollout; by default the one that is active.
    gate
        The gate's name.
    why
        Why; needed.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.confirm gate=customer-check why='dashboard is green'
    """
    return _command("confirm", rollout_id, why, {"gate": gate}, kwargs, args)


def history(rollout_id=None, limit=100, *args, **kwargs):
    """
    The journal of a rollout: every record, oldest first.

    rollout_id
        The rollout; by default the one that is active, else the newest.
    limit
        How many at most, the newest.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.history limit=20
    """

    def ask():
        if type(limit) is not int or limit < 1:
            raise calls.bad_argument(f"limit is {limit!r}, not a positive integer")
        return {
            "records": standing.history(verbs.find(verbs.root(_master()), rollout_id, ended=True))[-limit:]
        }

    return _answer(ask, kwargs, args)


def report(rollout_id=None, form="text", *args, **kwargs):
    """
    All of a rollout in one document: plan, what happened when, verdicts with their evidence, every host.

    rollout_id
        The rollout; by default the one that is active, else the newest.
    form
        ``text``, ``html`` (one file, no script, nothing fetched) or ``data``.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.report 20261124-101500-4be1
    """

    def ask():
        facts = _facts(rollout_id)
        return rollout_report.document(facts) if form == "data" else {"report": page.written(facts, form)}

    return _answer(ask, kwargs, args)


def save_report(path, form="html", rollout_id=None, *args, **kwargs):
    """
    Writes a rollout's report into a file, as the master's user. A function of its own, since whoever may read
    reports need not be one who may write files on the master.

    path
        An absolute path on the master; a file that is there is replaced.
    form
        ``html`` or ``text``.
    rollout_id
        As in ``report``.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.save_report /srv/reports/rollout.html
    """

    def write():
        calls.write_file(path, page.written(_facts(rollout_id), form))
        return {"result": True, "comment": f"The report is in {path}."}

    return _answer(write, kwargs, args)


def _facts(rollout_id):
    return rollout_report.gather(verbs.find(verbs.root(_master()), rollout_id, ended=True), CLOCK.now())


def reboot_debt(tgt="*", tgt_type="glob", timeout=30, *args, **kwargs):
    """
    Who owes a reboot, why and since when, the most urgent first: a patch that is ``stuck``, a fix that is
    ``unpatchable`` live, a patch that was ``forced``, a kernel for which live patches ``expired`` or that is
    ``unsupported``; ``unknown`` where a host does not answer or cannot tell; a ``newer`` kernel that is
    installed. Asks hosts and catalog (``livepatch_catalog.describe``); changes nothing.

    ``target`` lists the hosts that owe one, for a rollout by kexec; ``plan`` is the command that plans it.

    tgt, tgt_type
        The hosts, as for :py:func:`plan`; each that owes nothing is left out of the list.
    timeout
        Seconds to wait for the hosts' answers, each of two times.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.reboot_debt
        salt-run livepatch.reboot_debt 'os:Debian' tgt_type=grain timeout=60
    """

    def ask():
        saltfleet.refuse_unusable(__opts__)
        master, seconds = _master(), calls.timeout(timeout)
        hosts, unmatched = _resolve(tgt, tgt_type)
        with saltfleet.of_master(__opts__, salt) as means:
            fleet = saltfleet.SaltFleet(means, master, "debt", NOBODY)
            told = owing.ask(fleet, CLOCK, hosts, seconds, owing.of_catalog(master))
        return owing.answer(told, datetime.datetime.now(datetime.timezone.utc), unmatched)

    return _answer(ask, kwargs, args)


def unlock(rollout_id=None, *args, **kwargs):
    """
    Who drives a rollout, and what to do if that process hangs. The lock ends with its process and is never
    broken: one that is only stopped could wake up and go on dispatching.

    rollout_id
        The rollout; by default the one that is active, else the newest.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch.unlock
    """

    def ask():
        return {"comment": owner.explain(verbs.find(verbs.root(_master()), rollout_id, ended=True))}

    return _answer(ask, kwargs, args)


# -- between Salt and the library -----------------------------------------------------------------------


def _diffs(patch, saltenv):
    """The names and texts of one diff or a series."""
    given = salt.utils.args.split_input(patch) if isinstance(patch, (str, list)) else []
    addresses = [address for address in map(str, given) if address]
    if not addresses:
        raise building.refuse(f"patch is {patch!r}, not a diff's address or a list of them")
    return [building.read_diff(address, _place(address, saltenv)) for address in addresses]


def _place(address, saltenv):
    """Where the diff lies: the master's own file server answers for ``salt://``."""
    if not address.startswith("salt://"):
        return str(building.path("patch", address))
    with salt.fileclient.FSClient(__opts__) as client:
        place = client.cache_file(address, saltenv)
    if not place or not os.path.isfile(place):
        raise building.refuse(f"The master's file server has no {address} in {saltenv}")
    return place


def _progress(name, display):
    """``__jid_event__``, which Salt puts into a runner's globals, is its job's bus: ``salt-run`` prints
    it."""

    def tell(stage):
        __salt__["event.send"](f"livepatch/build/{name}/progress", {"stage": stage})
        if display:
            globals()["__jid_event__"].fire_event({"message": f"{name}: {stage}"}, "progress")

    return tell


def _master():
    return calls.master_of(__opts__)


def _draw(master, tgt, level, tgt_type, timeout, given):
    """The plan, and the ids that the target could not be held against."""
    saltfleet.refuse_unusable(__opts__)
    standings = tuple(payloads.standings(master))
    wanted = {key: value for key, value in given.items() if key in options.KEYS}  # Salt adds its own
    asked = options.parse_options(wanted, level=inventory.offers(standings, level, ()).level)
    hosts, unmatched = _resolve(tgt, tgt_type)
    with saltfleet.of_master(__opts__, salt) as means:
        fleet = saltfleet.SaltFleet(means, master, "plan", NOBODY)
        grains = (asked.domain_grain, asked.role_grain)
        kernel = asked.kernel if asked.restarts else None
        answers = inventory.ask(fleet, CLOCK, hosts, grains, calls.timeout(timeout), kernel)
    answers = {name: answers.get(name) for name in hosts}
    spelt = targets.spelt(tgt, tgt_type)
    drawn = drawing.draw(master, spelt, asked, level, standings, answers, _cached_grains)
    return drawn, unmatched


def _resolve(tgt, tgt_type):
    check = salt.utils.minions.CkMinions(__opts__).check_minions
    try:
        return targets.resolve(check, tgt, tgt_type, lambda name: bool(_cached_grains(name)))
    except SaltException as problem:
        raise calls.bad_argument(f"The target {tgt!r} is none: {problem}") from problem


def _cached_grains(minion):
    """Since 3008 a bank of grains, before that one for each minion."""
    cache = salt.cache.factory(__opts__)
    try:
        found = cache.fetch("grains", minion)
        if not found:
            found = (cache.fetch(f"minions/{minion}", "data") or {}).get("grains")
    except SaltException:
        return {}
    return found if isinstance(found, dict) else {}


def _drive(master, directory, by, display, verb="rollout"):
    """Drive a rollout in this process, for as long as it is to be driven here."""
    folder = directory.parent
    with saltfleet.of_master(__opts__, salt) as means, _interrupts() as pressed:
        fleet = saltfleet.SaltFleet(
            means, master, directory.name, by, directory / verbs.COMMANDS, _teller(display)
        )
        fleet.presses = pressed.count
        leave = verbs.leaves(folder, lambda: _detaches(pressed, directory, by))
        with owner.hold(directory, OwnerKind.FOREGROUND, by.who, CLOCK) as mine:
            state = driver.drive(directory, fleet, CLOCK, owner=mine, until_detached=leave)
    return verbs.concluded(state, CLOCK.now(), verb)


def _command(verb, id, why, given, kwargs, args, display=None):
    """Give a rollout a command; drive it where nobody else would."""

    def act():
        master, by = _master(), calls.author_of(globals().get("__user__"), why)
        directory = verbs.find(verbs.root(master), id)
        with saltfleet.of_master(__opts__, salt) as means:
            fleet = saltfleet.SaltFleet(means, master, directory.name, by, directory / verbs.COMMANDS)
            wanted = verbs.arguments_of(given)
            if keep := verbs.taken_on(master, directory, verb, wanted.get("scope", "all")):
                wanted["keep"] = keep
            order, _ = verbs.command(directory, fleet, CLOCK, verb, by.who, by.why, wanted)
            record = verbs.obeyed(directory, fleet, CLOCK, order, OBEYED_SECONDS)
        return _obeyed(verb, master, directory, by, record, display)

    return _answer(act, kwargs, args)


def _obeyed(verb, master, directory, by, record, display):
    if record is not None and record["type"] == "refused":
        raise calls.bad_argument(str(record["reason"]).rstrip("."))
    state = standing.read(directory)
    unowned = owner.holder(directory) is None and not adoption.alive(directory.parent)
    if adoption.wanted(state) and unowned:
        return _drive(master, directory, by, display, verb)
    document = verbs.shown(state, CLOCK.now())
    taken = "was obeyed" if record is not None else "waits for the process that drives it"
    return {"result": True, "comment": f"{verb} {taken}. {verbs.sentence(document)}", **document}


@contextlib.contextmanager
def _interrupts():
    """Ctrl-C meanwhile. Salt's own handler would end the process at any place."""
    pressed = detaching.Presses(CLOCK)
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.press())
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _detaches(pressed, directory, by):
    """Whether Ctrl-C lets this process go: then an engine takes over. Without one a second one pauses."""
    answer = pressed.answer(lambda: adoption.alive(directory.parent))
    if answer is detaching.Answer.EXPLAIN:
        _line(f"not detached: {NO_ENGINE} Ctrl-C again pauses the rollout.")
    elif answer is detaching.Answer.PAUSE:
        verbs.pause(directory, by.who, CLOCK)
        _line("pausing: hosts in flight finish first")
    elif answer is detaching.Answer.LEAVE:
        _line(f"detached; the engine goes on with rollout {directory.name}")
    return answer is detaching.Answer.LEAVE


def _teller(display):
    """Progress on stderr where it is wanted, and in any case as an event of this runner's job."""
    visible = sys.stderr.isatty() if display is None else display is True
    event, shown = globals().get("__jid_event__"), [""]

    def tell(what, data):
        line = events.sentence(what, data)
        if line == shown[0]:  # a look of the soak that found everything as before
            return
        shown[0] = line
        if visible:
            _line(line)
        if event is not None:
            with contextlib.suppress(SaltException, OSError, ReferenceError):
                tag = salt.utils.event.tagify("progress", base=event.base)
                event.event.fire_event({"message": line}, tag)

    return tell


def _line(text):
    stamp = datetime.datetime.now().strftime("%H:%M:%S")
    print(f"{stamp}  {text}", file=sys.stderr, flush=True)


def _no_engine(state):
    return LivepatchError(Kind.ARGUMENT, f"{NO_ENGINE} {state[0].upper()}{state[1:]}.", remedy=ENGINE_REMEDY)


NO_ENGINE = "No livepatch engine runs on this master that would take it over."
ENGINE_REMEDY = "Add livepatch to engines in the master's configuration and restart the master."


def _answer(act, kwargs, args=()):
    """The answer with both return codes. args: what is left over of the arguments given by position."""
    unknown = {*salt.utils.args.clean_kwargs(**dict.fromkeys(kwargs)), *(repr(one) for one in args)}
    return calls.concluded(act, unknown, __context__)
