"""Units that only add what another unit uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from livepatch_core.build.builder import _contributing
from livepatch_core.build.differ import difference
from livepatch_core.build.exports import Export
from livepatch_core.build.extract import Extracted, NewFunction
from livepatch_core.build.gathering import Gathering, new_globals, published
from livepatch_core.build.hooks import HOOK_SECTION
from livepatch_core.build.image import Image
from livepatch_core.build.kallsyms import KernelSymbol
from livepatch_core.build.locate import Proof
from livepatch_core.build.proving import Change
from livepatch_core.build.refusals import Refusal, Refused
from tests.unit.build.objects import Source


def unit(*names: str, local: str = "") -> Source:
    source = Source()
    for name in names:
        source.function(name, b"\x90\xc3")
    if local:
        source.function(local, b"\x90\xc3", local=True)
    return source


def test_new_global_is_offered_and_a_new_static_is_not() -> None:
    change = difference(unit("old").unit(), unit("old", "added", local="hidden").unit())
    assert change.changed == []
    assert new_globals(change) == {"added"}


def test_unit_that_nothing_was_taken_from_is_left_out() -> None:
    change = Change(difference(unit("old").unit(), unit("old", "added").unit()), "ax25")
    proof = Proof(Image("ax25", "id", [], []))
    acting = Extracted("a.c", "ax25", b"", functions=[NewFunction("f", 0, "alias", "f")])
    giving, idle = Extracted("b.c", "ax25", b"", new=["added"]), Extracted("c.c", "ax25", b"")
    _, units, proofs = _contributing([change] * 3, [acting, giving, idle], [proof] * 3)
    assert [Path(u.path).name for u in units] == ["a.c", "b.c"]
    assert len(proofs) == 2


def test_changed_unit_that_nothing_was_taken_from_is_refused() -> None:
    """Of it the module would have no code, and the kernel would go on running the old."""
    change = Change(difference(unit("old").unit(), unit("old").unit()), "kvm")
    change.difference.copied.append("setnle")
    with pytest.raises(Refused) as caught:
        _contributing([change], [Extracted("a.c", "kvm", b"")], [Proof(Image("kvm", "id", [], []))])
    assert (caught.value.refusal, caught.value.function) == (Refusal.NOTRACE, "setnle")


@dataclass
class Kernel:
    """Objects of a kernel by name: their symbols, and what each needs loaded."""

    images: dict[str, Image]
    needs: dict[str, frozenset[str]] = field(default_factory=dict)
    exports: dict[str, Export] = field(default_factory=dict)

    def image(self, name: str) -> Image:
        return self.images[name]

    def depends(self, name: str) -> frozenset[str]:
        return self.needs.get(name, frozenset())


def calling(target: str) -> Source:
    source = Source()
    source.function("user", b"\xe8\0\0\0\0\xc3", calls={1: target})
    return source


def gathering(kernel: Kernel, *changes: Change) -> Gathering:
    symbols = ("user", "old", "a", "b")
    places = {name: 0x100 * n for n, name in enumerate(symbols)}
    hidden = [{n: 0x900 for n in ("hidden",) if n in c.difference.original.pieces} for c in changes]
    proofs = [Proof(kernel.images[c.owner], {**places, **own}) for c, own in zip(changes, hidden)]
    return Gathering(kernel, changes, proofs)  # type: ignore[arg-type]


def image(name: str, *more: KernelSymbol, imports: dict[str, int] | None = None) -> Image:
    own = [KernelSymbol(n, "T", 0x100 * i) for i, n in enumerate(("user", "old", "a", "b"))]
    return Image(name, "id", [], [*own, *more], imports or {})


def user_and_provider(user: str, provider: str) -> tuple[Change, Change]:
    before, after = calling("old").unit("fs/user.c"), calling("added").unit("fs/user.c")
    more = difference(unit("old").unit("fs/new.c"), unit("old", "added").unit("fs/new.c"))
    return Change(difference(before, after), user), Change(more, provider)


@pytest.mark.parametrize(
    ("user", "provider"),
    [("isofs", "vmlinux"), ("isofs", "isofs"), ("isofs", "cdrom"), ("vmlinux", "vmlinux")],
)
def test_new_function_of_an_object_that_is_there_may_be_used(user: str, provider: str) -> None:
    kernel = Kernel({n: image(n) for n in ("vmlinux", "isofs", "cdrom")}, {"isofs": frozenset({"cdrom"})})
    first, second = gathering(kernel, *user_and_provider(user, provider)).run()
    assert (first.wanted, second.new) == ({"added"}, ["added"])


@pytest.mark.parametrize("has", ["own", "import", "vmlinux", "export"])
def test_new_function_of_another_object_does_not_take_the_place_of_what_there_is(has: str) -> None:
    """Two modules have functions of one name: a file of one of them means its own."""
    there = [KernelSymbol("added", "T", 0x900)]
    kernel = Kernel({"vmlinux": image("vmlinux", *there * (has != "own"))}, {"isofs": frozenset({"cdrom"})})
    kernel.images["isofs"] = image(
        "isofs", *there * (has == "own"), imports={"added": 9} if has == "import" else {}
    )
    kernel.images["cdrom"] = image("cdrom")
    if has == "export":
        kernel.exports["added"] = Export("added", 1, "vmlinux", "")
    first, second = gathering(kernel, *user_and_provider("isofs", "cdrom")).run()
    assert (first.wanted, second.new) == (frozenset(), [])
    assert first.externals["added"].owner == ("isofs" if has == "own" else "vmlinux")


def showing(owner: str) -> Change:
    """A static becomes global."""
    return user_and_static(owner, owner)[1]


def defining(owner: str) -> Change:
    return Change(difference(unit("old").unit("fs/new.c"), unit("old", "hidden").unit("fs/new.c")), owner)


@pytest.mark.parametrize("other", [showing, defining])
@pytest.mark.parametrize("own", [showing, defining])
def test_what_the_patch_gives_the_own_object_comes_first(
    own: Callable[[str], Change], other: Callable[[str], Change]
) -> None:
    """The other object may give the same name; which file comes last does not matter."""
    statics = [KernelSymbol("hidden", "t", 0x900)]
    kernel = Kernel({"vmlinux": image("vmlinux")}, {"isofs": frozenset({"cdrom"})})
    for name, kind in (("isofs", own), ("cdrom", other)):
        kernel.images[name] = image(name, *statics * (kind is showing))
    for more in ([own("isofs"), other("cdrom")], [other("cdrom"), own("isofs")]):
        user = user_and_static("isofs", "isofs")[0]
        units = gathering(kernel, user, *more).run()
        if own is showing:
            assert units[0].externals["hidden"].symbol == ".klp.sym.isofs.hidden,0"
            assert units[0].wanted == frozenset()
        else:
            assert units[0].wanted == {"hidden"}
            assert [unit.owner for unit in units if unit.new] == ["isofs"]


def test_two_objects_may_have_new_functions_of_one_name() -> None:
    kernel = Kernel({name: image(name) for name in ("vmlinux", "isofs", "cdrom")})
    changes = [*user_and_provider("isofs", "isofs"), *user_and_provider("cdrom", "cdrom")]
    units = gathering(kernel, *changes).run()
    assert [(unit.owner, sorted(unit.wanted), unit.new) for unit in units] == [
        ("isofs", ["added"], []),
        ("isofs", [], ["added"]),
        ("cdrom", ["added"], []),
        ("cdrom", [], ["added"]),
    ]


@pytest.mark.parametrize(("user", "provider"), [("vmlinux", "isofs"), ("cdrom", "isofs")])
def test_new_function_of_a_module_that_may_be_missing_is_refused(user: str, provider: str) -> None:
    kernel = Kernel({n: image(n) for n in ("vmlinux", "isofs", "cdrom")}, {"isofs": frozenset({"cdrom"})})
    with pytest.raises(Refused) as caught:
        gathering(kernel, *user_and_provider(user, provider)).run()
    assert (caught.value.refusal, caught.value.function) == (Refusal.SYMBOL_UNRESOLVED, "added")
    assert "module isofs" in caught.value.message and "fs/new.c" in caught.value.message


def user_and_static(user: str, owner: str) -> tuple[Change, Change]:
    """A static function that becomes global, and another file that uses it."""
    before, after = (calling(name).unit("fs/user.c") for name in ("old", "hidden"))
    sides = [Source(), Source()]
    for source, local in zip(sides, (True, False)):
        source.function("hidden", b"\x90\xc3", local=local)
    shown = difference(*(source.unit("fs/shown.c") for source in sides))
    return Change(difference(before, after), user), Change(shown, owner)


def with_static(*letters: str) -> dict[str, Image]:
    more = [KernelSymbol("hidden", letter, 0x500 + 0x400 * n) for n, letter in enumerate(letters)]
    return {"vmlinux": image("vmlinux", *more), "isofs": image("isofs", *more)}


@pytest.mark.parametrize(
    ("user", "owner"), [("vmlinux", "vmlinux"), ("isofs", "isofs"), ("isofs", "vmlinux")]
)
def test_static_that_becomes_global_is_used_where_it_is(user: str, owner: str) -> None:
    """The other file's proof says which of two of its name it is."""
    changes = user_and_static(user, owner)
    assert published(changes[1].difference) == {"hidden": "hidden"}
    assert new_globals(changes[1].difference) == frozenset()
    job = gathering(Kernel(with_static("t", "t")), *changes)  # type: ignore[arg-type]
    units = job.run()
    assert units[0].externals["hidden"].symbol == f".klp.sym.{owner}.hidden,2"
    assert (units[0].wanted, units[1].new) == (frozenset(), [])
    assert owner in job.used


