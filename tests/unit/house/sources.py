"""The project's own files, as the checks of this folder look at them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]
LIBRARY = REPO / "_utils" / "livepatch_core"

# What .gitignore keeps out, but for what is hidden anyway.
_MADE = {REPO / "build", REPO / "dist", REPO / "artifacts"}


def files() -> list[Path]:
    """Every file of the project; nothing that Git ignores, nothing hidden but .ci."""
    return sorted(_walk(REPO))


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        hidden = path.name.startswith(".") and path.name not in (".ci", ".gitignore")
        made = path in _MADE or path.name == "__pycache__" or path.name.endswith(".egg-info")
        if hidden or made:
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def python_files(*folders: Path) -> list[Path]:
    """The ``.py`` files below ``folders``."""
    return [path for path in files() if path.suffix == ".py" and any(f in path.parents for f in folders)]


def shell_folders() -> list[Path]:
    """``_modules``, ``_states`` ...: the folders that Salt's loader reads; not ``_utils``."""
    return sorted(path for path in REPO.glob("_*") if path.is_dir() and path.name != "_utils")


def shells() -> list[Path]:
    """The loader modules."""
    return [path for path in python_files(*shell_folders()) if path.name != "__init__.py"]


def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(path.read_bytes(), str(path))


def name_of(path: Path) -> str:
    """A file's path below the repository: what failure messages and test ids show."""
    return str(path.relative_to(REPO))


def public_functions(path: Path) -> list[ast.FunctionDef]:
    """What Salt's loader makes callable from outside."""
    return [
        node
        for node in tree_of(path).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it; for ``from a import b`` both ``a`` and ``a.b``."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found
