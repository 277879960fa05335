"""Extraction of all changed units together: new symbols that one defines and another uses, and the
manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from livepatch_core.build.case import Difference
from livepatch_core.build.extract import Extracted, extract
from livepatch_core.build.hooks import declared_hooks, declared_states
from livepatch_core.build.image import Image
from livepatch_core.build.kernelimages import Kernel
from livepatch_core.build.kmod import Manifest
from livepatch_core.build.locate import Proof
from livepatch_core.build.proving import Change
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.resolve import Published, Resolver


def new_globals(change: Difference) -> frozenset[str]:
    """What the patched unit defines for others and the original did not."""
    return frozenset(
        name
        for name, piece in change.patched.pieces.items()
        if piece.name not in change.partner and not piece.local
    )


def published(change: Difference) -> dict[str, str]:
    """The statics that the patch makes global: the name that others may use -> the original's."""
    found = {}
    for name, piece in change.patched.pieces.items():
        original = change.partner.get(piece.name)
        visible = not piece.local and name not in change.patched.locals
        if original is not None and visible and change.original.pieces[original].local:
            found[name] = original
    return found


class Gathering:
    """Extracts until every new symbol that is used somewhere is provided by the unit that defines it."""

    def __init__(self, kernel: Kernel, changes: Sequence[Change], proofs: Sequence[Proof]) -> None:
        self.kernel, self.changes, self.proofs = kernel, changes, proofs
        self.provided = [new_globals(change.difference) for change in changes]
        self.published = [self._published(*each) for each in zip(changes, proofs)]
        self.requested: list[set[str]] = [set() for _ in changes]
        self.used: set[str] = set()

    def run(self) -> list[Extracted]:
        """One Extracted for each change. Requests only grow, and are bounded by the new symbols: this
        ends.
        """
        for change, names, statics in zip(self.changes, self.provided, self.published):
            self._check_new(change, dict.fromkeys(names, frozenset()))
            self._check_new(change, {name: each.evidence or frozenset() for name, each in statics.items()})
        self._check_hooks()
        while True:
            before = [set(names) for names in self.requested]
            units = [self._extract(number) for number in range(len(self.changes))]
            if before == self.requested:
                return units

    @staticmethod
    def _published(change: Change, proof: Proof) -> dict[str, Published]:
        """What is already there is used where it is, so that it may be replaced once more."""
        return {
            name: Published(change.path, change.owner, original, proof.addresses(original, local=True))
            for name, original in published(change.difference).items()
        }

    def _extract(self, number: int) -> Extracted:
        change = self.changes[number]
        visible = self._visible(number)
        published = {
            k: v for n, each in enumerate(self.published) for k, v in each.items() if k in visible[n]
        }
        kernel = self.kernel
        resolver = Resolver(
            change.path, change.owner, kernel.image, kernel.depends, kernel.exports, published
        )
        provided = [names & visible[n] for n, names in enumerate(self.provided)]
        unit = extract(
            change.difference,
            self.proofs[number],
            resolver,
            number,
            requested=sorted(self.requested[number]),
            provided=frozenset().union(*provided),
        )
        self._check_providers(change, unit.wanted, provided)
        change.difference.warnings[:] = dict.fromkeys(change.difference.warnings)
        self.used |= resolver.used | {change.owner}
        for other, names in enumerate(provided):
            self.requested[other] |= names & unit.wanted
        return unit

    def _visible(self, number: int) -> list[frozenset[str]]:
        """Of each patched file the names that another one means when it has not its own: those of its object;
        those of other objects only where its own object, patched, has none, nor the exports or the kernel.
        """
        user = self.changes[number]
        own, kernel = self.kernel.image(user.owner), self.kernel.image("vmlinux")
        offered = [names | published.keys() for names, published in zip(self.provided, self.published)]
        same = [each.owner == user.owner for each in self.changes]
        ours = frozenset().union(*(names for names, is_same in zip(offered, same) if is_same))
        visible = []
        for n, names in enumerate(offered):
            if n == number:
                names = frozenset()
            elif not same[n]:
                names = frozenset(name for name in names - ours if not self._exists(name, own, kernel))
            visible.append(names)
        return visible

    def _exists(self, name: str, own: Image, kernel: Image) -> bool:
        linked = any(image.linked(name, local=False) for image in (own, kernel))
        return linked or name in own.imports or name in self.kernel.exports

    def _check_new(self, change: Change, names: Mapping[str, frozenset[int]]) -> None:
        """A second global of one name: patched files would use it, all others the kernel's. ``names``: with
        the addresses that are its own.
        """
        image = self.kernel.image(change.owner)
        for name, own in sorted(names.items()):
            if name in image.imports or set(image.linked(name, local=False)) - own:
                raise Refused(
                    Refusal.SYMBOL_AMBIGUOUS,
                    f"The kernel has it already, from another file or as a weak default, and the code of "
                    f"{change.owner} would go on using that one.",
                    file=change.path,
                    function=name,
                    remedy="Change it where it is defined now, or give the new one a name of its own.",
                )

    def _check_hooks(self) -> None:
        """An object has room for one callback of each kind, whichever file declares it."""
        first: dict[tuple[str, str], str] = {}
        for change in self.changes:
            for kind, function in declared_hooks(change.difference.patched).items():
                other = first.setdefault((change.owner, kind), change.path)
                if other != change.path:
                    raise Refused(
                        Refusal.HOOKS,
                        f"It is declared as {kind} of {change.owner}, which {other} does already; one "
                        f"of each kind can be declared for each object.",
                        file=change.path,
                        function=function,
                        remedy="Call both from one function.",
                    )

    def _check_providers(
        self, user: Change, wanted: frozenset[str], provided: Sequence[frozenset[str]]
    ) -> None:
        """What code of a module provides is complete only once the module is loaded."""
        present = {"vmlinux", user.owner, *self.kernel.depends(user.owner)}
        for change, names in zip(self.changes, provided):
            missing = sorted(names & wanted)
            if missing and change.owner not in present:
                raise Refused(
                    Refusal.SYMBOL_UNRESOLVED,
                    f"The diff defines it in {change.path}, a file of the module {change.owner}, which "
                    f"{user.owner} does not need loaded; {user.path} needs it.",
                    file=user.path,
                    function=missing[0],
                    remedy=f"Define it in a file of {user.owner}.",
                )

    def manifest(self, name: str, units: Sequence[Extracted], *, replace: bool, level: int) -> Manifest:
        """What the module says of itself: proven against every object that any of its names lies in."""
        objects = ["vmlinux", *sorted(self.used - {"vmlinux"})]
        exports = self.kernel.exports
        plain = {e.symbol for unit in units for e in unit.externals.values() if not e.livepatch}
        return Manifest(
            name,
            self.kernel.target.release,
            {owner: self.kernel.image(owner).build_id for owner in objects},
            replace=replace,
            level=level,
            namespaces=sorted({exports[n].namespace for n in plain if n in exports} - {""}),
            states=self._states(),
        )

    def _states(self) -> list[tuple[int, int]]:
        """Every declared state once, in its highest version."""
        versions: dict[int, int] = {}
        for change in self.changes:
            for identity, version in declared_states(change.difference.patched):
                versions[identity] = max(version, versions.get(identity, 0))
        return sorted(versions.items())
