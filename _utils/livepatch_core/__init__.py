"""Live kernel patching on one host and over a fleet: everything that is not Salt.

The loader modules are shells over this library. Each begins with ::

    import livepatch_core

    livepatch_core.refresh()

    from livepatch_core.host import ...
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
import types

__version__ = "0.1.0"


def _fingerprint() -> frozenset[tuple[str, int, int]]:
    """(path, modification time in ns, size in bytes) of each source file of the library on disk; and whether
    pyelftools is there, which may come after a process has imported the library without it."""
    found = {("elftools", int(importlib.util.find_spec("elftools") is not None), 0)}
    for folder, _, files in os.walk(os.path.dirname(__file__)):
        for path in (os.path.join(folder, file) for file in files if file.endswith(".py")):
            try:
                status = os.stat(path)
            except FileNotFoundError:  # a sync is deleting it under us: gone is what we record
                continue
            found.add((path, status.st_mtime_ns, status.st_size))
    return frozenset(found)


# Taken before any submodule is imported, so that whatever changes from here on counts as a change.
_imported = _fingerprint()
_lock = threading.Lock()


def refresh() -> None:
    """Give the next ``from livepatch_core... import`` the code that is on disk now.

    A minion's or a master's long-lived process that has imported the library hands it to every job it
    forks; ``saltutil.sync_all`` replaces the files and the loader modules, but not what is in
    ``sys.modules`` (Salt issues 66354 and 15233). So each shell calls this first.

    All or nothing: if one file changed, appeared or went, the package object is replaced and every
    submodule forgotten, so that old and new are never mixed. Who holds objects of the old code keeps a
    complete old set; classes of the two sets are unrelated, which is why shells turn library errors
    into Salt's own. The package is made from its own file rather than found through ``sys.path``: Salt's
    beacon loader, among others, does not put the library on it.
    """
    with _lock:
        if _replaced() or _fingerprint() == _imported:
            return
        importlib.invalidate_caches()
        package = _import_again() if os.path.exists(__file__) else None
        for name in list(sys.modules):
            if name.startswith(__name__ + "."):
                del sys.modules[name]
        if package is None:  # uninstalled: let the next import find another one, or say that there is none
            del sys.modules[__name__]
        else:
            sys.modules[__name__] = package


def _replaced() -> bool:
    """Whether another thread, with this same old package in hand, was here first."""
    return getattr(sys.modules.get(__name__), "refresh", None) is not refresh


def _import_again() -> types.ModuleType:
    """A second package object, from the files as they are; not yet in ``sys.modules``."""
    spec = importlib.util.spec_from_file_location(__name__, __file__)
    if spec is None or spec.loader is None:
        raise ImportError(f"{__file__} cannot be imported again", name=__name__, path=__file__)
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return package
