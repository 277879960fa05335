"""Runs inside a bare guest: one request to the library, the way the execution module makes it.

Arguments: the verb and its arguments as JSON. Prints the document that comes out, as JSON. The catalog is a
directory of the guest; everything else is the running kernel.
"""

# ruff: noqa: E402  the library is where the test put it
import importlib
import json
import os
import signal
import sys
from pathlib import Path

sys.path[:0] = ["/root/lib", "/opt/salt/lib"]

from livepatch_core.errors import LivepatchError
from livepatch_core.host import apply, byhand, inquiry, journal, persist, revert, soak, watch
from livepatch_core.host.context import Host
from livepatch_core.host.move import Wish
from livepatch_core.host.outcome import refused
from livepatch_core.host.recognise import for_one_look
from livepatch_core.host.settings import parse_settings
from livepatch_core.providers import face, whole
from livepatch_core.words import OnStall

CATALOG = Path("/srv/livepatch")


class Catalog:
    """A directory; ``swap`` replaces one file by another the moment it has been read."""

    def __init__(self, swap):
        self.swap = swap or {}

    def fetch(self, name):
        path = CATALOG / name
        data = path.read_bytes() if path.is_file() else None
        if name == self.swap.get("file"):
            path.write_bytes(Path(self.swap["by"]).read_bytes())
        return data


def die_after(module, function):
    """The process kills itself the first time that call has returned."""
    holder = importlib.import_module(module)
    original = getattr(holder, function)

    def wrapper(*args, **keywords):
        result = original(*args, **keywords)
        os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(holder, function, wrapper)


def wish(arguments):
    if arguments.get("on_stall"):
        arguments["on_stall"] = OnStall(arguments["on_stall"])
    arguments["override"] = tuple(arguments.get("override", ()))
    return arguments


def by_hand(verb, host, subject, *rest, **order):
    return getattr(byhand, verb)(
        host, subject, *rest, byhand.Order(**{"reason": None, **wish(order)})
    ).document()


VERBS = {
    "apply": lambda host, **args: apply.apply(host, Wish(**wish(args))).document(),
    "revert": lambda host, **args: revert.revert(host, Wish(**wish(args))).document(),
    "load": lambda host, path, **args: by_hand("load", host, Path(path).read_bytes(), **args),
    "unload": lambda host, name, **args: by_hand("unload", host, name, **args),
    "force": lambda host, name, **args: by_hand("force", host, name, **args),
    "adopt_ledger": lambda host, ledger, rev=0, **args: by_hand("adopt_ledger", host, ledger, rev, **args),
    "unhold": lambda host, **args: byhand.unhold(
        host, byhand.Order(**wish({"reason": None, **args}))
    ).document(),
    "persist": lambda host, **args: persist.persist(host, **args).document(),
    "not_persisted": lambda host, **args: persist.not_persisted(host, **args).document(),
    "quarantine": lambda host, level, **args: persist.put_in_quarantine(
        host, level, byhand.Order(**wish({"reason": "a test", **args}))
    ).document(),
    "release": lambda host, level, **args: persist.release(
        host, level, byhand.Order(**wish({"reason": "a test", **args}))
    ).document(),
    "tick": lambda host: soak.tick(host).document(),
    "health": lambda host: soak.check_now(host).document(),
    "status": lambda host: whole.status(host, face.Site(host.roots), inquiry.covered(host), *for_one_look()),
    "preflight": lambda host, **args: inquiry.preflight_level(host, Wish(**wish(args))),
    "available": lambda host: inquiry.available(host),
    "transition": lambda host: watch.transition_document(host),
    "wait": lambda host, timeout: watch.wait(host, timeout).document(),
    "history": lambda host: inquiry.history(host, 1000),
    "verify": lambda host, head=None: inquiry.verify(host, journal.Head(**head) if head else None),
}


def main():
    verb, arguments = sys.argv[1], json.loads(sys.argv[2])
    settings = parse_settings(arguments.pop("settings", None))
    if "die_after" in arguments:
        die_after(*arguments.pop("die_after"))
    catalog = Catalog(arguments.pop("swap", None))
    host = Host(settings, catalog.fetch, {"user": "root", "jid": "", "id": "guest"})
    try:
        document = VERBS[verb](host, **arguments)
    except LivepatchError as error:
        document = {**refused(error).document(), "raised": True}
    print(json.dumps(document))


main()
