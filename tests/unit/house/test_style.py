"""What the contributing page asks for and a program can see."""

from __future__ import annotations

import ast
import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.house.sources import LIBRARY, REPO, files, name_of, python_files, shell_folders, tree_of

CODE = python_files(LIBRARY, REPO / "lab", *shell_folders())
TEXTS = [path for path in files() if path.name != "LICENSE" and b"\0" not in path.read_bytes()[:4096]]

# Longest function and longest file, in lines without docstrings (a shell's are its manual); both meant to be
# rare.
FUNCTION_LINES = 60
FILE_LINES = 500

NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc"}

# Where a text may send a reader. Where packages come from is for each machine's own configuration to say.
HOSTS = {
    "docs.kernel.org",
    "docs.saltproject.io",
    "example.com",
    "example.org",
    "git.kernel.org",
    "github.com",
    "keepachangelog.com",
    "lore.kernel.org",
    "security-tracker.debian.org",
    "semver.org",
    "www.kernel.org",
}
HOST = re.compile(
    r"(?<![\w.@-])(?:[a-z0-9-]+\.)+(?:com|org)\b(?![\w.(-])"
    r"|(?:(?<=http://)|(?<=https://))[a-z][a-z0-9.-]+\.[a-z]{2,}"
)


def test_functions_are_short() -> None:
    long = [
        f"{name_of(path)}: {name} has {size} lines"
        for path in CODE
        for name, size in function_sizes(tree_of(path))
        if size > FUNCTION_LINES
    ]
    assert not long


def function_sizes(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(name, lines without the docstring) of each function."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node, clean=False)
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - (docstring or "").count("\n")


def test_files_are_short() -> None:
    assert [name_of(path) for path in CODE if file_size(path) > FILE_LINES] == []


def file_size(path: Path) -> int:
    """Lines without docstrings."""
    text, tree = path.read_text(), tree_of(path)
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    docstrings = [ast.get_docstring(node, clean=False) or "" for node in documented]
    return text.count("\n") - sum(docstring.count("\n") for docstring in docstrings)


def test_file_names_say_what_is_in_them() -> None:
    words = {name_of(path): {path.stem, *path.relative_to(REPO).parts} for path in files()}
    assert [name for name in words if words[name] & NAMES_THAT_SAY_NOTHING] == []


def test_texts_name_no_host_but_documentation() -> None:
    named = {
        f"{name_of(path)}: {host}"
        for path in TEXTS
        for host in HOST.findall(path.read_text(errors="replace"))
        if host not in HOSTS and not host.endswith((".example", ".test"))  # reserved for texts by RFC 2606
    }
    assert not named


def test_texts_do_not_know_where_they_were_written() -> None:
    assert [name_of(path) for path in TEXTS if str(REPO) in path.read_text(errors="replace")] == []


def test_every_folder_of_tests_is_a_package() -> None:
    """Two test files of one name could not be collected together otherwise."""
    collected = [path for path in python_files(REPO / "tests") if path.name.startswith(("test_", "conftest"))]
    folders = {path.parent for path in collected}
    assert [name_of(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_every_test_is_found(pytestconfig: pytest.Config) -> None:
    """Pytest passes over some folders without a word, by its own list ``build`` among them."""
    passed_over = pytestconfig.getini("norecursedirs")
    folders = {
        folder for path in python_files(REPO / "tests") for folder in path.relative_to(REPO).parts[:-1]
    }
    assert [
        (one, rule) for one in sorted(folders) for rule in passed_over if fnmatch.fnmatch(one, rule)
    ] == []
