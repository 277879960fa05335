"""Which object's image a unit is proven against."""

from __future__ import annotations

from typing import cast

import pytest

from livepatch_core.build.compile import Bench
from livepatch_core.build.differ import difference
from livepatch_core.build.kernelimages import Kernel
from livepatch_core.build.proving import Change, prove
from livepatch_core.build.refusals import Refusal, Refused
from tests.unit.build.objects import Source


def test_file_of_several_modules_is_refused() -> None:
    """Kbuild compiles it once, with both names in KBUILD_MODNAME, and links it into each."""
    old, new = Source(), Source()
    old.function("f", b"\x90\xc3")
    new.function("f", b"\xcc\xc3")
    change = Change(difference(old.unit(), new.unit()), "liquidio:liquidio_vf")
    with pytest.raises(Refused) as caught:
        prove(cast(Kernel, None), change, cast(Bench, None))
    assert caught.value.refusal is Refusal.UNSUPPORTED_FILE
    assert "liquidio, liquidio_vf" in caught.value.message
