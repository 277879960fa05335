"""Whom the gates of a running rollout are asked about, and for what an operator's word counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import adoption, commands, obeyed, status
from livepatch_core.rollout.commands import Order, may
from livepatch_core.rollout.fleet import Verb
from livepatch_core.rollout.state import State
from livepatch_core.rollout.states import Phase, Place, Standing
from tests.unit.rollout.fleets import host, plan_of
from tests.unit.rollout.simulated import places
from tests.unit.rollout.test_commands import Under, at
from tests.unit.rollout.test_engine import OPTIONS, a_plan
from tests.unit.rollout.test_engine_world import CONFIRM, PING

LOAD = {**PING, "name": "load", "predicate": {"op": "<=", "value": "10%"}, "twin": True}


def of_one_stratum(**changes: Any) -> Any:
    hosts = [host(f"hv{number}") for number in range(8)]
    return plan_of(hosts, {**OPTIONS, "on_fail_canary": "pause", **changes})


def test_a_host_that_is_patched_is_no_twin(tmp_path: Path) -> None:
    """Tried again it waits as one that was never told, and is as sick as those that are compared with it."""
    plan = of_one_stratum(gates=[LOAD], parallel=1, canaries_per_stratum=3)
    under = Under(tmp_path, plan)
    hosts = under.world.data["hosts"]
    under.world.values = lambda name, fun: 100 if hosts[name]["level"] == 1 else 500
    first = plan.waves[0][0]
    under.until(lambda state: state.hosts[first].place is Place.FAILED)
    under.say("retry")
    state = under.until(lambda state: state.lap > 0 or state.standing is Standing.PAUSED)
    assert {places(state)[name] for name in plan.waves[0][1:]} == {"failed"}
    asked = [one for one in status.history(under.directory) if one["type"] == "ask"]
    twins = {twin for one in asked for twin in one["twins"].values()}
    assert twins and first not in twins


# -- a person's word -------------------------------------------------------------------------------------


def confirmed(tmp_path: Path, **changes: Any) -> Under:
    return Under(tmp_path, a_plan(gates=[CONFIRM], on_fail_canary="pause", **changes))


def test_a_word_before_it_is_asked_for_is_refused(tmp_path: Path) -> None:
    under = confirmed(tmp_path)
    under.until(at(Phase.DISPATCH, 0))
    with pytest.raises(LivepatchError, match="go is not asked now.*wave 1 of 3"):
        under.say("confirm", gate="go")
    state = under.until(lambda state: state.inquiry is not None)
    assert may(Order.CONFIRM, state, {"gate": "go"}) is None
    assert "gate 'other'" in str(may(Order.CONFIRM, state, {"gate": "other"}))


def test_a_word_that_comes_after_another_passes_no_later_gate(tmp_path: Path) -> None:
    """Two people read the same status; the second types when the first has been heard."""
    under = confirmed(tmp_path)
    under.until(lambda state: state.inquiry is not None)
    under.say("confirm", gate="go")
    (file,) = commands.waiting(under.directory)
    text = file.read_text()
    state = under.until(at(Phase.SOAK, 1))
    file.with_name(f"9{file.name[1:]}").write_text(text)
    state = under.until(lambda state: state.inquiry is not None)
    assert (state.lap, state.confirmed) == (1, {})
    (refused,) = [one for one in status.history(under.directory) if one["type"] == "refused"]
    assert "phase soak of wave 2 of 3" in refused["reason"]


@pytest.mark.parametrize("verb", ["promote", "retry"])
def test_a_word_that_was_not_used_ends_with_its_gate(tmp_path: Path, verb: str) -> None:
    """The gate is passed over, or asked again after another soak."""
    under = confirmed(tmp_path)
    bad = under.until(at(Phase.SOAK, 0)).plan.waves[0][0]
    under.until(lambda state: state.inquiry is not None)
    under.say("pause")
    under.until(lambda state: state.standing is Standing.PAUSED)
    under.say("confirm", gate="go")
    state = under.until(lambda state: bool(state.confirmed))
    state.put(bad, Place.FAILED)
    document = {"id": "x", "verb": verb, "who": "bob", "why": "late", "arguments": {}}
    obeyed.command(state, document)
    assert state.confirmed == {}


# -- gates that are passed over --------------------------------------------------------------------------


def stopped(state: State) -> bool:
    return state.standing is Standing.PAUSED


def unjudged(tmp_path: Path) -> tuple[Under, str, list[str]]:
    """A round's gate could not be asked; those of the next rounds would fail it."""
    plan = a_plan(gates=[PING], parallel=1, waves=["100%"])
    under = Under(tmp_path, plan)
    first, *others = plan.waves[1]
    publish = under.world.publish

    def published(jid: str, verb: Verb, hosts: Sequence[str], arguments: Mapping[str, Any]) -> None:
        if verb is not Verb.ASK or list(hosts) != [first]:
            publish(jid, verb, hosts, arguments)

    under.world.publish = published  # type: ignore[method-assign]
    under.world.values = lambda name, fun: name in plan.waves[0]
    assert "could not be judged" in under.until(stopped).reason
    return under, first, others


def test_a_promoted_host_gate_is_asked_of_those_who_come_after(tmp_path: Path) -> None:
    under, first, others = unjudged(tmp_path)
    under.say("promote")
    state = under.end()
    assert places(state)[first] == "healthy" and state.waived == set()
    assert {places(state)[name] for name in others} == {"failed"}


def test_an_old_journal_is_read_as_it_was_meant(tmp_path: Path) -> None:
    """Its promote passed the gate over for the wave, and the records after it say so."""
    state = unjudged(tmp_path)[0].until(stopped)
    document = {"id": "x", "verb": "promote", "who": "bob", "why": "go", "arguments": {}}
    obeyed.command(state, document)
    assert state.waived == {("ping", 1)} and not state.counts[Place.GATING]


def test_who_drives_lets_go_of_a_host_whose_gate_could_not_be_judged(tmp_path: Path) -> None:
    """Nobody asks it before a person has said how to go on."""
    state = unjudged(tmp_path)[0].until(stopped)
    assert state.counts[Place.GATING] and adoption.waits(state)


def test_a_canary_that_is_tried_again_soaks_whatever_was_promoted_before(tmp_path: Path) -> None:
    plan = a_plan(on_fail_canary="pause", gates=[CONFIRM])
    under = Under(tmp_path, plan, {plan.waves[0][0]: "fails"})
    under.until(at(Phase.SOAK, 0))
    under.say("promote")
    assert "no canary" in under.paused().reason
    under.world.data["hosts"][plan.waves[0][0]]["way"] = "well"
    under.say("retry")
    began = under.world.now()
    state = under.until(lambda state: state.inquiry is not None)
    assert state.inquiry is not None and state.inquiry.gate == "go" and state.lap == 0
    assert under.world.now() - began >= plan.options.canary_soak


def test_what_is_passed_over_in_full_are_soaks(tmp_path: Path) -> None:
    under = confirmed(tmp_path, canary_soak=50_000, soak=50_000)
    under.until(at(Phase.SOAK, 0))
    under.say("promote", full=True)
    for lap in (1, 2):  # the first wave was promoted by name
        state = under.until(lambda state, lap=lap: state.lap == lap and state.inquiry is not None)
        assert not state.ended and under.world.monotonic() < 50_000
        under.say("confirm", gate="go")
    assert under.end().standing is Standing.COMPLETED
