"""How new code names what exists: by the linker's rules, and never what is gone or may be missing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from livepatch_core.build.exports import Export
from livepatch_core.build.image import Image
from livepatch_core.build.kallsyms import KernelSymbol
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.resolve import Resolver

INIT = [KernelSymbol("__init_begin", "D", 0x1000), KernelSymbol("__init_end", "D", 0x2000)]


def resolver(
    owner: str = "vmlinux", *, exports: Sequence[Export] = (), **images: list[KernelSymbol]
) -> Resolver:
    known = {name: Image(name, "id", [], symbols) for name, symbols in images.items()}
    return Resolver(
        "fs/x.c",
        owner,
        known.__getitem__,
        lambda name: frozenset(),
        {export.name: export for export in exports},
    )


def refused(made: Resolver, name: str, evidence: frozenset[int] | None = None) -> Refusal:
    with pytest.raises(Refused) as caught:
        made.resolve(name, evidence, "user")
    assert caught.value.remedy
    return caught.value.refusal


@pytest.mark.parametrize("evidence", [None, frozenset({0x1800})])
def test_start_code_that_is_gone_is_no_target(evidence: frozenset[int] | None) -> None:
    made = resolver(vmlinux=[*INIT, KernelSymbol("setup", "T", 0x1800), KernelSymbol("alive", "T", 0x2000)])
    assert refused(made, "setup", evidence) is Refusal.INIT_CODE
    assert made.resolve("alive", None, "user").owner == "vmlinux"


def test_function_that_referred_to_start_code_before_still_may() -> None:
    made = resolver(vmlinux=[*INIT, KernelSymbol("setup", "T", 0x1800)])
    assert made.resolve("setup", None, "user", kept=True).symbol == ".klp.sym.vmlinux.setup,0"


def test_of_equal_names_only_the_meant_one_has_to_be_alive() -> None:
    made = resolver(vmlinux=[*INIT, KernelSymbol("setup", "t", 0x1800), KernelSymbol("setup", "t", 0x3000)])
    assert made.resolve("setup", frozenset({0x3000}), "user").symbol == ".klp.sym.vmlinux.setup,2"
    assert refused(made, "setup", frozenset({0x1800})) is Refusal.INIT_CODE


EXPORT = Export("send", 7, "vmlinux", "")
KERNEL = [
    KernelSymbol("send", "T", 0x100),
    KernelSymbol("setup", "T", 0x200),
    KernelSymbol("setup", "t", 0x300),
]


@pytest.mark.parametrize(
    ("own", "name", "local", "symbol"),
    [
        ([], "send", False, "send"),
        ([KernelSymbol("send", "t", 0x900)], "send", False, "send"),
        ([KernelSymbol("send", "T", 0x900)], "send", False, ".klp.sym.isofs.send,0"),
        ([KernelSymbol("send", "t", 0x900)], "send", True, ".klp.sym.isofs.send,0"),
        (
            [KernelSymbol("send", "b", 0x800), KernelSymbol("send", "D", 0x900)],
            "send",
            False,
            ".klp.sym.isofs.send,2",
        ),
        ([KernelSymbol("send", "A", 0x900)], "send", True, ".klp.sym.isofs.send,0"),
        ([], "setup", False, ".klp.sym.vmlinux.setup,1"),
    ],
)
def test_name_is_resolved_as_the_linker_does(
    own: list[KernelSymbol], name: str, local: bool, symbol: str
) -> None:
    made = resolver("isofs", exports=[EXPORT], isofs=own, vmlinux=KERNEL)
    assert made.resolve(name, None, "user", local=local).symbol == symbol


@pytest.mark.parametrize(
    ("letters", "local", "refusal"),
    [
        ("t", False, Refusal.SYMBOL_UNRESOLVED),
        ("T", True, Refusal.SYMBOL_UNRESOLVED),
        ("tt", True, Refusal.SYMBOL_AMBIGUOUS),
        ("AA", False, Refusal.SYMBOL_AMBIGUOUS),
    ],
)
def test_static_of_another_file_is_no_answer(letters: str, local: bool, refusal: Refusal) -> None:
    symbols = [KernelSymbol("hidden", letter, 0x100 * n) for n, letter in enumerate(letters, 1)]
    made = resolver(vmlinux=symbols)
    with pytest.raises(Refused) as caught:
        made.resolve("hidden", None, "user", local=local)
    assert caught.value.refusal is refusal
