"""Who did it: every record of catalog and ledger says so, and an unknown user changes nothing.

A runner learns the user from Salt's ``__user__`` (salt/client/mixins.py): for ``salt-run`` the local user,
``sudo_alice`` under sudo; through the API the one that eauth knows; in an orchestration who started it;
``UNKNOWN`` where nobody is named; ``Reactor`` for a reaction to an event, which anybody may have fired.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

NOBODY = {"", "UNKNOWN", "Reactor", "None"}
NAME = re.compile(r"[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,127}")


@dataclass(frozen=True)
class Author:
    """Who, why, and when (UTC, ISO 8601)."""

    who: str
    why: str
    at: str

    def record(self, act: str) -> dict[str, str]:
        return {"at": self.at, "who": self.who, "act": act, "why": self.why}


def author(user: object, local: str, environment: Mapping[str, str], why: object, at: str) -> Author:
    """The author of an act; raises LivepatchError (unapproved) for an unknown user or a missing reason.

    local: the user this process runs as. ``salt-run`` gives up root before it asks for the user, so under
    sudo it names the master's user; sudo's own variable then says who it was.
    """
    return Author(known(user, local, environment), reason(why), at)


def known(user: object, local: str, environment: Mapping[str, str]) -> str:
    name = user if isinstance(user, str) else ""
    behind = environment.get("SUDO_USER", "")
    if name == local and behind:
        name = f"sudo_{behind}"
    if name in NOBODY or not NAME.fullmatch(name):
        raise LivepatchError(
            Kind.UNAPPROVED,
            f"Salt does not say who asks for this (user {user!r}), and an unknown user approves nothing; "
            "nothing was changed.",
            remedy="Run it with salt-run, or through an API that authenticates its users.",
        )
    return name


def reason(why: object) -> str:
    if not isinstance(why, str) or not why.strip():
        raise LivepatchError(
            Kind.UNAPPROVED,
            "No reason was given; nothing was changed.",
            remedy="Give why='...': it goes into the record.",
        )
    if not is_utf8(why):
        raise LivepatchError(
            Kind.ARGUMENT,
            f"The reason {why!r} is not UTF-8, and could not be recorded; nothing was changed.",
            remedy="Give it in UTF-8.",
        )
    return why.strip()


def is_utf8(text: str) -> bool:
    """False for what Python makes of other bytes on a command line (PEP 383)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
