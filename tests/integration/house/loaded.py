"""Run by the Python of the environment under test: prints what its Salt finds, as JSON.

Arguments: configuration folder, then the names of the loader modules asked for. Output: {"modules":
[function, ...], "output": [...], "runners": [...], "states": [...], "refused": {...}, "library": path}.
"""

from __future__ import annotations

import json
import sys

import salt.config
import salt.loader


def main(folder: str, *names: str) -> None:
    """``folder`` holds the files ``minion`` and ``master``."""
    opts = salt.config.minion_config(f"{folder}/minion")
    opts["grains"] = salt.loader.grains(opts)
    utils = salt.loader.utils(opts)
    modules = salt.loader.minion_mods(opts, utils=utils)
    loaders = {
        "modules": modules,
        "output": salt.loader.outputters(opts),
        "states": salt.loader.states(opts, modules, utils, None),
        "runners": salt.loader.runner(salt.config.master_config(f"{folder}/master")),
    }
    ours = {
        kind: sorted(function for function in loader if function.split(".")[0] in names)
        for kind, loader in loaders.items()
    }
    refused = {
        f"{kind}: {name}": str(loader.missing_modules[name])
        for kind, loader in loaders.items()
        if kind != "output"  # no such attribute; an outputter that fails is not in the list either
        for name in names
        if name in loader.missing_modules
    }
    library = sys.modules.get("livepatch_core")
    print(json.dumps({**ours, "refused": refused, "library": getattr(library, "__file__", "")}))


main(*sys.argv[1:])
