#!/usr/bin/env python3
"""Runs at boot, at shutdown and in the soak: without master, network or minion.

Usage: livepatch-boot.py [--library DIR]... [--config DIR] start|stop|tick

--library: where ``livepatch_core`` may be found beside this Python's own packages: where Salt syncs utils to.
--config: the directory of the minion's configuration; what stands there under ``livepatch`` rules here too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", action="append", default=[])
    parser.add_argument("--config", default="/etc/salt")
    parser.add_argument("act", choices=("start", "stop", "tick"))
    chosen = parser.parse_args()
    # After Python's own, so that an installed package wins over a synced copy, as in Salt's loader.
    sys.path.extend(path for path in chosen.library if Path(path).is_dir())
    from livepatch_core.host import unit

    return unit.main(chosen.act, Path(chosen.config))


if __name__ == "__main__":
    sys.exit(main())
