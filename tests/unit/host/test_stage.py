"""Modules that are on the host before the move."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import zlib
from typing import Any

import pytest
import yaml

from livepatch_core.errors import LivepatchError
from livepatch_core.host import apply, lastact, stage
from livepatch_core.host.context import Host
from livepatch_core.host.move import Wish
from livepatch_core.words import Kind
from tests.unit.host.fakekernel import BUILD_ID, RELEASE, module
from tests.unit.host.world import World


def builds(world: World, level: int) -> dict[str, Any]:
    return {BUILD_ID: {"level": level, "sha256": world.levels[level].sha256 if level else None}}


def serving(world: World, without_files: bool = False) -> Host:
    """The host as the execution module makes it; a file server that lost every module, if wished."""

    def fetch(name: str) -> bytes | None:
        if without_files and name.endswith(".ko"):
            return None
        return world.fetch(name)

    host = world.host
    return dataclasses.replace(host, fetch=stage.serving(host.settings, fetch))


def withheld(world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """Grant and payload of a level 7 that no catalog serves."""
    file = module("lp_7")
    data = world.kernel.make(file)
    entry = {"status": "testing", "module": "lp_7.ko", "name": "lp_7", "sha256": file.sha256}
    text = yaml.safe_dump({"schema": 1, "release": RELEASE, "builds": {BUILD_ID: {"levels": {7: entry}}}})
    packed = base64.b64encode(zlib.compress(data)).decode()
    return {BUILD_ID: {"level": 7, "sha256": file.sha256}}, {BUILD_ID: {"catalog": text, "module": packed}}


def test_what_is_staged_is_loaded_without_the_file_server(world: World) -> None:
    assert stage.stage(serving(world), builds(world, 2))["level"] == 2
    host = serving(world, without_files=True)
    assert apply.move.move(host, Wish(approval=world.approval(1, 2))).changes["level"]["new"] == 2
    with pytest.raises(LivepatchError, match="no such file"):
        apply.move.move(host, Wish(approval=world.approval(2, 1)))


def test_a_level_in_testing_comes_with_the_call(world: World) -> None:
    grant, payload = withheld(world)
    with pytest.raises(LivepatchError, match="no level 7"):
        stage.stage(serving(world), grant)
    stage.stage(serving(world), grant, payload)
    approval = {"ledger_id": "ledger-1", "rev": 1, "builds": grant}
    assert apply.move.move(serving(world), Wish(approval=approval)).changes["level"]["new"] == 7


def test_served_catalog_decides(world: World) -> None:
    """A staged level that the catalog blocks meanwhile is refused."""
    grant, payload = withheld(world)
    stage.stage(serving(world), grant, payload)
    served = yaml.safe_load(world.fetch(f"{RELEASE}/catalog.yaml") or b"")
    sha256 = grant[BUILD_ID]["sha256"]
    notice = {
        "status": "blocked",
        "module": "lp_7.ko",
        "name": "lp_7",
        "sha256": sha256,
        "reason": "it crashes",
    }
    served["builds"][BUILD_ID]["levels"][7] = notice
    host = world.host
    host = dataclasses.replace(
        host, fetch=stage.serving(host.settings, lambda name: yaml.safe_dump(served).encode())
    )
    with pytest.raises(LivepatchError, match="it crashes"):
        apply.move.move(host, Wish(approval={"ledger_id": "ledger-1", "rev": 1, "builds": grant}))


@pytest.mark.parametrize("spoilt", ["not base64!", "", base64.b64encode(zlib.compress(b"x")).decode()])
def test_what_is_not_the_module_is_refused(world: World, spoilt: str) -> None:
    grant, payload = withheld(world)
    with pytest.raises(LivepatchError) as refusal:
        stage.stage(serving(world), grant, {BUILD_ID: {**payload[BUILD_ID], "module": spoilt}})
    assert refusal.value.kind is Kind.DIGEST
    assert stage.read_index(world.host.settings) == ()


def test_only_the_newest_are_kept(world: World) -> None:
    for level in (1, 2, 3):
        stage.stage(serving(world), builds(world, level))
    assert [one.level for one in stage.read_index(world.host.settings)] == [3, 2]
    folder = world.host.settings.state_dir / "staged"
    assert len(list(folder.glob("*.ko"))) == stage.KEPT
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


def test_damaged_bytes_are_fetched_again(world: World) -> None:
    stage.stage(serving(world), builds(world, 1))
    for path in (world.host.settings.state_dir / "staged").glob("*.ko"):
        path.write_bytes(b"damaged")
    assert apply.move.move(serving(world), Wish(approval=world.approval(1, 1))).result is True


def test_other_kernel_build_and_level_zero(world: World) -> None:
    with pytest.raises(LivepatchError) as refusal:
        stage.stage(serving(world), {"ab" * 20: {"level": 1, "sha256": "0" * 64}})
    assert refusal.value.kind is Kind.UNCOVERED
    assert stage.stage(serving(world), builds(world, 0))["sha256"] is None


def test_hosts_divide_themselves_over_the_spread() -> None:
    moments = [stage.delay(f"hv{number}", "ab" * 32, 60.0) for number in range(1000)]
    assert 0 <= min(moments) < 3
    assert 57 < max(moments) < 60
    assert stage.delay("hv1", "ab" * 32, 60.0) == moments[1]


def test_end_of_the_last_act_is_kept(world: World) -> None:
    def act(rev: int, level: int) -> None:
        wish = Wish(approval=world.approval(rev, level))
        world.outcome(lambda: lastact.noted(world.host, wish, apply.move.move))

    assert lastact.read_last(world.host) == {}
    act(3, 1)
    assert lastact.read_last(world.host)["level"] == {"old": 0, "new": 1}
    act(3, 1)  # nothing to do: how it was reached stays known
    assert lastact.read_last(world.host)["level"] == {"old": 0, "new": 1}
    act(2, 2)
    assert lastact.read_last(world.host)["rev"] == 3
    world.levels[2] = module("lp_2")
    world.levels[2] = dataclasses.replace(world.levels[2], sha256=hashlib.sha256(b"other").hexdigest())
    act(4, 2)
    last = lastact.read_last(world.host)
    assert (last["rev"], last["result"], last["kind"]) == (4, False, "digest")
