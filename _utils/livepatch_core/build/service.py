"""From an order to files on disk: fetch, build, sign, archive. What the Salt shells and the demo call."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from livepatch_core.build import debian, report, signing
from livepatch_core.build.builder import FAN_OUT, Built, Options, build
from livepatch_core.build.patchset import parse_diff
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.target import Target

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What to build. ``diffs``: (file name, text) in the order in which they apply; a level holds all diffs
    up to its own.

    ``parts``: the kernel's source, headers, image ... by path; None fetches them from the machine's own
    archives.
    """

    release: str
    diffs: Sequence[tuple[str, str]]
    name: str = ""
    level: int = 0
    replace: bool = True
    accept: Mapping[str, str] = field(default_factory=dict)
    fan_out: int = FAN_OUT
    jobs: int = 2
    parts: Optional[Target] = None
    key: Optional[Path] = None
    certificate: Optional[Path] = None

    @property
    def module_name(self) -> str:
        return self.name or (f"livepatch_{self.level}" if self.level else "livepatch")


def find_target(order: Order, cache: Path, progress: Progress) -> Target:
    """The kernel's parts: given, cached or fetched."""
    return (
        order.parts
        or debian.cached_target(order.release, cache)
        or debian.fetch(order.release, cache, progress)
    )


def _run(order: Order, cache: Path, progress: Progress, *, emit: bool) -> tuple[Built, Target]:
    if not order.diffs:
        raise Refused(Refusal.ARGUMENT, "No diff was given.", remedy="Name at least one unified diff.")
    if bool(order.key) != bool(order.certificate):
        raise Refused(
            Refusal.ARGUMENT, "Signing needs a key and a certificate.", remedy="Give both or neither."
        )
    for _, text in order.diffs:
        parse_diff(text)  # here already: what cannot be read is no reason to fetch a kernel's source
    target = find_target(order, cache, progress)
    options = Options(
        order.module_name,
        order.replace,
        order.level,
        dict(order.accept),
        order.fan_out,
        order.jobs,
        cache=cache,
    )
    built = build(
        target,
        [text for _, text in order.diffs],
        options,
        scratch=cache / "scratch",
        progress=progress,
        emit=emit,
    )
    return built, target


def check(order: Order, cache: Path, progress: Progress = lambda stage: None) -> dict[str, Any]:
    """Everything but the module: the report of what would be built. Raises ``Refused``."""
    return report.describe(_run(order, cache, progress, emit=False)[0])


def produce(
    order: Order, cache: Path, output: Path, progress: Progress = lambda stage: None
) -> dict[str, Any]:
    """Build ``output/NAME.ko`` with ``output/NAME.build/`` beside it; the report, with ``path`` and
    ``archive`` added.

    Both appear whole or not at all. Raises ``Refused``.
    """
    built, target = _run(order, cache, progress, emit=True)
    if order.key and order.certificate and built.module:
        progress("sign")
        built.module = signing.sign(built.module, target, order.key, order.certificate)
    document = report.describe(built)
    document["signed"] = bool(order.key)
    output.mkdir(parents=True, exist_ok=True)
    document["path"] = str(output / f"{order.module_name}.ko")
    document["archive"] = str(output / f"{order.module_name}.build")
    _archive(order, target, built, document, Path(document["archive"]))
    _write_whole(Path(document["path"]), built.module or b"")
    return document


def _write_whole(path: Path, data: bytes) -> None:
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(scratch, 0o644)
    os.replace(scratch, path)


def _archive(order: Order, target: Target, built: Built, document: Mapping[str, Any], place: Path) -> None:
    """Everything that a person needs who looks at a crash in the new code, or who must build the same bytes
    again.
    """
    scratch = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    for number, (name, text) in enumerate(order.diffs, 1):
        (scratch / f"{number:04d}-{Path(name).name}").write_text(
            text, encoding="utf-8", errors="surrogateescape"
        )
    (scratch / f"{order.module_name}.ko").write_bytes(built.module or b"")
    (scratch / "config").write_bytes((target.headers / ".config").read_bytes())
    for path, (original, patched) in built.objects.items():
        stem = path.replace("/", "_")[:-2]
        (scratch / f"{stem}.original.o").write_bytes(original)
        (scratch / f"{stem}.patched.o").write_bytes(patched)
    source = {"release": target.release, "version": target.version}
    (scratch / "report.json").write_text(
        json.dumps({**document, "target": source}, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    (scratch / "report.txt").write_text(report.as_text(document), encoding="utf-8")
    os.chmod(scratch, 0o755)
    if place.exists():
        shutil.rmtree(place)
    os.rename(scratch, place)
