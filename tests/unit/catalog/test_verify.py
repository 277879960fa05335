from __future__ import annotations

from pathlib import Path

import pytest

from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.standing import block, promote
from livepatch_core.catalog.verify import verify
from tests.unit.catalog.modules import BUILD, BY, RELEASE, master_in, published


@pytest.fixture
def master(tmp_path: Path) -> Master:
    master = master_in(tmp_path)
    for number in (1, 2, 3):
        published(master, number)
    promote(master, 1, None, None, BY)
    return master


def rewritten(master: Master, old: str, new: str) -> list[str]:
    """The problems after an edit by hand of what is withheld."""
    path = master.withheld / RELEASE / "catalog.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return problems(master)


def problems(master: Master) -> list[str]:
    return [one.text for one in verify(master)[1] if not one.warning]


def test_sound(master: Master) -> None:
    assert verify(master) == (3, [])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: livepatch_2", "name: livepatch_x", "its entry says name: livepatch_x"),
        ("replace: true", "replace: false", "its entry says replace"),
        ("callbacks: false", "callbacks: true", "its entry says callbacks"),
        ("- f2", "- g2", "its entry says functions"),
        (f"vmlinux: {BUILD}", f"vmlinux: {'ab' * 20}", "its entry says built_for"),
        ("sha256: ", "sha256: 0123", "is not a SHA-256"),
        ("schema: 1", "schema: 9", "newer form"),
    ],
)
def test_entry_that_does_not_say_what_the_module_says(master: Master, old: str, new: str, said: str) -> None:
    assert any(said in text for text in rewritten(master, old, new))


def test_module_gone_and_damaged(master: Master) -> None:
    path = next((master.withheld / RELEASE).glob("livepatch_2*"))
    path.write_bytes(path.read_bytes()[:-1])
    assert [text for text in problems(master) if "has SHA-256" in text]
    path.unlink()
    assert [text for text in problems(master) if "cannot be read (No such file" in text]


def test_lost_fix_and_lost_function(master: Master) -> None:
    found = rewritten(master, "- cve: CVE-2026-1001\n", "- cve: CVE-2026-7\n")
    assert [text for text in found if "it lacks what level 1 has" in text and "CVE-2026-1001" in text]


def test_what_a_blocked_level_had_need_not_be_kept(master: Master) -> None:
    block(master, 2, None, None, BY)
    found = rewritten(master, "- f2\n", "- f9\n")
    assert not [text for text in found if "it lacks" in text]


def test_file_that_nobody_names(master: Master) -> None:
    (master.served / RELEASE / "left.ko").write_bytes(b"")
    _, (finding,) = verify(master)
    assert finding.warning
    assert "left.ko" in finding.text
