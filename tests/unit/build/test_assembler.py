"""What the assembler stand-in makes of a compiler's output."""

from __future__ import annotations

import subprocess
from pathlib import Path

from livepatch_core.build import assembler

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
    lines = rewritten(tmp_path, TEXT)
    assert '.globl "shown"' not in lines
    assert "\t.local\tcount" not in lines
