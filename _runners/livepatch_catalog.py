"""
The catalog of levels: publish a module, promote it, block it
=============================================================

A module is published as a level *in testing*, which the fleet does not see; ``promote`` releases it;
``block`` keeps every host from it. What hosts read is ``salt://livepatch/<release>/catalog.yaml``.

Configuration (of the master):

.. code-block:: yaml

    livepatch:
      catalog_dir: /srv/livepatch             # written by the master's user
      state_dir: /var/lib/livepatch-master    # the default; levels in testing stand here
      sign_key: /etc/salt/livepatch.pem       # optional: the publisher's Ed25519 key
    file_roots:
      base: [/srv/salt, /srv/livepatch]       # catalog_dir is a file root of its own

Functions that change something return ``result``, ``comment`` (a sentence), and when refused ``kind``, one
word of a fixed list; then ``salt-run`` ends with 1 and an orchestration's ``salt.runner`` fails.
"""

from __future__ import annotations

import salt.utils.args

import livepatch_core

livepatch_core.refresh()

from livepatch_core.catalog import builds as describing
from livepatch_core.catalog import calls, entry, standing, transfer
from livepatch_core.catalog import publish as publishing
from livepatch_core.catalog import verify as checking

__virtualname__ = "livepatch_catalog"
__func_alias__ = {"list_": "list"}


def __virtual__():
    return __virtualname__


def publish(
    path=None,
    fixes=None,
    why=None,
    level=None,
    kernel_build=None,
    notes="",
    loss="",
    source_sha256=None,
    version="",
    **kwargs,
):
    """
    Publish a livepatch module as a level in testing. Name, kernel builds, functions, whether it is
    cumulative, callbacks, system states and signer are read from the module itself.

    path
        The module file, an absolute path on the master.
    fixes
        What the level fixes beyond the level below it: CVEs separated by commas, or a list of mappings with
        ``cve``, ``severity``, ``url`` and ``summary``. The fixes of the level below are taken over.
    why
        Why, for the record; needed.
    level
        The level's number; by default the next one of that kernel build.
    kernel_build
        The GNU build-id of the kernel, for a module that does not record it.
    notes
        For people.
    loss
        Why the level lacks functions of the one below; without it such a module is refused. Then ``fixes``
        lists all that the level fixes.
    source_sha256
        SHA-256 of the diff that the module was built from.
    version
        ``uname -v`` of the kernel build, for people.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_catalog.publish /srv/incoming/livepatch_2.ko fixes=CVE-2026-1234 why='ticket 42'
    """

    def act():
        by = _author(why)
        wanted = entry.Publication(
            author=by,
            level=level,
            kernel_build=calls.text("kernel_build", kernel_build),
            fixes=entry.parse_fixes(fixes),
            notes=calls.text("notes", notes) or "",
            loss=calls.text("loss", loss) or "",
            source_sha256=entry.parse_digest(source_sha256),
            version=calls.text("version", version) or "",
        )
        done = publishing.publish(_master(), calls.read_file(path), wanted)
        return {
            "result": True,
            "comment": f"{done['name']} is level {done['level']} of kernel build {done['kernel_build']} "
            f"({done['release']}), in testing.",
            **done,
        }

    return _answer(act, kwargs)


def promote(level=None, kernel_build=None, release=None, why=None, **kwargs):
    """
    Release a level that is in testing: the fleet sees it, and it can be approved.

    level
        The level's number.
    kernel_build
        Which kernel build; needed where several have such a level.
    release
        Which kernel release (``uname -r``).
    why
        Why, for the record; needed.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_catalog.promote 2 release=6.1.0-56-amd64 why='soaked for a day'
    """
    return _answer(lambda: _moved(standing.promote, level, kernel_build, release, why), kwargs)


def block(level=None, kernel_build=None, release=None, why=None, **kwargs):
    """
    Block a level: no host goes there any more, whatever its approval says. Hosts that are there stay; approve
    another level to move them.

    level
        The level's number.
    kernel_build, release
        As for :py:func:`promote`.
    why
        Why; needed, hosts show it.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_catalog.block 2 why='oopses in ext4'
    """
    return _answer(lambda: _moved(standing.block, level, kernel_build, release, why), kwargs)


def unblock(level=None, kernel_build=None, release=None, why=None, **kwargs):
    """
    Lift a block: the level is again what it was before.

    level
        The level's number.
    kernel_build, release
        As for :py:func:`promote`.
    why
        Why, for the record; needed.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_catalog.unblock 2 why='it was the disk'
    """
    return _answer(lambda: _moved(standing.unblock, level, kernel_build, release, why), kwargs)


def verify(release=None, **kwargs):
    """
    Check the whole catalog: every module is there, has its digest and says what its entry says; no level
    lacks what the one below it has, or it says why; signatures, where a key is configured.

    release
        Only this kernel release.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_catalog.verify
    """

    def ask():
        count, findings = checking.verify(_master(), calls.text("release", release))
        problems = [one.document() for one in findings if not one.warning]
        sound = f"{count} levels, {len(problems)} problems"
        return {
            "result": not problems,
            "comment": f"{sound}." if problems else f"{sound}: the catalog keeps its promises.",
            "problems": problems,
            "warnings": [one.document() for one in findings if one.warning],
        }

    return _answer(ask, kwargs)


