"""setup.cfg names what is there: a folder it forgets would be missing from the pip package alone."""

from __future__ import annotations

import configparser

import livepatch_core
from livepatch_core.entry_points import KINDS
from tests.unit.house.sources import LIBRARY, REPO, files, name_of, python_files, shell_folders


def options(section: str = "options") -> configparser.SectionProxy:
    config = configparser.ConfigParser()
    config.read(REPO / "setup.cfg")
    return config[section]


def lines(text: str) -> list[str]:
    return text.split("\n")[1:]


def test_every_package_of_the_library_is_listed() -> None:
    packages = {".".join(path.parent.relative_to(LIBRARY.parent).parts) for path in python_files(LIBRARY)}
    shells = {f"saltext.livepatch.{folder.name[1:]}" for folder in shell_folders()}
    assert sorted(lines(options()["packages"])) == sorted(packages | shells)


def test_every_folder_of_shells_is_mapped() -> None:
    mapped = dict(line.split(" = ") for line in lines(options()["package_dir"]))
    assert mapped == {
        "livepatch_core": "_utils/livepatch_core",
        **{f"saltext.livepatch.{folder.name[1:]}": folder.name for folder in shell_folders()},
    }


def test_entry_point_knows_every_folder_of_shells() -> None:
    assert {folder.name[1:] for folder in shell_folders()} <= set(KINDS)


def test_every_folder_is_a_package() -> None:
    """Without ``__init__.py`` an editable install cannot import them, and Salt's sync leaves them out of the
    library's packages."""
    folders = {path.parent for path in python_files(LIBRARY)} | set(shell_folders())
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_namespace_is_left_to_other_extensions() -> None:
    assert not (REPO / "saltext").exists()


def test_nothing_is_pinned() -> None:
    """A pin in a Salt environment can uninstall Salt."""
    wanted = lines(options()["install_requires"])
    for extra in options("options.extras_require").values():
        wanted += lines(extra)
    assert not [line for line in wanted if any(mark in line for mark in ("==", "<", "~", "@"))]
    assert set(lines(options()["install_requires"])) == {"salt>=3006", "pyelftools"}


def test_version_is_that_of_the_library() -> None:
    assert options("metadata")["version"] == "attr: livepatch_core.__version__"
    assert livepatch_core.__version__.count(".") == 2


def test_library_ships_only_what_salt_syncs() -> None:
    """``saltutil.sync_utils`` copies .py, .pyx, .so and .zip: a template or data file would stay behind."""
    assert [name_of(path) for path in files() if LIBRARY in path.parents and path.suffix != ".py"] == []
