from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout.model import Exposure, GateType, Limit, OnFail, When
from livepatch_core.rollout.options import KEYS, document, from_document, parse_options
from livepatch_core.words import Kind
from tests.unit.rollout.fleets import some_options

GATE = {"type": "function", "arguments": {"fun": "test.ping"}, "predicate": {"op": "==", "value": True}}
WINDOW = {"zone": "Europe/Berlin", "start": "22:00", "end": "06:00"}


@given(some_options())
def test_options_come_back_from_their_document(given_options: dict[str, Any]) -> None:
    options = parse_options(given_options, level=3)
    assert from_document(document(options)) == options
    assert set(document(options)) == {*KEYS, "level"}


def test_document_of_a_newer_version_is_understood() -> None:
    options = parse_options({"gates": [GATE], "windows": [WINDOW]}, level=3)
    newer = {**document(options), "colour": "blue"}
    newer["gates"] = [{**newer["gates"][0], "colour": "blue"}]
    newer["windows"] = [{**newer["windows"][0], "colour": "blue"}]
    newer["thresholds"] = {**newer["thresholds"], "colour": {"wave": 0, "total": 0}}
    assert from_document(newer) == options


def test_what_is_not_given_comes_from_the_profile() -> None:
    assert parse_options({}, level=1).profile == "standard"
    assert parse_options({"soak": None}, level=1) == parse_options({}, level=1)
    careful = parse_options({"profile": "careful", "soak": "1h"}, level=1)
    assert (careful.canary_soak, careful.soak, careful.on_fail) == (86_400, 3600, OnFail.ROLLBACK_WAVE)


def test_one_amount_is_the_limit_of_waves_and_total() -> None:
    thresholds = parse_options({"thresholds": {"failed": 3, "stalled": {"wave": 1}}}, level=1).thresholds
    assert thresholds.failed == Limit(3, 3)
    assert thresholds.stalled == Limit(1, "5%")
    assert thresholds.lost == Limit(0, 0)


def test_seed_is_given_or_derived_from_the_level() -> None:
    assert parse_options({}, level=1).seed == parse_options({"soak": 5}, level=1).seed
    assert parse_options({}, level=1).seed != parse_options({}, level=2).seed
    assert parse_options({}, level=1, seed=7).seed == 7
    assert parse_options({"seed": 8}, level=1, seed=7).seed == 8


def test_names_may_be_a_text_with_commas() -> None:
    assert parse_options({"canaries": "hv1, hv2"}, level=1).canaries == ("hv1", "hv2")


def test_gate_has_defaults() -> None:
    (gate,) = parse_options({"gates": [GATE]}, level=1).gates
    assert (gate.name, gate.type, gate.when) == ("function", GateType.FUNCTION, When.WAVE)
    assert gate.predicate == {"path": "", "op": "==", "value": True}
    assert (gate.needed, gate.attempts, gate.dry_run) == (1, 1, False)


def test_what_a_gate_says_is_filled_in() -> None:
    web = {"type": "http", "arguments": {"url": "http://a.example/health", "timeout": "1m"}}
    there = {**GATE, "predicate": {"path": "a.b", "op": "exists"}}
    first, second = parse_options({"gates": [web, there]}, level=1).gates
    assert first.arguments["timeout"] == 60
    assert second.predicate["value"] is True


