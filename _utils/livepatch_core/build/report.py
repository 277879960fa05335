"""What a build found and made, as plain data and as text for people."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from livepatch_core.build.builder import Built
from livepatch_core.build.case import Difference
from livepatch_core.build.extract import Extracted
from livepatch_core.build.refusals import Refused


def _why(change: Difference, name: str) -> str:
    reasons = [w.text for w in change.warnings if w.subject == name]
    if name in change.promoted:
        return " ".join(reasons)
    before = change.original.pieces[change.partner[name]].size
    after = change.patched.pieces[name].size
    text = (
        f"Its code differs ({before} -> {after} bytes)."
        if before != after
        else f"Its code differs ({after} bytes)."
    )
    return " ".join([text, *reasons])


def _unit(change: Difference, unit: Extracted) -> dict[str, Any]:
    functions = [
        {
            "name": f.old_name,
            "position": f.position,
            "promoted": f.source_name in change.promoted,
            "why": _why(change, f.source_name),
        }
        for f in unit.functions
    ]
    return {
        "file": unit.path,
        "object": unit.owner,
        "functions": functions,
        "copied": [{"name": name, "why": _why(change, name)} for name in change.copied],
        "new": [name for name in unit.new if not name.endswith(".cold")],
        "renewed": list(change.renewed),
        "gone": list(change.gone),
        "callbacks": {kind: list(names) for kind, names in sorted(unit.hooks.items())},
        "symbols": {
            "livepatch": sorted(e.symbol for e in unit.externals.values() if e.livepatch),
            "exports": sorted(e.symbol for e in unit.externals.values() if not e.livepatch),
        },
    }


def describe(built: Built) -> dict[str, Any]:
    """The report as data that survives JSON and msgpack. Seconds are wall time per stage."""
    manifest = built.manifest
    return {
        "name": manifest.name,
        "release": manifest.release,
        "level": manifest.level,
        "replace": manifest.replace,
        "built_for": dict(manifest.built_for),
        "states": [{"id": id_, "version": version} for id_, version in manifest.states],
        "sha256": hashlib.sha256(built.module).hexdigest() if built.module else "",
        "size": len(built.module) if built.module else 0,
        "units": [_unit(change, unit) for change, unit in zip(built.changes, built.units)],
        "warnings": [
            {"notice": str(w.notice), "file": w.file, "subject": w.subject, "text": w.text}
            for w in built.warnings
        ],
        "seconds": {stage: round(seconds, 3) for stage, seconds in built.seconds.items()},
    }


def describe_refusal(refused: Refused) -> dict[str, Any]:
    """A refusal as data."""
    return {
        "refusal": str(refused.refusal),
        "kind": str(refused.kind),
        "file": refused.file,
        "function": refused.function,
        "message": refused.message,
        "remedy": refused.remedy,
        "evidence": dict(refused.evidence),
    }


def _unit_lines(unit: Mapping[str, Any]) -> list[str]:
    lines = [f"{unit['file']} ({unit['object']})"]
    for function in unit["functions"]:
        mark = "promoted" if function["promoted"] else "changed"
        lines.append(f"  {mark:9} {function['name']}: {function['why']}")
    lines += [f"  copied    {copied['name']}: {copied['why']}" for copied in unit["copied"]]
    for word in ("new", "renewed", "gone"):
        lines += [f"  {word:9} {name}" for name in unit[word]]
    lines += [f"  callback  {kind}: {', '.join(names)}" for kind, names in unit["callbacks"].items()]
    symbols = unit["symbols"]
    lines.append(
        f"  refers to {len(symbols['exports'])} exports and {len(symbols['livepatch'])} livepatch symbols"
    )
    return lines


def as_text(report: Mapping[str, Any]) -> str:
    """The report for a terminal."""
    built_for = ", ".join(f"{name} {identity[:12]}" for name, identity in report["built_for"].items())
    lines = [f"{report['name']} for {report['release']}", f"proven against {built_for}"]
    if report["sha256"]:
        lines.append(f"{report['size']} bytes, sha256 {report['sha256']}")
    for unit in report["units"]:
        lines += _unit_lines(unit)
    lines += [f"warning: {w['file']}: {w['text']}" for w in report["warnings"]]
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in report["seconds"].items())
    lines.append(f"{sum(report['seconds'].values()):.1f} s ({stages})")
    return "\n".join(lines) + "\n"
