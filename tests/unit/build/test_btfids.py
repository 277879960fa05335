"""Lists of BTF ids, whose bytes are zeros until the kernel is linked."""

from __future__ import annotations

import pytest

from livepatch_core.build.btfids import check_lists
from livepatch_core.build.objectfile import STB_GLOBAL, STT_NOTYPE, Symbol
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.unit import Unit
from tests.unit.build.objects import Source


def unit(*symbols: tuple[int, str]) -> Unit:
    source = Source()
    number = source._section(".BTF_ids", 2, bytes(32))
    source.symbols += [Symbol(name, at, 0, STT_NOTYPE, STB_GLOBAL, number) for at, name in symbols]
    return source.unit()


FIRST, SECOND = "__BTF_ID__func__vfs_truncate__{}", "__BTF_ID__func__vfs_getattr__{}"
SET = [(0, "allowed"), (0, "__BTF_ID__set__allowed")]
OTHER = [(16, "path_ids"), (16, "__BTF_ID__struct__path__7968")]
OLD = unit(*SET, (4, FIRST.format(12940)), (8, SECOND.format(13941)), *OTHER)


def test_counter_and_line_of_a_member_say_nothing() -> None:
    check_lists(OLD, unit(*SET, (4, FIRST.format(15940)), (8, SECOND.format(16941)), *OTHER))


def test_list_may_go() -> None:
    check_lists(OLD, unit(*OTHER))


@pytest.mark.parametrize(
    "members",
    [
        [(4, SECOND.format(12940)), (8, FIRST.format(13941))],
        [(4, FIRST.format(12940)), (8, "__BTF_ID__func__vfs_fallocate__13941")],
        [(8, FIRST.format(12940)), (12, SECOND.format(13941))],
        [(4, FIRST.format(12940))],
    ],
)
def test_other_members_are_refused(members: list[tuple[int, str]]) -> None:
    with pytest.raises(Refused) as caught:
        check_lists(OLD, unit(*SET, *members, *OTHER))
    assert (caught.value.refusal, caught.value.function) == (
        Refusal.NEW_REGISTRATION,
        "__BTF_ID__set__allowed",
    )
