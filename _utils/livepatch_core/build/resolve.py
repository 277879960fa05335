"""How new code names what already exists: a plain export, or a livepatch symbol with object, name and
position.

The kernel resolves ``.klp.sym.<object>.<name>,<position>`` through kallsyms when the object is patched
(Documentation/livepatch/module-elf-format.rst). A position of 0 demands that the name be unique in its
object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Optional

from livepatch_core.build.exports import Export
from livepatch_core.build.image import Image
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.unit import base_name, is_numbered

PREFIX = ".klp.sym."
_LONGEST_NAME = 127  # kernel/livepatch/core.c reads "%127[^,]"


@dataclass(frozen=True)
class External:
    """A resolved name. ``owner``: the object that must be loaded for it: "vmlinux" or a module."""

    symbol: str
    owner: str
    name: str

    @property
    def livepatch(self) -> bool:
        return self.symbol.startswith(PREFIX)


class Published(NamedTuple):
    """A static of another patched file that the patch makes global: its name in the kernel and the addresses
    that the other file's proof gives it.
    """

    path: str
    owner: str
    name: str
    evidence: Optional[frozenset[int]]


@dataclass
class Resolver:
    """Names for one unit of the object ``owner``. ``image_of`` gives the image of a module, ``depends`` what
    it needs loaded.
    """

    path: str
    owner: str
    image_of: Callable[[str], Image]
    depends: Callable[[str], frozenset[str]]
    exports: Mapping[str, Export]
    published: Mapping[str, Published] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # objects that resolved names lie in

    def _refuse(self, refusal: Refusal, name: str, why: str, remedy: str) -> Refused:
        return Refused(refusal, why, file=self.path, function=name, remedy=remedy)

    def resolve(
        self,
        name: str,
        evidence: Optional[frozenset[int]],
        what: str,
        *,
        kept: bool = False,
        local: bool = False,
    ) -> External:
        """The external for ``name``, proven by the decoded addresses if there are any. ``what`` names the
        user, for messages; ``kept``: its original refers to it, too; ``local``: it is the unit's own static.
        """
        if evidence and len(evidence) > 1:
            raise self._refuse(
                Refusal.SYMBOL_AMBIGUOUS,
                name,
                f"The kernel's code uses several addresses for it; {what} needs one.",
                "Report this diff.",
            )
        if evidence:
            external = self._at(name, next(iter(evidence)), what)
        elif local:
            external = self._unique(self.image_of(self.owner), name, what, local=True)
        else:
            external = self._named(name, what)
        if external.livepatch and not kept:
            self._check_alive(external, name, what)
        self.used.add(external.owner)
        return external

    def _check_alive(self, external: External, name: str, what: str) -> None:
        """What referred to start code before (a ``__ref`` function) knows when it must not; new references
        are to memory that others use by now.
        """
        image = self.image_of(external.owner)
        position = int(external.symbol.rpartition(",")[2])
        if image.freed(image.addresses(external.name)[max(position - 1, 0)]):
            raise self._refuse(
                Refusal.INIT_CODE,
                name,
                f"It is code or data for the kernel's start (__init), which is gone; {what} needs it.",
                "Write the change without a reference to it.",
            )

    def _at(self, name: str, address: int, what: str) -> External:
        """The symbol that lies at a proven address."""
        image = self.image_of(self.owner)
        imported = image.import_at(address)
        if imported is not None:
            return self._exported(imported, what)
        names = image.names_at(address)
        if not names and self.owner != "vmlinux":
            image = self.image_of("vmlinux")
            names = image.names_at(address)
        chosen = next((n for n in names if n == name), None)
        chosen = chosen or next((n for n in names if base_name(n) == base_name(name)), None)
        if chosen is None:
            raise self._refuse(
                Refusal.SYMBOL_UNRESOLVED,
                name,
                f"The kernel's symbol table has no such name where its code refers to it; {what} needs it.",
                "Write the change without a reference to it.",
            )
        return self._positioned(image, chosen, address, what)

    def _positioned(self, image: Image, name: str, address: int, what: str) -> External:
        place = image.position(name, address)
        if place is None or name in image.late or len(name) > _LONGEST_NAME:
            raise self._refuse(
                Refusal.SYMBOL_AMBIGUOUS,
                name,
                f"Its position among equal names is not certain; {what} needs it.",
                "Avoid the reference.",
            )
        position, count = place
        export = self.exports.get(name)
        if export is not None and count == 1 and export.owner == image.name == "vmlinux":
            return External(name, "vmlinux", name)
        return External(f"{PREFIX}{image.name}.{name},{0 if count == 1 else position}", image.name, name)

    def _named(self, name: str, what: str) -> External:
        """A name of another file that no matched reference proves: a global of its own object, or an export,
        or a global of vmlinux. The linker looks at no other file's statics but those that the patch makes
        global.
        """
        if name in self.published:
            return self._published(self.published[name], what)
        own = self.image_of(self.owner)
        if self.owner != "vmlinux" and own.linked(name, local=False):
            return self._unique(own, name, what)
        if name in self.exports:
            return self._exported(name, what)
        return self._unique(self.image_of("vmlinux"), name, what)

    def _published(self, static: Published, what: str) -> External:
        if static.owner not in ("vmlinux", self.owner) and static.owner not in self.depends(self.owner):
            raise self._refuse(
                Refusal.SYMBOL_UNRESOLVED,
                static.name,
                f"It is a static of {static.path}, a file of the module {static.owner}, which {self.owner} "
                f"does not need loaded; {what} needs it.",
                f"Use what {self.owner} has.",
            )
        there = replace(self, owner=static.owner, published={})
        return there.resolve(static.name, static.evidence, what, local=True)

    def _unique(self, image: Image, name: str, what: str, *, local: bool = False) -> External:
        places = image.linked(name, local=local)
        if len(places) == 1 and not is_numbered(name):
            return self._positioned(image, name, places[0], what)
        if not places:
            raise self._refuse(
                Refusal.SYMBOL_UNRESOLVED,
                name,
                f"Neither {self.owner} nor the kernel has it for other files to use; {what} needs it.",
                "Use something that exists in this kernel, or define it in the diff.",
            )
        raise self._refuse(
            Refusal.SYMBOL_AMBIGUOUS,
            name,
            f"{image.name} has {len(places)} symbols of that name and nothing proves which one {what} means.",
            "Reach it through a function that already uses it.",
        )

    def _exported(self, name: str, what: str) -> External:
        """An export: the kernel's own by plain name (its CRC is checked when the module loads), a module's as
        a livepatch symbol.
        """
        export = self.exports.get(name)
        if export is None:
            return self._unique(self.image_of("vmlinux"), name, what)
        if export.owner == "vmlinux":
            return External(name, "vmlinux", name)
        if export.owner != self.owner and export.owner not in self.depends(self.owner):
            raise self._refuse(
                Refusal.SYMBOL_UNRESOLVED,
                name,
                f"It is exported by the module {export.owner}, which {self.owner} does not need loaded; "
                f"{what} needs it.",
                "Use what the kernel itself exports.",
            )
        return self._unique(self.image_of(export.owner), name, what)
