"""Runs inside a guest: one request to the kexec library. Arguments: the verb and its arguments as JSON."""

# ruff: noqa: E402  the library is where the test put it
import json
import os
import sys
from pathlib import Path

sys.path[:0] = ["/root/lib", "/opt/salt/lib"]

from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.host.outcome import refused
from livepatch_core.host.settings import Settings
from livepatch_core.kernel.roots import RUNNING
from livepatch_core.kexec import boot, calls, candidates, facts, load, status
from livepatch_core.kexec.explain import explain_load

CATALOG = Path("/srv/livepatch")


def fetch(name):
    path = CATALOG / name
    return path.read_bytes() if path.is_file() else None


def bypass(image, initrd):
    """What the kernel itself says to an image, whatever the checks would have said."""
    try:
        calls.load(os.open(image, os.O_RDONLY), os.open(initrd, os.O_RDONLY), "quiet")
    except OSError as problem:
        return refused(explain_load(problem, Path(image).name, facts.read_machine(RUNNING))).document()
    return {"result": True}


def crash_kernel(image, initrd):
    """Load a crash kernel, as kdump does (KEXEC_FILE_ON_CRASH)."""
    line = b"quiet\0"
    calls._call(os.open(image, os.O_RDONLY), os.open(initrd, os.O_RDONLY), line, 2)
    return {"result": True}


def perform(verb, arguments):
    host = Host(Settings(), fetch, {"user": "tester", "jid": "7", "id": "guest"})
    if verb in ("load", "preflight"):
        answer = getattr(load, verb)(host, load.Wish(**arguments))
        return answer if verb == "preflight" else answer.document()
    if verb == "unload":
        return load.unload(host, **arguments).document()
    if verb == "boot":
        return boot.boot(host, boot.Order(**{"wish": None, **arguments})).document()
    asked = {"status": status.status, "candidates": candidates.candidates}
    if verb in asked:
        return asked[verb](host)
    return {"bypass": bypass, "crash_kernel": crash_kernel}[verb](**arguments)


try:
    document = perform(sys.argv[1], json.loads(sys.argv[2]))
except LivepatchError as error:
    document = refused(error).document()
print(json.dumps(document))
