"""Units that only add what another unit uses."""

from __future__ import annotations

from pathlib import Path

from livepatch_core.build.builder import _contributing
from livepatch_core.build.differ import difference
from livepatch_core.build.extract import Extracted, NewFunction
from livepatch_core.build.gathering import new_globals
from livepatch_core.build.image import Image
from livepatch_core.build.locate import Proof
from livepatch_core.build.proving import Change
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
