"""Counting names in /proc/kallsyms."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.kernel.roots import Roots
from livepatch_core.kernel.symbols import Kallsyms, read_kallsyms

KALLSYMS = b"""\
0000000000000000 A fixed_percpu_data
ffffffff81000000 t init_once
ffffffff81000100 T vfs_read
ffffffff81000200 t init_once
ffffffff81000300 t ax
ffffffff81000400 t x
ffffffff81000500 D x
0000000000000000 T a
0000000000000000 t x\t[nfs]
0000000000000000 t init_once\t[nfs]
0000000000000000 t init_once\t[nfsd]
0000000000000000 t init_once\t[nfs]
ffffffffc0000000 t bpf_prog_6deef7357e7b4530_x\t[bpf]
"""


@pytest.mark.parametrize(
    ("target", "name", "count"),
    [
        ("vmlinux", "vfs_read", 1),
        ("vmlinux", "init_once", 2),
        ("vmlinux", "x", 2),  # neither "ax" nor the module's; data counts as the kernel counts it
        ("vmlinux", "a", 1),
        ("vmlinux", "A", 0),  # a type, not a name
        ("nfs", "init_once", 2),
        ("nfsd", "init_once", 1),
        ("nfs", "x", 1),
        ("fs", "init_once", 0),
        ("absent", "x", 0),
        ("vmlinux", "fixed_percpu_data", 1),
        ("vmlinux", "", 0),
        ("vmlinux", "nothing_of_that_name", 0),
    ],
)
def test_how_often(target: str, name: str, count: int) -> None:
    assert Kallsyms(KALLSYMS).positions(target, name) == count


SYMBOLS = st.lists(
    st.tuples(
        st.sampled_from(["vmlinux", "nfs", "nf", "x"]),
        st.text(alphabet="abtT_.0", min_size=1, max_size=4),
        st.sampled_from("tTdDbBrRWwVA"),
    ),
    max_size=40,
)


@given(SYMBOLS)
def test_the_same_as_counting_line_by_line(symbols: list[tuple[str, str, str]]) -> None:
    lines = [
        f"ffffffff81000000 {kind} {name}" + ("" if target == "vmlinux" else f"\t[{target}]")
        for target, name, kind in symbols
    ]
    kallsyms = Kallsyms("".join(line + "\n" for line in lines).encode())
    expected = Counter((target, name) for target, name, _kind in symbols)
    for target in ("vmlinux", "nfs", "nf", "x"):
        for name in {name for _target, name, _kind in symbols} | {"t", "a", "ab"}:
            assert kallsyms.positions(target, name) == expected[target, name]


def test_reading_it(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/kallsyms").write_bytes(KALLSYMS * 1000)
    assert read_kallsyms(Roots.under(tmp_path)).positions("vmlinux", "vfs_read") == 1000


def test_without_kallsyms_there_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_kallsyms(Roots.under(tmp_path))