@pytest.mark.parametrize("left", ["declared", "published"])
def test_static_that_moves_to_another_file_is_refused(left: str) -> None:
    """What was proven of its name is the old one's address; the new one would be left out."""
    before = calling("hidden")
    before.function("hidden", b"\x90\xc3", local=True)
    user = Change(difference(before.unit("fs/user.c"), calling("hidden").unit("fs/user.c")), "vmlinux")
    kernel = Kernel({"vmlinux": image("vmlinux", KernelSymbol("hidden", "t", 0x900))})
    taker = difference(unit("old").unit("fs/new.c"), unit("old", "hidden").unit("fs/new.c"))
    other = Change(taker, "vmlinux") if left == "declared" else user_and_static("vmlinux", "vmlinux")[1]
    user.difference.replaced.append("user")
    with pytest.raises(Refused) as caught:
        gathering(kernel, user, other).run()
    assert (caught.value.refusal, caught.value.function) == (Refusal.SYMBOL_AMBIGUOUS, "hidden")
    assert "takes the static hidden away" in caught.value.message


def test_another_name_of_a_static_makes_it_no_global() -> None:
    """MODULE_DEVICE_TABLE() gives a static table a name that only modpost looks for."""

    def table(*more: str) -> Source:
        source = Source()
        source.data("ids", bytes(8))
        for name in more:
            source.alias(name, "ids")
        return source

    change = difference(table().unit(), table("__mod_of__ids_device_table").unit())
    assert "ids" not in published(change)


