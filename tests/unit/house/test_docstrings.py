"""The docstring is the manual: ``salt '*' sys.doc livepatch`` shows it in the terminal."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.unit.house.sources import LIBRARY, REPO, name_of, public_functions, python_files, shells, tree_of

# What an example of a function must match, for the kinds of shell that people call.
EXAMPLE = {
    "_modules": r"CLI Examples?:[\s\S]*\bsalt(-call)?\b.* {name}\b",
    "_runners": r"CLI Examples?:[\s\S]*\bsalt-run\b.* {name}\b",
    "_states": r"\.\. code-block:: yaml[\s\S]*\b{name}\b",
}


def called_by_people() -> Iterator[tuple[Path, ast.FunctionDef]]:
    for path in shells():
        if path.parent.name in EXAMPLE:
            yield from ((path, function) for function in public_functions(path))


def called_as(path: Path, function: ast.FunctionDef) -> str:
    """``module.function`` as people write it; ``list_`` is called ``list``, by ``__func_alias__``."""
    return f"{path.stem}.{function.name.rstrip('_')}"


def test_every_function_shows_how_it_is_called() -> None:
    silent = [
        called_as(path, function)
        for path, function in called_by_people()
        if not re.search(
            EXAMPLE[path.parent.name].format(name=re.escape(called_as(path, function))),
            ast.get_docstring(function) or "",
        )
    ]
    assert not silent


def test_every_argument_is_explained() -> None:
    silent = [
        f"{called_as(path, function)}: {argument}"
        for path, function in called_by_people()
        for argument in arguments_of(function)
        if not re.search(rf"\b{argument}\b", re.split("CLI Example", ast.get_docstring(function) or "")[0])
    ]
    assert not silent


def arguments_of(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    return [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def test_every_module_says_what_it_is_for() -> None:
    code = python_files(LIBRARY, REPO / "lab") + shells()
    silent = [name_of(path) for path in code if (tree := tree_of(path)).body and not ast.get_docstring(tree)]
    assert not silent
