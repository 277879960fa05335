"""The two writes that change the kernel, on a tree of plain files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.kernel import control
from livepatch_core.kernel.roots import Roots
from livepatch_core.words import Kind


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    directory = tmp_path / "sys/kernel/livepatch/lp_one"
    directory.mkdir(parents=True)
    for name in ("enabled", "force"):
        (directory / name).write_bytes(b"?")
    return Roots.under(tmp_path)


def written(roots: Roots, name: str) -> bytes:
    return (roots.sys / "kernel/livepatch/lp_one" / name).read_bytes()


@pytest.mark.parametrize(("value", "text"), [(True, b"1"), (False, b"0")])
def test_enabled_takes_the_value(roots: Roots, value: bool, text: bytes) -> None:
    control.write_enabled(roots, "lp_one", value)
    assert (written(roots, "enabled"), written(roots, "force")) == (text, b"?")


def test_force_touches_force_alone(roots: Roots) -> None:
    control.write_force(roots, "lp_one")
    assert (written(roots, "enabled"), written(roots, "force")) == (b"?", b"1")


def test_nothing_is_created_for_a_patch_that_is_gone(roots: Roots) -> None:
    (roots.sys / "kernel/livepatch/lp_one/enabled").unlink()
    with pytest.raises(FileNotFoundError):
        control.write_enabled(roots, "lp_one", True)
    with pytest.raises(FileNotFoundError):
        control.write_force(roots, "lp_two")
    assert not (roots.sys / "kernel/livepatch/lp_one/enabled").exists()


@given(
    st.sampled_from(["", ".", "..", "../lp_one", "lp_one/.", "/etc", "a\0b"])
    | st.builds("{}/{}".format, st.text(), st.text())
)
def test_a_name_never_leads_out_of_the_directory(name: str) -> None:
    with pytest.raises(LivepatchError) as refused:
        control.write_enabled(Roots.under(Path("/nonexistent")), name, True)
    assert refused.value.kind is Kind.ARGUMENT