def test_static_of_a_module_that_may_be_missing_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        gathering(Kernel(with_static("t")), *user_and_static("vmlinux", "isofs")).run()
    assert (caught.value.refusal, caught.value.function) == (Refusal.SYMBOL_UNRESOLVED, "hidden")
    assert "module isofs" in caught.value.message and "fs/shown.c" in caught.value.message


def test_static_that_becomes_global_over_a_weak_default_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        gathering(Kernel(with_static("W", "t")), *user_and_static("vmlinux", "vmlinux")).run()
    assert (caught.value.refusal, caught.value.function) == (Refusal.SYMBOL_AMBIGUOUS, "hidden")


@pytest.mark.parametrize(("letter", "refusal"), [("T", True), ("W", True), ("D", True), ("t", False)])
def test_second_global_of_a_name_is_refused(letter: str, refusal: bool) -> None:
    """It moved here from another file, or overrides a weak default; a static elsewhere is another thing."""
    there = KernelSymbol("added", letter, 0x900)
    kernel = Kernel({"vmlinux": image("vmlinux", there)})
    job = gathering(kernel, *user_and_provider("vmlinux", "vmlinux"))
    if not refusal:
        assert len(job.run()) == 2
        return
    with pytest.raises(Refused) as caught:
        job.run()
    assert (caught.value.refusal, caught.value.function) == (Refusal.SYMBOL_AMBIGUOUS, "added")


@pytest.mark.parametrize(("imports", "refusal"), [({"added": 0x900}, True), ({}, False)])
def test_new_global_of_a_module_is_held_against_what_the_module_uses(
    imports: dict[str, int], refusal: bool
) -> None:
    kernel = Kernel({"vmlinux": image("vmlinux", KernelSymbol("added", "T", 0x900))})
    kernel.images["isofs"] = image("isofs", imports=imports)
    job = gathering(kernel, *user_and_provider("isofs", "isofs"))
    if not refusal:
        assert len(job.run()) == 2
        return
    with pytest.raises(Refused) as caught:
        job.run()
    assert caught.value.refusal is Refusal.SYMBOL_AMBIGUOUS


def with_callback(path: str, owner: str, kind: str) -> Change:
    source = unit("old", local="start")
    source.data(f"hook_{kind}", bytes(8), section=f"{HOOK_SECTION}{kind}", holds={0: "start"})
    return Change(difference(unit("old").unit(path), source.unit(path)), owner)


@pytest.mark.parametrize(
    ("owner", "kind", "refusal"),
    [("vmlinux", "post_patch", True), ("vmlinux", "pre_patch", False), ("isofs", "post_patch", False)],
)
def test_one_callback_of_a_kind_for_each_object(owner: str, kind: str, refusal: bool) -> None:
    kernel = Kernel({name: image(name) for name in ("vmlinux", "isofs")})
    changes = with_callback("fs/a.c", "vmlinux", "post_patch"), with_callback("fs/b.c", owner, kind)
    if not refusal:
        assert [list(one.hooks) for one in gathering(kernel, *changes).run()] == [["post_patch"], [kind]]
        return
    with pytest.raises(Refused) as caught:
        gathering(kernel, *changes).run()
    assert (caught.value.refusal, caught.value.file) == (Refusal.HOOKS, "fs/b.c")
    assert "fs/a.c" in caught.value.message
