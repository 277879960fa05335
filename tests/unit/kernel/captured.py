"""Kernel files as they were captured from a machine, planted below a directory for the readers to read.

A ``.tree`` file holds one path a line: ``path/`` is a directory (a function of a live patch is an empty one,
which git would not keep), ``path = text`` a file of one line; ``#`` starts a comment, for example where it
is from.
"""

from __future__ import annotations

from pathlib import Path

from livepatch_core.kernel.roots import Roots

DATA = Path(__file__).parent.parent / "data/kernel"


def plant(tree: str, below: Path) -> Roots:
    """The captured tree of this name under ``below``, and the roots to read it with."""
    for line in (DATA / f"{tree}.tree").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            plant_line(line, below)
    return Roots.under(below)


def plant_line(line: str, below: Path) -> None:
    """One line of a tree."""
    path, equals, text = line.partition(" = ")
    target = below / path
    if not equals:
        assert path.endswith("/"), line
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text + "\n", encoding="utf-8")


def data(name: str) -> str:
    """A captured file's text."""
    return (DATA / name).read_text(encoding="utf-8")
