"""The command line that the next kernel is given. Pure."""

from __future__ import annotations

MARK = "livepatch.kexec"
# A word with a dot that names no built-in module is left to modules that may come later
# (init/main.c, unknown_bootoption).


def following(running: str, image: str, token: str) -> str:
    """The running command line as the next kernel shall have it: it names the image that really booted, and
    carries the mark by which that boot is recognised as ours."""
    words = [word for word in running.split() if not word.startswith((f"{MARK}=", "BOOT_IMAGE="))]
    return " ".join([f"BOOT_IMAGE={image}", *words, f"{MARK}={token}"])


def asked(text: str, token: str) -> str:
    """A command line that the operator gave, with the mark; everything else stays as it was given."""
    words = [word for word in text.split(" ") if not word.startswith(f"{MARK}=")]
    return " ".join([*words, f"{MARK}={token}"]).strip()


def token_in(running: str | None) -> str | None:
    """The mark of the kexec that started this kernel; None where none did."""
    for word in reversed((running or "").split()):
        if word.startswith(f"{MARK}="):
            return word[len(MARK) + 1 :] or None
    return None


def unmarked(text: str) -> str:
    """What two loads are compared by."""
    return " ".join(word for word in text.split(" ") if not word.startswith(f"{MARK}="))
