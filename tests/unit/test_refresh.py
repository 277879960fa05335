"""livepatch_core.refresh(), on a small package that consists of the same ``__init__.py`` and some modules."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import livepatch_core

NAME = "refreshed_package"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package's folder; ``inner.word`` takes its text from ``word``."""
    folder = tmp_path / NAME
    (folder / "inner").mkdir(parents=True)
    shutil.copy(livepatch_core.__file__, folder)
    write(folder / "word.py", "TEXT = 'old'\n")
    write(folder / "inner" / "__init__.py", "")
    write(folder / "inner" / "word.py", f"from {NAME}.word import TEXT\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in list(sys.modules):
        if name.partition(".")[0] == NAME:
            del sys.modules[name]


def write(path: Path, text: str) -> None:
    """Write with a modification time of its own, as a sync does that comes later than the last."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    later = max(path.stat().st_mtime_ns, before + 2_000_000_000)  # bytecode is keyed by whole seconds
    os.utime(path, ns=(later, later))


def get(name: str = "") -> ModuleType:
    return importlib.import_module(f"{NAME}.{name}" if name else NAME)


def shell() -> str:
    """What a loader module does when it is loaded."""
    get().refresh()
    return get("inner.word").TEXT


def test_changed_module_is_seen_by_those_that_import_it(package: Path) -> None:
    assert shell() == "old"
    write(package / "word.py", "TEXT = 'new'\n")
    assert shell() == "new"


def test_nothing_changed_nothing_replaced(package: Path) -> None:
    shell()
    before = get(), get("inner.word")
    shell()
    assert (get(), get("inner.word")) == before


def test_every_module_is_replaced_when_one_changed(package: Path) -> None:
    shell()
    write(package / "inner" / "other.py", "")
    old = [get(name) for name in ("", "word", "inner", "inner.word", "inner.other")]
    write(package / "word.py", "TEXT = 'new'\n")
    get().refresh()
    for module in old:
        assert importlib.import_module(module.__name__) is not module


def test_parent_attribute_does_not_bring_back_an_old_module(package: Path) -> None:
    """``from package import module`` looks at the package's attributes before it imports."""
    shell()
    write(package / "word.py", "TEXT = 'new'\n")
    get().refresh()
    scope: dict[str, ModuleType] = {}
    exec(f"from {NAME} import word", scope)
    assert scope["word"].TEXT == "new"


def test_holder_of_old_objects_keeps_a_complete_old_set(package: Path) -> None:
    shell()
    held = get("inner.word")
    write(package / "word.py", "TEXT = 'new'\n")
    shell()
    assert held.TEXT == "old"


@pytest.mark.parametrize("change", ["appears", "goes", "changes"])
def test_files_that_nobody_imported_count(package: Path, change: str) -> None:
    """They may be imported next, into the midst of the old ones."""
    if change != "appears":
        write(package / "late.py", "")
    shell()
    before = get("word")
    if change == "goes":
        (package / "late.py").unlink()
    else:
        write(package / "late.py", "TEXT = 'late'\n")
    shell()
    assert get("word") is not before


def test_change_while_submodules_are_still_to_be_imported(package: Path) -> None:
    get()
    write(package / "word.py", "TEXT = 'new'\n")
    assert get("word").TEXT == "new"
    write(package / "word.py", "TEXT = 'newer'\n")
    assert shell() == "newer"


def test_package_itself_is_renewed(package: Path) -> None:
    shell()
    write(package / "__init__.py", (package / "__init__.py").read_text() + "\nADDED = 1\n")
    shell()
    assert get().ADDED == 1


def test_works_where_the_package_is_not_on_the_path(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Salt's beacon loader."""
    shell()
    write(package / "word.py", "TEXT = 'new'\n")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(package.parent)])
    assert shell() == "new"


def test_package_that_went_is_forgotten(package: Path) -> None:
    """So that one installed elsewhere is found, or its absence told."""
    shell()
    shutil.rmtree(package)
    get().refresh()
    with pytest.raises(ModuleNotFoundError):
        get("word")


def test_broken_package_is_not_put_in_place(package: Path) -> None:
    shell()
    before = get()
    write(package / "__init__.py", "1 +\n")
    with pytest.raises(SyntaxError):
        get().refresh()
    assert get() is before


def test_second_holder_of_the_old_package_does_not_undo_the_first(package: Path) -> None:
    """Two threads load shells at once: both have the old package in hand when they call refresh()."""
    shell()
    old = get()
    write(package / "word.py", "TEXT = 'new'\n")
    old.refresh()
    first = get("inner.word")
    old.refresh()
    assert get("inner.word") is first


def test_threads_agree(package: Path) -> None:
    shell()
    write(package / "word.py", "TEXT = 'new'\n")
    seen: list[str] = []
    start = threading.Barrier(8)

    def load() -> None:
        start.wait()
        seen.append(shell())

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["new"] * 8


def test_pyelftools_that_was_installed_since_is_seen(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minion reads its grains, and so imports the library, before the formula brings it pyelftools."""
    text = "try:\n    from elftools import TEXT\nexcept ImportError:\n    TEXT = 'missing'\n"
    write(package / "word.py", text)
    monkeypatch.setitem(sys.modules, "elftools", None)
    assert shell() == "missing"
    write(tmp_path / "elftools.py", "TEXT = 'there'\n")
    del sys.modules["elftools"]
    assert shell() == "there"
