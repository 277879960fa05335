"""Static tables: any layout that is announced by symbols and pointers is read, any other is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile.model import Function, Maker, PatchedObject, State
from livepatch_core.modulefile.read import read_module
from tests.unit.modulefile.handmade import CALLBACKS, MACHINES, Layout, Writer, module
from tests.unit.modulefile.images import HAND, image, number, relocation_at, replaced, symbol_at, variable_at

names = st.from_regex(r"[a-z_][a-z0-9_]{0,20}(\.isra\.[0-9])?", fullmatch=True)
functions = st.builds(Function, names, st.integers(0, 2**64 - 1))
objects = st.builds(
    PatchedObject,
    st.just("vmlinux") | st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True),
    st.lists(functions, max_size=5).map(tuple),
    st.sets(st.sampled_from(CALLBACKS)).map(lambda found: tuple(sorted(found, key=CALLBACKS.index))),
)
states = st.builds(State, st.integers(1, 2**64 - 1), st.integers(0, 2**32 - 1))
sizes = st.integers(8, 64).map(lambda words: 8 * words)
layouts = st.builds(
    Layout,
    func=sizes,
    object=sizes,
    patch=sizes,
    name=st.sampled_from([16, 24, 32, 40]),
    machine=st.sampled_from(sorted(MACHINES)),
)


@given(
    st.lists(objects, min_size=1, max_size=5).map(tuple), st.booleans(), st.lists(states, max_size=3), layouts
)
def test_whatever_is_written_is_read(
    patched: tuple[PatchedObject, ...], replace: bool, states: list[State], layout: Layout
) -> None:
    read = read_module(module(patched, replace=replace, states=tuple(states), layout=layout))
    assert (read.objects, read.replace, read.states) == (patched, replace, tuple(states))
    assert (read.name, read.machine, read.maker) == ("lp_handmade", layout.machine, Maker.HAND)


ONE = (PatchedObject("vmlinux", (Function("f", 0),)),)


@pytest.mark.parametrize("replace", [True, False])
def test_a_kernel_whose_patches_have_no_states(replace: bool) -> None:
    assert read_module(module(ONE, replace=replace, layout=Layout(states=False))).replace is replace


def refused(data: bytes) -> str:
    with pytest.raises(LivepatchError) as caught:
        read_module(data)
    return caught.value.message


@pytest.mark.parametrize("name", HAND)
@pytest.mark.parametrize("variable", ["patch", "objs"])
def test_tables_without_sizes_are_refused(name: str, variable: str) -> None:
    data = image(name)
    assert "symbols were stripped" in refused(replaced(data, symbol_at(data, variable) + 16, bytes(8)))


@pytest.mark.parametrize("name", HAND)
@pytest.mark.parametrize(
    ("variable", "offset"),
    [("patch", 25), ("patch", 32), ("patch", 100), ("objs", 57), ("objs", 160), ("objs", -1)],
)
def test_fields_that_are_not_known_are_refused(name: str, variable: str, offset: int) -> None:
    """One byte set where the known structures have none."""
    data = image(name)
    size = int.from_bytes(data[symbol_at(data, variable) + 16 :][:8], "little")
    at = variable_at(data, variable) + offset % size
    assert "is not one that is known" in refused(replaced(data, at, b"\x01"))


@pytest.mark.parametrize("offset", [24, 151, 152, -1])
def test_fields_of_functions_that_are_not_known_are_refused(offset: int) -> None:
    """In the first entry beyond ``old_sympos``, or in the last, which is to be empty."""
    data = image("lp_one-6.1")
    at = variable_at(data, "funcs") + offset % (2 * 152)
    assert "klp_func table is not one that is known" in refused(replaced(data, at, b"\x01"))


@pytest.mark.parametrize(("offset", "value"), [(0, 0), (24, 0), (48, 1), (56, 1)])
def test_states_that_do_not_end_as_they_should_are_refused(offset: int, value: int) -> None:
    data = image("lp_full-6.1")
    at = variable_at(data, "states") + offset
    assert "does not end with an empty entry" in refused(replaced(data, at, number(value)))


def test_a_function_that_is_data_is_refused() -> None:
    data = image("lp_one-6.1")
    funcs = variable_at(data, "funcs") - variable_at(data, "patch")
    name, function = (relocation_at(data, ".data", funcs + at) + 8 for at in (0, 8))
    assert "does not lead to code" in refused(replaced(data, function, data[name : name + 8]))


def test_a_name_that_is_empty_is_refused() -> None:
    assert "is empty" in refused(module((PatchedObject("vmlinux", (Function("", 0),)),)))


def test_a_variable_of_two_sizes_is_refused() -> None:
    writer = Writer(Layout())
    writer.patch(ONE, True, ())
    name, start, size = writer.variables[-1]
    writer.variables.append((name, start, size - 8))
    assert "no symbol that gives its size" in refused(writer.elf("lp_ambiguous"))


def test_a_pointer_into_the_module_structure_is_no_patch() -> None:
    """``klp_patch`` begins with the address of the module; what begins with another one is something else."""
    writer = Writer(Layout())
    writer.patch(ONE, True, ())
    decoy = writer.variable("decoy", 200)
    writer.point(decoy, 5, 8)
    writer.point(decoy + 8, 3, next(start for name, start, _ in writer.variables if name == "objs"))
    assert read_module(writer.elf("lp_decoy")).objects == ONE


def test_tables_that_are_read_over_and_over_are_refused() -> None:
    """Forty objects whose functions are the same empty table of one MiB."""
    writer = Writer(Layout())
    start = writer.variable("patch", 200)
    objs = writer.variable("objs", 41 * 168)
    funcs = writer.variable("funcs", 1 << 20)
    writer.point(start, 5, 0)
    writer.point(start + 8, 3, objs)
    for count in range(40):
        writer.point(objs + 168 * count + 8, 3, funcs)
    assert "more than 32 MiB" in refused(writer.elf("lp_large"))


def test_a_replace_that_is_no_boolean_is_refused() -> None:
    """A newer kernel may give the field another meaning (``replace_set``)."""
    data = image("lp_one-6.1")
    assert "is not one that is known" in refused(replaced(data, variable_at(data, "patch") + 24, b"\x02"))


@pytest.mark.parametrize(
    ("change", "why"), [(-8, "klp_func table is not one that is known"), (8, "outside of its section")]
)
def test_a_table_of_another_size_is_refused(change: int, why: str) -> None:
    data = image("lp_one-6.1")
    at = symbol_at(data, "funcs") + 16
    size = int.from_bytes(data[at : at + 8], "little")
    assert why in refused(replaced(data, at, number(size + change)))


def test_a_name_that_is_relocated_in_an_unknown_way_is_refused() -> None:
    data = image("lp_one-6.1")
    at = relocation_at(data, ".data", variable_at(data, "funcs") - variable_at(data, "patch"))
    assert "relocation of type 2" in refused(replaced(data, at + 8, number(2, 4)))


def test_two_patches_in_one_module_are_refused() -> None:
    writer = Writer(Layout())
    writer.patch(ONE, True, ())
    writer.patch(ONE, True, ())
    assert "2 tables of patched functions" in refused(writer.elf("lp_two"))


def test_a_livepatch_without_tables_is_refused() -> None:
    assert "0 tables of patched functions" in refused(Writer(Layout()).elf("lp_none"))


def test_function_tables_with_entries_of_different_sizes_are_refused() -> None:
    writer = Writer(Layout())
    start = writer.variable("patch", 200)
    objs = writer.variable("objs", 3 * 168)
    writer.point(start, 5, 0)
    writer.point(start + 8, 3, objs)
    for count, size in enumerate((152, 160)):
        writer.layout = Layout(func=size)
        writer.point(objs + 168 * count + 8, 3, writer.functions(ONE[0]))
    assert "entries of different sizes" in refused(writer.elf("lp_mixed"))
