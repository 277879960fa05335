"""What a patch changes in one translation unit, function by function, and whether a live patch may do so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from livepatch_core.build.aliases import check_aliases
from livepatch_core.build.correlate import correlate, lost_variables, stands_in
from livepatch_core.build.equality import Comparer
from livepatch_core.build.gone import reached_by_old_code
from livepatch_core.build.layout import same_signatures
from livepatch_core.build.refusals import Notice, Refusal, Refused, Warning_
from livepatch_core.build.registrations import changed_modinfo, changed_record, records_left
from livepatch_core.build.special import EXIT, IGNORED, INIT, TABLES, is_unknown, registration
from livepatch_core.build.unit import Piece, Unit, is_numbered
from livepatch_core.build.unnamed import changed_outside


@dataclass
class Difference:
    """The verdict on one unit; names are those of the patched side.

    ``replaced``: functions whose original is redirected. ``copied``: changed functions that cannot be
    redirected and are reached through promoted callers. ``renewed``: paired constants that get a new copy.
    ``partner``: patched name -> original name.
    """

    original: Unit
    patched: Unit
    partner: Mapping[str, str]
    replaced: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)
    promoted: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    warnings: list[Warning_] = field(default_factory=list)

    @property
    def path(self) -> str:
        return self.patched.path

    @property
    def changed(self) -> list[str]:
        return [*self.replaced, *self.copied]

    def warn(self, notice: Notice, subject: str, text: str) -> None:
        self.warnings.append(Warning_(notice, self.path, subject, text))


def cold_parent(name: str) -> str | None:
    """The function that a ``.cold`` part was split from."""
    return name.removesuffix(".cold") if name.endswith(".cold") else None


def is_traced(piece: Piece) -> bool:
    """Whether ftrace can redirect it: the compiler recorded its __fentry__ call."""
    return any(entry.table == "__mcount_loc" for entry in piece.entries)


def serves(before: str, after: str) -> bool:
    """Whether a variable that the running kernel keeps in memory of the kind ``before`` does for new code
    that expects ``after`` (Unit.storage_of).

    What may be written may also be read only; what only start code uses is not used any more.
    """
    read_only = ("read-only", ".data..ro_after_init")
    return before == after or after == "start" or (before == "written" and after in read_only)


class _Differ:
    """Works out a Difference; ``accept`` holds the author's words: subject -> why it is safe."""

    def __init__(
        self, original: Unit, patched: Unit, accept: Mapping[str, str], forced: Iterable[str]
    ) -> None:
        self.found = correlate(original, patched)
        self.original, self.patched, self.accept = original, patched, accept
        self.forced = frozenset(forced)
        self.result = Difference(original, patched, self.found.partner)
        self.comparer = Comparer(original, patched, self.found.partner)
        self.changed: dict[str, None] = {}

    def run(self) -> Difference:
        self._check_registrations()
        constants = self._check_data()
        self._compare_functions()
        self._check_outside()
        self._check_init()
        self._renew_constants(constants)
        self._join_cold()
        self._split_untraced()
        check_aliases(self.original, self.patched, set(self.result.changed), self.comparer)
        self._report_gone()
        self._check_statics()
        self._check_unknown_records()
        return self.result

    def _refuse(self, refusal: Refusal, name: str, text: str, remedy: str) -> Refused:
        return Refused(refusal, text, file=self.patched.path, function=name, remedy=remedy)

    # data

    def _check_registrations(self) -> None:
        found = changed_record(self.original, self.patched, self.comparer)
        if found is not None:
            raise self._refuse(
                registration(found.section) or Refusal.NEW_REGISTRATION,
                found.name,
                f"The patch {found.what} a record that only takes effect when the kernel or module starts.",
                "Leave the declaration as it is in the live patch; keep the code that does not need it.",
            )
        for section, names in records_left(self.original, self.patched, self.comparer).items():
            text = (
                f"The patch takes away {names} ({section}); what that registered at the start stays in force."
            )
            self.result.warn(Notice.DECLARATION_KEPT, names, text)
        modinfo = changed_modinfo(self.original, self.patched)
        if modinfo:
            text = f"What is said of the module stays as it is; the patch would have it {', '.join(modinfo)}."
            self.result.warn(Notice.DECLARATION_KEPT, ".modinfo", text)

    def _check_data(self) -> list[str]:
        """Refuses changed variables; returns the changed constants that may get a new copy."""
        constants = []
        for piece in self.patched.distinct():
            section = self.patched.section_of(piece)
            if piece.function or piece.name not in self.found.partner or self._is_record(section.name):
                continue
            other = self.original.pieces[self.found.partner[piece.name]]
            before, after = self.original.storage_of(other), self.patched.storage_of(piece)
            equal = self.comparer.data_equal(piece, other)
            if equal and serves(before, after):
                continue
            if after in ("start", "exit") and serves(before, after):
                self._init_touched(piece.name)
            elif not section.writable and not self.original.section_of(other).writable:
                constants.append(piece.name)
            elif before == after or serves(before, after):
                raise self._refuse(
                    Refusal.DATA_CHANGED,
                    piece.name,
                    "The patch changes the size or initial value of a variable that the running kernel "
                    "already uses.",
                    "Change the value in a callback (LIVEPATCH_POST_PATCH) or add a new variable.",
                )
            else:
                raise self._refuse(
                    Refusal.DATA_CHANGED,
                    piece.name,
                    f"The patch moves a variable that the running kernel already uses to another kind of "
                    f"memory ({before} -> {after}); the running kernel's stays where it is.",
                    "Add a new variable under another name.",
                )
        return constants

    def _check_unknown_records(self) -> None:
        """Refuses changed code that records of an unknown kind are about: places inside of it that the kernel
        finds by them when it starts (runtime constants, since 6.11).
        """
        for number, section in enumerate(self.patched.file.sections):
            if not (section.allocated and is_unknown(section.name)):
                continue
            for reference in self.patched.references_in(number, 0, section.size):
                piece = self.patched.piece_at(reference.section, reference.position)
                names = {piece.name, cold_parent(piece.name)} if piece and not reference.target else set()
                if piece is not None and names & {*self.result.changed}:
                    raise self._refuse(
                        Refusal.SECTION_UNKNOWN,
                        piece.name,
                        f"The kernel finds places in its code by {section.name}, which the builder has no "
                        f"rule for.",
                        "Report this diff.",
                    )

    @staticmethod
    def _is_record(section: str) -> bool:
        return (
            section in TABLES
            or registration(section) is not None
            or section.startswith("__dyndbg")
            or bool(IGNORED.search(section))
        )

    def _renew_constants(self, names: list[str]) -> None:
        """Give each changed constant's users the new copy, users of users too, until nothing more changes."""
        pending = list(names)
        while pending:
            name = pending.pop()
            if name in self.result.renewed:
                continue
            piece = self.patched.pieces[name]
            self._check_constant(piece)
            self.result.renewed.append(name)
            for user in self._users(name):
                if user.name not in self.found.partner:
                    continue  # new code gets the new copy
                if self._runs_once(user.name):
                    self._past(user.name, f"uses the old {name}")
                elif user.function:
                    self._promote(user.name, Notice.CONSTANT_PROMOTED, f"it uses the changed constant {name}")
                elif self.patched.section_of(user).writable:
                    raise self._constant_refused(name, f"the variable {user.name} holds its address")
                else:
                    pending.append(user.name)

    def _constant_refused(self, name: str, why: str) -> Refused:
        return self._refuse(
            Refusal.CONSTANT_CHANGED,
            name,
            f"The patch changes a constant that cannot be replaced: {why}.",
            "Change the code that reads it instead.",
        )

    def _check_constant(self, piece: Piece) -> None:
        if not piece.local:
            raise self._constant_refused(piece.name, "other files may use it")
        other = self.original.pieces[self.found.partner[piece.name]]
        references = [(self.patched, r) for r in piece.references] + [
            (self.original, r) for r in other.references
        ]
        for unit, reference in references:
            target = unit.pieces.get(reference.target)
            if (target is not None and target.function) or (reference.target and target is None):
                raise self._constant_refused(
                    piece.name,
                    f"it holds the address of {reference.target}, and objects in use point to the old table",
                )

    def _users(self, name: str) -> list[Piece]:
        names = {name, *self.patched.pieces[name].aliases}
        return [
            p for p in self.patched.distinct() if any(r.target in names for r in self.patched.mentions(p))
        ]

    # functions

    def _compare_functions(self) -> None:
        for piece in self.patched.functions():
            partner = self.found.partner.get(piece.name)
            if partner is None or self.patched.section_of(piece).name == ".static_call.text":
                continue
            other = self.original.pieces[partner]
            if piece.name in self.forced or not self.comparer.functions_equal(piece, other):
                self.changed[piece.name] = None

    def _check_outside(self) -> None:
        found = changed_outside(self.original, self.patched, self.comparer)
        if found is not None:
            section, label = found
            raise self._refuse(
                Refusal.NOTRACE,
                label or section,
                "The patch changes assembler code there that is no function of its own, so it cannot be "
                "redirected.",
                "Make the change in C code.",
            )

    def _promote(self, name: str, notice: Notice, why: str) -> None:
        if name in self.changed or name not in self.found.partner:
            return
        self.changed[name] = None
        self.result.promoted.append(name)
        self.result.warn(notice, name, f"{name} is replaced although its own code did not change: {why}.")

    def _check_init(self) -> None:
        for name in list(self.changed):
            if self._runs_once(name):
                self._init_touched(name)
                del self.changed[name]

    def _sections(self, name: str) -> list[str]:
        """Where a paired piece lies, before and after."""
        original = self.original.pieces[self.found.partner[name]]
        return [
            self.original.section_of(original).name,
            self.patched.section_of(self.patched.pieces[name]).name,
        ]

    def _runs_once(self, name: str) -> bool:
        """Whether it is code or data of the start or the exit, which cannot be replaced."""
        found = name in self.found.partner and self._sections(name)
        return any(p.search(section) for p in (INIT, EXIT) for section in found or ())

    def _past(self, name: str, what: str) -> None:
        """Code of the start or the exit that was not changed, and of which new code would do something else:
        what has run has run, what is yet to run is for the author to judge.
        """
        if any(EXIT.search(section) for section in self._sections(name)):
            self._init_touched(name)
        else:
            text = f"{name} belongs to the start, which is over: it {what}, and that is left as it is."
            self.result.warn(Notice.INIT_PAST, name, text)

    def _init_touched(self, name: str) -> None:
        why = self.accept.get(f"init:{name}")
        if why is None:
            raise self._refuse(
                Refusal.INIT_CODE,
                name,
                "The patch changes code or data that ran once at start (__init) or runs once at exit; "
                "the running kernel will not run it again.",
                f"Leave it out of the diff, or accept 'init:{name}' with the reason why the fix works "
                f"without it.",
            )
        self.result.warn(
            Notice.INIT_ACCEPTED,
            name,
            f"The change of {name} has no effect in a running kernel; accepted: {why}",
        )

    def _join_cold(self) -> None:
        """A function and its out-of-line part are one."""
        for name in list(self.changed):
            parent = cold_parent(name)
            if parent is not None and parent in self.patched.pieces and parent not in self.changed:
                self.changed[self.patched.pieces[parent].name] = None
        for name in list(self.changed):
            if cold_parent(name) is not None:
                del self.changed[name]  # extraction follows the jump into it

    def _split_untraced(self) -> None:
        """Sort the changed functions into those that can be redirected and those whose callers must be."""
        pending = list(self.changed)
        while pending:
            name = pending.pop(0)
            other = self.original.pieces[self.found.partner[name]]
            if is_traced(other):
                self.result.replaced.append(name)
                continue
            callers = self._callers(name)
            if all(self._runs_once(caller) for caller in callers):
                self._init_touched(name)
                continue
            self.result.copied.append(name)
            for caller in callers:
                if self._runs_once(caller):
                    self._past(caller, f"calls the old {name}")
                    continue
                before = len(self.changed)
                self._promote(
                    caller, Notice.CALLER_PROMOTED, f"{name} cannot be traced and is only reached through it"
                )
                if len(self.changed) > before:
                    pending.append(caller)

    def _callers(self, name: str) -> list[str]:
        """The functions that call an untraceable one, in both versions; refuses any other use of it."""
        piece, other = self.patched.pieces[name], self.original.pieces[self.found.partner[name]]
        if not (piece.local and other.local):
            raise self._notrace(name, "other files can call it")
        callers: dict[str, None] = {}
        for unit, target, known in ((self.patched, piece, self._mine), (self.original, other, self._theirs)):
            for user in unit.distinct():
                uses = [r for r in unit.mentions(user) if unit.pieces.get(r.target) is target]
                if not uses or user is target:
                    continue
                if not user.function or not all(r.branch for r in uses):
                    section = unit.section_of(user).name
                    if self._is_record(section) and not is_unknown(section):
                        continue
                    raise self._notrace(name, f"{user.name} takes its address")
                mine = known(user)
                if mine is not None and mine != name:
                    callers[mine] = None
            if not callers:  # of the patched side, which comes first
                raise self._notrace(
                    name, "no code calls it by its name (assembler may compute where it lies)"
                )
        return list(callers)

    def _mine(self, piece: Piece) -> str | None:
        parent = cold_parent(piece.name)
        return (
            piece.name
            if parent is None or parent not in self.patched.pieces
            else self.patched.pieces[parent].name
        )

    def _theirs(self, piece: Piece) -> str | None:
        parent = cold_parent(piece.name)
        name = (
            piece.name
            if parent is None or parent not in self.original.pieces
            else self.original.pieces[parent].name
        )
        return next((mine for mine, other in self.found.partner.items() if other == name), None)

    def _notrace(self, name: str, why: str) -> Refused:
        return self._refuse(
            Refusal.NOTRACE,
            name,
            f"The function cannot be traced (notrace, noinstr or inline), so it cannot be redirected, "
            f"and {why}.",
            "Make the change in its callers.",
        )

    def _report_gone(self) -> None:
        partners = self.found.taken()
        for piece in self.original.functions():
            if piece.name not in partners and cold_parent(piece.name) is None:
                self.result.gone.append(piece.name)
        if not self.result.gone:
            return
        replaced, copied = (
            [self.found.partner[n] for n in names] for names in (self.result.replaced, self.result.copied)
        )
        alike = same_signatures(self.original, self.patched)
        unlike = [name for name in replaced if name not in alike]
        reached = reached_by_old_code(self.original, self.result.gone, unlike, copied)
        for name in self.result.gone:
            why = f"; accepted: {self._gone_accepted(name, reached[name])}" if name in reached else "."
            text = f"{name} no longer exists in the patched file; its old code stays in the kernel"
            self.result.warn(Notice.FUNCTION_GONE, name, text + why)

    def _gone_accepted(self, name: str, target: str) -> str:
        """The author's reason why old code may meet the new one."""
        why = self.accept.get(f"gone:{name}")
        if why is None:
            raise self._refuse(
                Refusal.CALLBACK_GONE,
                name,
                f"The patch takes the function away, but the running kernel may hold its address (a timer, a "
                f"work item, an export), and its old code would call the new {target}.",
                f"Keep a function of that name, or accept 'gone:{name}' with the reason why nothing calls it "
                f"any more, or why it may call the new {target}.",
            )
        return why

    def _check_statics(self) -> None:
        used = reachable(self.patched, self.result.changed, self.found.partner)
        for name, others in self.found.unsettled.items():
            if name in used:
                raise self._refuse(
                    Refusal.STATIC_AMBIGUOUS,
                    name,
                    f"It could be any of the running kernel's {', '.join(others)}, and a wrong choice "
                    f"would mix up their contents.",
                    "Give a new static variable a name of its own; where a function has several of one "
                    "name, make the change in its callers.",
                )
        before = [*(self.found.partner[name] for name in self.result.changed), *self.result.gone]
        for name in lost_variables(self.original, self.found, before):
            self._lost(name)

    def _lost(self, name: str) -> None:
        """A variable that the patch takes away: what is in it is left behind. That a static local of another
        name begins anew is what its author wrote; a lock or list of the file under another name is not.
        """
        why = self.accept.get(f"static:{name}")
        other = stands_in(self.original, self.patched, self.found, name)
        if other is not None and why is None and not is_numbered(name):
            raise self._refuse(
                Refusal.STATIC_AMBIGUOUS,
                name,
                f"The patch uses a new variable of the same size, {other}, in its place. If that is the same "
                f"one under another name, what the running kernel has in it would be lost.",
                f"Keep the old name, or accept 'static:{name}' with the reason why {other} may begin anew.",
            )
        text = f"The patched code no longer uses the static variable {name}; its value is left behind"
        self.result.warn(Notice.STATIC_LOST, name, text + (f"; accepted: {why}" if why else "."))


def reachable(unit: Unit, roots: Iterable[str], partner: Mapping[str, str]) -> frozenset[str]:
    """Names that a set of functions refers to, through new pieces but not through paired ones."""
    seen: set[str] = set()
    pending = list(roots)
    while pending:
        name = pending.pop()
        piece = unit.pieces[name]
        if piece.name in seen:
            continue
        seen.add(piece.name)
        if piece.name in partner and name not in roots and cold_parent(piece.name) is None:
            continue
        targets = [r.target for r in unit.mentions(piece)] + [
            r.target for e in piece.entries for r in e.references
        ]
        pending += [target for target in targets if target in unit.pieces]
    return frozenset(seen)


def difference(
    original: Unit, patched: Unit, *, accept: Mapping[str, str] | None = None, forced: Iterable[str] = ()
) -> Difference:
    """Compare two versions of a unit. Raises ``Refused`` for what a live patch cannot change.

    ``forced``: functions that count as changed even if they are equal (to exercise the extraction).
    """
    return _Differ(original, patched, accept or {}, forced).run()
