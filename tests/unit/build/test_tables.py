"""A finished module's tables are read as they stand; what the kernel would stumble over is refused."""

from __future__ import annotations

import struct

import pytest

from livepatch_core.build.image import livepatch_image
from livepatch_core.build.objectfile import read_object
from livepatch_core.build.tables import Entry, Row, Tables, Unreadable, read_tables
from tests.unit.build.objects import Source

FUNC, OBJECT, PATCH, STATE = 64, 128, 96, 24


def source(position: int = 2, *, spoil: tuple[str, int] = ("", 0), second: bool = False) -> Source:
    """A module that replaces f and g of the kernel and h of isofs."""
    contents = {
        "functions_0": (3 * FUNC, {0: "name_f", 8: "new_f", FUNC: "name_g", FUNC + 8: "new_g"}),
        "functions_1": (2 * FUNC, {0: "name_h", 8: "new_h"}),
        "objects": (
            3 * OBJECT,
            {
                8: "functions_0",
                24: "hook",
                OBJECT: "name_isofs",
                OBJECT + 8: "functions_1",
                OBJECT + 16: "hook",
            },
        ),
        "states": (2 * STATE, {}),
        "patch": (PATCH, {0: "__this_module", 8: "objects", 16: "states"}),
        "__this_module": (64, {}),
    }
    numbers = {
        "functions_0": [(16, struct.pack("<Q", position))],
        "states": [(0, struct.pack("<QI", 77, 3))],
        "patch": [(24, b"\1")],
    }
    made = Source()
    for name in ("new_f", "new_g", "new_h", "hook"):
        made.function(name, b"\x90\xc3")
    for text in ("f", "g", "h", "isofs"):
        made.data(f"name_{text}", text.encode() + b"\0", section=f".rodata.name_{text}")
    for name, (size, pointers) in contents.items():
        data = bytearray(size)
        for at, value in numbers.get(name, []):
            data[at : at + len(value)] = value
        if spoil[0] == name:
            data[spoil[1]] = 1
        made.data(name, bytes(data), holds=pointers)
    if second:
        made.data("patch", bytes(PATCH), section=".data.more", holds={0: "__this_module"})
    return made


def read(made: Source, functions: tuple[int, ...] = (2, 1), states: int = 1) -> tuple[Tables, dict[str, int]]:
    file = read_object(made.file())
    module = livepatch_image("lp", file, {})
    places = {name: module.addresses(name)[0] for name in ("new_f", "new_g", "new_h", "hook")}
    return read_tables(file, module, functions, states), places


def test_everything_that_a_module_registers_is_read() -> None:
    said, at = read(source())
    kernel = Entry(
        "vmlinux", (Row("f", 2, at["new_f"]), Row("g", 0, at["new_g"])), {"post_patch": at["hook"]}
    )
    module = Entry("isofs", (Row("h", 0, at["new_h"]),), {"pre_patch": at["hook"]})
    assert said == Tables((kernel, module), ((77, 3),), replace=True)


@pytest.mark.parametrize(
    ("functions", "states"), [((1, 1), 1), ((2,), 1), ((2, 1), 0), ((2, 1), 2), ((2, 1, 0), 1)]
)
def test_another_number_than_was_meant_is_refused(functions: tuple[int, ...], states: int) -> None:
    with pytest.raises(Unreadable):
        read(source(), functions, states)


@pytest.mark.parametrize(
    "spoil",
    [
        ("functions_0", 24),
        ("functions_0", 3 * FUNC - 1),
        ("objects", 48),
        ("objects", 3 * OBJECT - 8),
        ("states", 47),
        ("patch", 25),
    ],
)
def test_field_that_must_be_zero_is_refused(spoil: tuple[str, int]) -> None:
    with pytest.raises(Unreadable):
        read(source(spoil=spoil))


def test_second_patch_is_refused() -> None:
    with pytest.raises(Unreadable, match="2 klp_patch"):
        read(source(second=True))
