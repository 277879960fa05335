"""The verdict on one unit against the image of its object: proven, or refused with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from livepatch_core.build import compile as compiling
from livepatch_core.build.case import Difference
from livepatch_core.build.compile import Bench, Complaint
from livepatch_core.build.kernelimages import Kernel
from livepatch_core.build.locate import Proof, locate
from livepatch_core.build.objectfile import read_object
from livepatch_core.build.pairs import original_failed
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.unit import Unit


@dataclass(frozen=True)
class Change:
    """A unit that the diff changes, and the object that it belongs to."""

    difference: Difference
    owner: str

    @property
    def path(self) -> str:
        return self.difference.path


def prove(kernel: Kernel, change: Change, bench: Bench) -> Proof:
    """Where the unit's originals are. Raises ``Refused`` (NOT_BUILT, IMAGE_DIFFERS, SYMBOL_AMBIGUOUS,
    UNSUPPORTED_FILE).
    """
    owner, difference = change.owner, change.difference
    if ":" in owner:
        raise Refused(
            Refusal.UNSUPPORTED_FILE,
            f"It is a part of several modules ({owner.replace(':', ', ')}), each with a copy of its own.",
            file=change.path,
            remedy="Change functions that only one of the modules has.",
        )
    if not kernel.has(owner):
        raise _not_built(change.path, f"the kernel has no module {owner}")
    proof = locate(difference.original, kernel.image(owner))
    if not proof.functions:
        raise _not_built(change.path, f"none of its functions is in {owner}")
    needed = [difference.partner[name] for name in difference.changed]
    if any(name not in proof.functions and name not in proof.several for name in needed):
        _prove_plain(kernel, change, bench, proof)
    for name in needed:
        _check_proven(change, proof, name)
    return proof


def _prove_plain(kernel: Kernel, change: Change, bench: Bench, proof: Proof) -> None:
    """Add what only the distribution's own kind of object can prove.

    In one section the assembler shortens jumps between neighbours, which moves everything behind them; such a
    function matches only when it is compiled so, too. Same source, same compiler, same code.
    """
    plain = compiling.compile_units(bench, [change.path], split=False)[0]
    if isinstance(plain, Complaint):
        raise original_failed(plain)
    more = locate(Unit(change.path, read_object(plain.object)), kernel.image(change.owner))
    for name, address in more.functions.items():
        proof.functions.setdefault(name, address)
    for name, addresses in more.evidence.items():
        proof.evidence[name] = proof.evidence.get(name, frozenset()) | addresses


def _not_built(path: str, why: str) -> Refused:
    return Refused(
        Refusal.NOT_BUILT,
        f"This kernel was built without the file: {why}.",
        file=path,
        remedy="Leave the file out of the diff.",
    )


def _check_proven(change: Change, proof: Proof, name: str) -> None:
    if name in proof.functions:
        return
    if name in proof.several:
        raise Refused(
            Refusal.SYMBOL_AMBIGUOUS,
            f"{change.owner} holds {len(proof.several[name])} equal functions of that name and nothing "
            "proves which one is this file's.",
            file=change.path,
            function=name,
            remedy="Change its callers instead.",
        )
    raise Refused(
        Refusal.IMAGE_DIFFERS,
        f"What the source compiles to is not what lies in {change.owner}.",
        file=change.path,
        function=name,
        remedy="The function may be overridden elsewhere (weak), or source, configuration or compiler "
        "differ from the kernel's.",
    )
