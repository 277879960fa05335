"""Imports point inward, and the library knows nothing of Salt."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.unit.house.sources import LIBRARY, imports_of, name_of, python_files, shells, tree_of

FOUNDATION = {"words", "errors", "durable"}
READING = {"kernel", "modulefile", "catalog"} | FOUNDATION

# What each part of the library may import from the others. A new part has to find its place here.
ALLOWED = {
    "": set(),
    "words": set(),
    "durable": set(),
    "errors": {"words"},
    "entry_points": set(),
    "kernel": FOUNDATION,
    "modulefile": FOUNDATION,
    "catalog": READING,
    "host": READING,
    "ledger": FOUNDATION | {"catalog"},
    "kexec": READING | {"host"},
    "restart": READING | {"host", "kexec"},
    "providers": READING | {"host"},
    "drain": READING | {"host"},
    "build": READING,
    "rollout": READING | {"ledger"},
    "report": READING | {"host", "rollout"},
}

# pyelftools is imported by nothing that status and revert need.
ELF_READERS = {"modulefile", "build"}

LOADER_DUNDERS = {"__salt__", "__opts__", "__pillar__", "__grains__", "__context__"}

LIBRARY_FILES = python_files(LIBRARY)


def part_of(path: Path) -> str:
    """``kernel`` for ``livepatch_core/kernel/patches.py``; empty for the package's own ``__init__``."""
    first = path.relative_to(LIBRARY).parts[0]
    return first.removesuffix(".py").replace("__init__", "")


def parts_imported(path: Path) -> set[str]:
    dotted = (name.split(".") for name in imports_of(path))
    return {parts[1] for parts in dotted if parts[0] == "livepatch_core" and len(parts) > 1}


def names_used(path: Path) -> set[str]:
    return {node.id for node in ast.walk(tree_of(path)) if isinstance(node, ast.Name)}


def test_every_part_has_its_place() -> None:
    assert {part_of(path) for path in LIBRARY_FILES} <= set(ALLOWED)


def test_imports_point_inward() -> None:
    outward = [
        f"{name_of(path)} imports {part}"
        for path in LIBRARY_FILES
        for part in parts_imported(path) - ALLOWED.get(part_of(path), set()) - {part_of(path)}
    ]
    assert not outward


def test_library_knows_nothing_of_salt() -> None:
    knowing = [
        name_of(path)
        for path in LIBRARY_FILES
        if LOADER_DUNDERS & names_used(path)
        or {"salt", "saltext"} & {name.split(".")[0] for name in imports_of(path)}
    ]
    assert not knowing


def test_only_elf_readers_import_elftools() -> None:
    others = [
        name_of(path)
        for path in LIBRARY_FILES
        if part_of(path) not in ELF_READERS and any(name.startswith("elftools") for name in imports_of(path))
    ]
    assert not others


def test_library_is_imported_at_the_top() -> None:
    """An import inside a function would, after a refresh, mix new code into old."""
    inside = [
        f"{name_of(path)}:{node.lineno}"
        for path in LIBRARY_FILES + shells()
        for function in ast.walk(tree_of(path))
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
        if imports_library(node)
    ]
    assert not inside


def imports_library(node: ast.AST) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom)) and "livepatch_core" in ast.unparse(node)


def refreshes_first(tree: ast.Module) -> bool:
    """The only import of the library before ``livepatch_core.refresh()`` is that of the package itself."""
    before = []
    for node in tree.body:
        if isinstance(node, ast.Expr) and ast.unparse(node) == "livepatch_core.refresh()":
            return before == ["import livepatch_core"]
        if imports_library(node):
            before.append(ast.unparse(node))
    return not before  # a shell that does without the library has nothing to refresh


def test_shells_refresh_the_library_first() -> None:
    assert [name_of(path) for path in shells() if not refreshes_first(tree_of(path))] == []


def test_shells_do_not_import_each_other() -> None:
    """Salt loads each by itself: what they share is the library, what they call goes through ``__salt__``."""
    neighbours = {shell.stem for shell in shells()} | {"saltext"}
    importing = [
        name_of(path) for path in shells() if neighbours & {name.split(".")[0] for name in imports_of(path)}
    ]
    assert not importing