def test_exposure_is_what_the_operator_accepts() -> None:
    given_exposure = {"exposure": {"detection": "90m", "hosts": 50}}
    assert parse_options(given_exposure, level=1).exposure == Exposure(5400, 50)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"colour": "blue"}, "colour"),
        ({"profile": "brave"}, "profile"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"canaries": ["a", "a"]}, "canaries"),
        ({"canaries": [""]}, "canaries[0]"),
        ({"canaries_per_stratum": 0}, "canaries_per_stratum"),
        ({"waves": []}, "waves"),
        ({"waves": ["10%"]}, "waves"),
        ({"waves": ["20%", "10%", "100%"]}, "waves"),
        ({"waves": [2, 1, "100%"]}, "waves"),
        ({"waves": ["101%"]}, "waves[0]"),
        ({"waves": [0, "100%"]}, "waves[0]"),
        ({"waves": [*range(1, 201), "100%"]}, "waves"),
        ({"waves": "100%"}, "waves"),
        ({"soak": "5 weeks"}, "soak"),
        ({"soak": -1}, "soak"),
        ({"soak": True}, "soak"),
        ({"soak": float("nan")}, "soak"),
        ({"soak": "400d"}, "soak"),
        ({"look_every": 0}, "look_every"),
        ({"max_per_domain": "0%"}, "max_per_domain"),
        ({"max_per_domain": 0}, "max_per_domain"),
        ({"parallel": 1.5}, "parallel"),
        ({"stage_spread": 120}, "stage_spread"),
        ({"domain_grain": ""}, "domain_grain"),
        ({"thresholds": {"broken": 1}}, "thresholds:broken"),
        ({"thresholds": {"failed": "many"}}, "thresholds:failed:wave"),
        ({"thresholds": {"failed": {"ever": 1}}}, "thresholds:failed:ever"),
        ({"on_fail": "panic"}, "on_fail"),
        ({"block_on_rollback": "yes"}, "block_on_rollback"),
        ({"late": "never"}, "late"),
        ({"method": "prayer"}, "method"),
        ({"method": "kexec", "on_fail": "rollback_wave"}, "on_fail"),
        ({"method": "reboot", "on_fail_canary": "rollback_all"}, "on_fail_canary"),
        ({"method": "kexec", "fallback": "reboot"}, "fallback"),
        ({"fallback": "livepatch"}, "fallback"),
        ({"without_level": "maybe"}, "without_level"),
        ({"kernel": ""}, "kernel"),
        ({"drain": "a.b"}, "undrain"),
        ({"drain": {}}, "drain"),
        ({"drain": {"fun": "a.b", "state": "c"}}, "drain"),
        ({"drain": {"fun": "a.b", "args": "x"}}, "drain:args"),
        ({"undrain": {"fun": "a.b", "colour": 1}}, "undrain:colour"),
        ({"restart_deadline": 0}, "restart_deadline"),
        ({"exposure": {"detection": 60}}, "exposure:hosts"),
        ({"exposure": {"detection": 0, "hosts": 1}}, "exposure:detection"),
        ({"gates": [{}]}, "gates[0]:type"),
        ({"gates": [{"type": "health", "colour": 1}]}, "gates[0]:colour"),
        ({"gates": [{"type": "health"}, {"type": "health"}]}, "gates[1]:name"),
        ({"gates": [{"type": "health", "name": "a/b"}]}, "gates[0]:name"),
        ({"gates": [{"type": "confirm", "when": "host"}]}, "gates[0]:when"),
        ({"gates": [{"type": "http"}]}, "gates[0]:arguments:url"),
        ({"gates": [{**GATE, "predicate": {}}]}, "gates[0]:predicate:op"),
        ({"gates": [{**GATE, "predicate": {"op": "=="}}]}, "gates[0]:predicate"),
        ({"gates": [{**GATE, "predicate": {"op": "like", "value": 1}}]}, "gates[0]:predicate:op"),
        ({"gates": [{**GATE, "predicate": {"op": "matches", "value": "("}}]}, "gates[0]:predicate:value"),
        ({"gates": [{**GATE, "twin": True, "predicate": {"op": "in", "value": 1}}]}, "gates[0]:predicate:op"),
        ({"gates": [{**GATE, "arguments": {"fun": "a.b", "args": "x"}}]}, "gates[0]:arguments:args"),
        ({"gates": [{**GATE, "arguments": {"fun": "a.b", "args": [{1, 2}]}}]}, "gates[0]:arguments"),
        ({"gates": [{**GATE, "needed": 3, "attempts": 2}]}, "gates[0]:needed"),
        ({"gates": [{"type": "health", "predicate": {"op": "==", "value": 1}}]}, "gates[0]:predicate"),
        ({"gates": [{"type": "health", "twin": True}]}, "gates[0]:twin"),
        ({"windows": [{**WINDOW, "zone": "Mars/Olympus"}]}, "windows[0]:zone"),
        ({"windows": [{**WINDOW, "zone": "../etc/passwd"}]}, "windows[0]:zone"),
        ({"windows": [{**WINDOW, "zone": "Europe"}]}, "windows[0]:zone"),
        ({"windows": [{**WINDOW, "days": "monday"}]}, "windows[0]:days[0]"),
        ({"windows": [{**WINDOW, "days": []}]}, "windows[0]:days"),
        ({"windows": [{**WINDOW, "start": "25:00"}]}, "windows[0]:start"),
        ({"windows": [{**WINDOW, "end": "24:01"}]}, "windows[0]:end"),
        ({"windows": [{**WINDOW, "end": "22:00"}]}, "windows[0]"),
        ({"windows": [{**WINDOW, "until": "22:00"}]}, "windows[0]:until"),
        ({"blackouts": [{"start": "2026-12-24", "end": "2026-12-27"}]}, "blackouts[0]:zone"),
        ({"blackouts": [{"start": "x", "end": "2026-12-27", "zone": "UTC"}]}, "blackouts[0]:start"),
        ({"blackouts": [{"start": "2026-12-27", "end": "2026-12-24", "zone": "UTC"}]}, "blackouts[0]"),
    ],
)
def test_wrong_options_are_refused_by_name(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(LivepatchError) as refused:
        parse_options(wrong, level=1)
    assert refused.value.kind is Kind.ARGUMENT
    assert refused.value.evidence["option"].split("options:")[-1] == named
    assert named in refused.value.message
    assert "has to be" in refused.value.message
    assert "nothing was changed" in refused.value.message


@pytest.mark.parametrize("level", [-1, "newest", True, 1.0, None])
def test_level_is_a_number_by_now(level: Any) -> None:
    with pytest.raises(LivepatchError, match="option level"):
        parse_options({}, level=level)
