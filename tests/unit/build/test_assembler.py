"""What the assembler stand-in makes of a compiler's output."""

from __future__ import annotations

import subprocess
from pathlib import Path

from livepatch_core.build import assembler
from livepatch_core.build.objectfile import read_object
from livepatch_core.build.unit import Unit

TEXT = """\t.text
\t.type\thelper, @function
helper:
\tret
\t.type\tshown, @function
\t.globl\tshown
shown:
\tcall\thelper
\t.set\tsecond,helper
\t.set\t.Lnumber, 5
\t.set\tother,.Lnumber
\t.local\tcount
\t.comm\tcount,4,4
"""


def rewritten(tmp_path: Path, text: str) -> list[str]:
    assembler.install(tmp_path / "tools", "/bin/true")
    source = tmp_path / "x.s"
    source.write_text(text, encoding="utf-8")
    subprocess.run([tmp_path / "tools/as", "-o", "x.o", source], check=True)
    return source.read_text(encoding="utf-8").splitlines()


def test_declarations_come_before_the_code_that_calls(tmp_path: Path) -> None:
    """gas marks a call of a function that is defined above it as a call only if it is global by then."""
    lines = rewritten(tmp_path, TEXT)
    assert lines.index('.globl "helper"') < lines.index("\tcall\thelper")


def test_second_name_of_a_function_counts_and_a_number_does_not(tmp_path: Path) -> None:
    lines = rewritten(tmp_path, TEXT)
    listed = [line for line in lines if line.startswith(".asciz")]
    assert listed == ['.asciz "helper"', '.asciz "count"', '.asciz "second"']


def test_what_inline_assembler_declares_as_local_counts(tmp_path: Path) -> None:
    """__BTF_ID_LIST of linux/btf_ids.h: no type, and a semicolon at the end."""
    text = '.pushsection .BTF_ids,"a";  \n.local ids;     \nids:;   \n.popsection;\n\tmovl\tids(%rip), %eax\n'
    lines = rewritten(tmp_path, text)
    assert lines[0] == '.globl "ids"'
    assert '.asciz "ids"' in lines
    assert not any(line.startswith(".local") for line in lines)


def test_shared_names_and_storage_stay_as_they_are(tmp_path: Path) -> None:
    lines = rewritten(tmp_path, TEXT + "\t.comm\ttheirs,8,8\n")
    assert '.globl "shown"' not in lines
    assert "\t.local\tcount" not in lines
    assert "\t.comm\ttheirs,8,8" in lines


def test_variable_that_the_assembler_would_place_has_a_section_of_its_own(tmp_path: Path) -> None:
    """Made global and nothing else it would be a common symbol, which has no place at all."""
    rewritten(tmp_path, TEXT)
    made = tmp_path / "x.o"
    subprocess.run(["as", "-o", made, tmp_path / "x.s"], check=True)
    piece = Unit("init/x.c", read_object(made.read_bytes())).pieces["count"]
    assert (piece.size, piece.local, piece.function) == (4, True, False)
    section = read_object(made.read_bytes()).section(".bss.count")
    assert section is not None and (section.size, section.align) == (4, 4)
