"""
Build live patches on this minion: a unified diff in, a proven module out
=========================================================================

The minion that builds needs the compiler that built the kernel, make and network access to the machine's
own package archives (or the kernel's source, headers and image by path). It need not run that kernel.

Configuration (in the *minion's* configuration, never pillar), all optional:

.. code-block:: yaml

    livepatch_build:
      cache: /var/cache/salt/minion/livepatch-build   # source trees, headers, images: some GB
      output: /var/cache/salt/minion/livepatch-build/modules  # each kernel's in a folder of its release
      jobs: 2                                         # compilers at once
      key: /root/livepatch.key                        # with certificate: sign what is built
      certificate: /root/livepatch.pem

A refusal is an answer, not a crash: ``result`` False, ``refusal`` one word of a fixed list
(docs/build-refusals.md), and a sentence that names file and function and says what to do.
"""

from __future__ import annotations

import logging
import os

import salt.utils.args
from salt.exceptions import CommandExecutionError, SaltInvocationError

import livepatch_core

livepatch_core.refresh()

from livepatch_core.build import calls, report, service
from livepatch_core.build.refusals import Refused

__virtualname__ = "livepatch_build"

log = logging.getLogger(__name__)

_NAMES = ("replace", "accept", "fan_out", *calls.PARTS)


def __virtual__():
    if __grains__.get("kernel") != "Linux" or __grains__.get("cpuarch") != "x86_64":
        return False, "livepatch_build needs Linux on x86-64"
    return __virtualname__


def _settings():
    return calls.parse_settings(__opts__.get("livepatch_build"), __opts__["cachedir"])


def _diffs(patch, saltenv):
    """The names and texts of one diff or a series, each a path or a salt:// address."""
    found = []
    for address in map(str, salt.utils.args.split_input(patch)):
        path = __salt__["cp.cache_file"](address, saltenv) if "://" in address else address
        if not path or not os.path.isfile(path):
            raise CommandExecutionError(f"The diff {address} was not found.")
        found.append(calls.read_diff(address, path))
    return found


def _order(settings, patch, kernel, name, level, saltenv, kwargs):
    kwargs = salt.utils.args.clean_kwargs(**kwargs)
    unknown = sorted(set(kwargs) - set(_NAMES))
    if unknown:
        raise SaltInvocationError(f"Unknown arguments: {', '.join(unknown)}")
    given = {**kwargs, "name": name, "level": level}
    return calls.order(kernel or __grains__["kernelrelease"], _diffs(patch, saltenv), settings, given)


def _progress(name):
    def tell(stage):
        log.info("livepatch_build %s: %s", name, stage)
        __salt__["event.send"](f"livepatch/build/{name}/progress", {"stage": stage})

    return tell


def _answer(act):
    """Run ``act`` and turn a refusal into data with the job's return code set."""
    try:
        return {"result": True, **act()}
    except Refused as refused:
        __context__["retcode"] = 1
        return {"result": False, "comment": str(refused), **report.describe_refusal(refused)}


def build(patch, kernel=None, name=None, level=0, output=None, saltenv="base", **kwargs):
    """
    Build a livepatch module from a unified diff, or from a series of diffs (a list, or separated by commas)
    that apply in order. The answer is the report: ``path`` of the module and ``archive``, the directory
    beside it, ``name``, ``release``, ``level``, ``sha256``, ``built_for``, ``units`` (what changes, by file
    and function), ``warnings``, ``seconds`` of each stage, ``signed``; all of it for people in ``text``.

    patch
        Path or ``salt://`` address of the diff, or several: a level contains all diffs of the levels below.
    kernel
        Release (``uname -r``) to build for; this minion's own if not given.
    name
        Module name; ``livepatch_LEVEL`` if not given, and ``livepatch`` without a level.
    level
        Recorded in the module.
    saltenv
        Environment of a ``salt://`` address.
    output
        Directory for ``NAME.ko`` and ``NAME.build/`` (report, inputs, objects); by default the folder of the
        kernel's release below the configured one.
    accept
        A mapping from what the builder refused to the reason why it is safe, e.g.
        ``{'struct foo': 'only ever on the stack'}``.
    fan_out
        How many source files a header change may touch (50).
    replace
        Whether the module replaces all others when loaded (True: levels are cumulative).
    source, headers, kbuild, image, modules
        The kernel's parts by path, for other distributions and for builders without network. All or none.

    CLI Example:

    .. code-block:: bash

        salt builder livepatch_build.build salt://fixes/meminfo.patch kernel=6.1.0-56-amd64 level=1
    """

    def act():
        settings = _settings()
        order = _order(settings, patch, kernel, name, level, saltenv, kwargs)
        place = settings.place(order.release, output)
        document = service.produce(order, settings.cache, place, _progress(order.module_name))
        return {**document, "comment": f"Built {document['path']}.", "text": report.as_text(document)}

    return _answer(act)


def check(patch, kernel=None, name=None, level=0, saltenv="base", **kwargs):
    """
    Everything that ``build`` does but the module itself: whether the diff applies, compiles, can be proven
    and extracted. The answer is the report of ``build`` without ``path``, ``archive``, ``signed``, ``text``.

    The arguments are those of :py:func:`build`: ``patch``, ``kernel``, ``name``, ``level``, ``saltenv``, ...

    CLI Example:

    .. code-block:: bash

        salt builder livepatch_build.check salt://fixes/meminfo.patch kernel=6.1.0-56-amd64
    """

    def act():
        settings = _settings()
        order = _order(settings, patch, kernel, name, level, saltenv, kwargs)
        document = service.check(order, settings.cache, _progress(order.module_name))
        return {**document, "comment": "The diff can be built."}

    return _answer(act)


def explain(patch, kernel=None, name=None, level=0, saltenv="base", **kwargs):
    """
    What a build would change, per file and function, and why, as text in ``comment``.

    The arguments are those of :py:func:`build`: ``patch``, ``kernel``, ``name``, ``level``, ``saltenv``, ...

    CLI Example:

    .. code-block:: bash

        salt builder livepatch_build.explain salt://fixes/meminfo.patch kernel=6.1.0-56-amd64
    """

    def act():
        settings = _settings()
        order = _order(settings, patch, kernel, name, level, saltenv, kwargs)
        document = service.check(order, settings.cache, _progress(order.module_name))
        return {"comment": report.as_text(document)}

    return _answer(act)
