"""What the pip package tells Salt's loader; unused where the tree is synced."""

from __future__ import annotations

import importlib.util

# The loader types that this project has, or may have, shells for; the names are Salt's.
KINDS = ("beacons", "engines", "grains", "modules", "output", "pillar", "runners", "states")


def loader_directories() -> dict[str, list[str]]:
    """For each kind of shell that is installed, the folders that hold it.

    The ``salt.loader`` entry point names this function and not the package ``saltext.livepatch``: for a
    package Salt joins its path with ``/modules``, which an editable install does not have on disk.
    """
    found = {kind: _folders(f"saltext.livepatch.{kind}") for kind in KINDS}
    return {kind: folders for kind, folders in found.items() if folders}


def _folders(package: str) -> list[str]:
    """Where ``package`` lies; nothing if it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return []
    return list(spec.submodule_search_locations)
