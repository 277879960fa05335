"""What a module's parts are put together by."""

from __future__ import annotations

import pytest

from livepatch_core.build.extract import Extracted
from livepatch_core.build.kmod import patched_object
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.resolve import External

ROUTE = External(".klp.sym.tunnel.route,0", "tunnel", "route")


def unit(owner: str, *externals: External) -> Extracted:
    return Extracted(f"{owner}.c", owner, b"", externals={e.name: e for e in externals})


def test_what_belongs_to_the_kernel_is_there_at_once() -> None:
    symbol = External(".klp.sym.vmlinux.jiffies,0", "vmlinux", "jiffies")
    assert patched_object([unit("tunnel", symbol)]) == {symbol.symbol: "vmlinux"}


def test_a_plain_export_is_left_to_the_module_loader() -> None:
    assert patched_object([unit("tunnel", External("printk", "vmlinux", "printk"))]) == {}


def test_a_symbol_of_a_module_that_is_not_patched_comes_with_its_user() -> None:
    assert patched_object([unit("ppp", ROUTE), unit("ppp", ROUTE)]) == {ROUTE.symbol: "ppp"}


def test_two_users_of_a_module_that_is_not_patched() -> None:
    with pytest.raises(Refused, match="ppp and netlink need it") as refused:
        patched_object([unit("netlink", ROUTE), unit("ppp", ROUTE)])
    assert refused.value.refusal is Refusal.SYMBOL_AMBIGUOUS


def test_two_users_of_a_patched_module() -> None:
    """l2tp_core with l2tp_ppp and l2tp_netlink: neither is ever loaded without it."""
    units = [unit("netlink", ROUTE), unit("ppp", ROUTE), unit("tunnel")]
    assert patched_object(units) == {ROUTE.symbol: "tunnel"}