def list_(release=None, **kwargs):
    """
    The levels of every kernel build, those in testing too.

    release
        Only this kernel release.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_catalog.list
    """
    return _answer(lambda: transfer.listing(_master(), calls.text("release", release)), kwargs)


def map_package(
    package=None,
    version=None,
    level=None,
    release=None,
    kernel_build=None,
    fixes=None,
    why=None,
    **kwargs,
):
    """
    Give a live patch that comes with a distribution's package a level: hosts on which the package has loaded
    it are then at that level. What is mapped earlier for the same package and version is replaced.

    package
        The package's name, as ``package`` of the patch in ``livepatch.status`` shows it.
    version
        Its version, as shown there (``2-2.1``).
    level
        The level it amounts to, an integer from 1; 0 takes the mapping back.
    release
        The kernel release (``uname -r``) the package is for.
    kernel_build
        The GNU build-id of that kernel (``livepatch.status`` shows it).
    fixes
        All that the package's patch fixes: CVEs separated by commas, or a list as for :py:func:`publish`.
    why
        Why, for the record; needed.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_catalog.map_package kernel-livepatch-6_4_0-default 2-2.1 2 release=6.4.0-default \
            kernel_build=eb4fbcd037e7253717950bf2b93bd5566f47c56f fixes=CVE-2026-1234 why='ticket 42'
    """

    def act():
        by = _author(why)
        place, named = (release, kernel_build), entry.parse_fixes(fixes)
        done = describing.map_package(_master(), place, package, version, level, named, by)
        said = f"amounts to level {level}" if level else "amounts to no level any more"
        comment = f"{package} {version} {said} for kernel build {kernel_build} ({release})."
        return {"result": True, "comment": comment, **done}

    return _answer(act, kwargs)


def describe(release=None, kernel_build=None, expires=None, unpatchable=None, why=None, **kwargs):
    """
    Say of a kernel build until when there are live patches for it, and what none can fix:
    ``livepatch.reboot_debt`` counts by it. What is not given stays as it is.

    release, kernel_build
        The kernel release (``uname -r``) and the GNU build-id of its image.
    expires
        The day from which there are no live patches any more (``2027-03-31``); an empty text for none known.
    unpatchable
        CVEs that no live patch can fix on this kernel, separated by commas, or a list; it replaces the one
        there was.
    why
        Why, for the record; needed.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_catalog.describe 6.1.0-56-amd64 eb4fbcd037e7253717950bf2b93bd5566f47c56f \
            expires=2027-03-31 unpatchable=CVE-2026-77 why='vendor bulletin 12'
    """

    def act():
        done = describing.describe(_master(), (release, kernel_build), expires, unpatchable, _author(why))
        comment = f"Kernel build {kernel_build} ({release}) is described anew."
        return {"result": True, "comment": comment, **done}

    return _answer(act, kwargs)


def builds(release=None, **kwargs):
    """
    What the catalog says of each kernel build beside its levels: packages that amount to one, until when
    there are live patches, what none can fix.

    release
        Only this kernel release.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_catalog.builds
    """
    return _answer(lambda: describing.builds(_master(), calls.text("release", release)), kwargs)


def export(path=None, **kwargs):
    """
    Lay out what the fleet sees as a tree to be committed to a Git repository that GitFS serves.

    path
        Where, an absolute path; what an earlier export wrote is replaced, nothing is removed.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_catalog.export /srv/git/levels
    """

    def act():
        written = transfer.export(_master(), calls.path(path))
        return {"result": True, "comment": f"{len(written)} files were written.", "files": written}

    return _answer(act, kwargs)


def import_dir(path=None, why=None, as_is=False, **kwargs):
    """
    Take over the levels of another catalog, in testing.

    path
        A directory that ``export`` wrote, or one with ``<release>/catalog.yaml``; an absolute path.
    why
        Why, for the record; needed.
    as_is
        Keep each level's status and signature: what was released there is released here.

    CLI Example:

    .. code-block:: bash

        salt-run livepatch_catalog.import_dir /srv/git/levels why='second data centre'
    """

    def act():
        taken = transfer.import_dir(_master(), calls.path(path), _author(why), as_is is True)
        return {"result": True, "comment": f"{len(taken)} levels were imported.", "imported": taken}

    return _answer(act, kwargs)


# -- between Salt and the library -----------------------------------------------------------------------


def _moved(act, level, kernel_build, release, why):
    by = _author(why)
    done = act(_master(), level, calls.text("kernel_build", kernel_build), calls.text("release", release), by)
    sentence = f"Level {done['level']} of kernel build {done['kernel_build']}"
    sentence = f"{sentence} was {done['old']} and is {done['new']}."
    return {"result": True, "comment": sentence, **done}


def _master():
    return calls.master_of(__opts__)


def _author(why):
    return calls.author_of(globals().get("__user__"), why)


def _answer(act, kwargs):
    return calls.concluded(act, salt.utils.args.clean_kwargs(**kwargs), __context__)
