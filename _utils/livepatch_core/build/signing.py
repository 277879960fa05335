"""Signing a module with the kernel's own tool, and checking what it wrote."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

from livepatch_core.build.commands import run
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.target import Target, config_value

_MARKER = b"~Module signature appended~\n"  # include/linux/module_signature.h
_TRAILER = 12  # struct module_signature: five bytes, three of padding, __be32 sig_len


def _refused(why: str) -> Refused:
    return Refused(
        Refusal.SIGNING, f"The module was not signed: {why}.", remedy="Check the key and the certificate."
    )


def split_signature(module: bytes) -> tuple[bytes, bytes]:
    """(module without its signature, PKCS#7 message). Raises ``Refused`` if there is none."""
    body = module[: -len(_MARKER)]
    if not module.endswith(_MARKER) or len(body) < _TRAILER:
        raise _refused("no signature is appended")
    (length,) = struct.unpack(">I", body[-4:])
    end = len(body) - _TRAILER
    if length > end:
        raise _refused("the appended signature is damaged")
    return body[: end - length], body[end - length : end]


def check_signature(module: bytes, certificate: Path, scratch: Path) -> None:
    """Refuse a module whose signature the certificate does not verify."""
    content, message = split_signature(module)
    (scratch / "content").write_bytes(content)
    (scratch / "message").write_bytes(message)
    done = run(
        [
            "openssl",
            "smime",
            "-verify",
            "-binary",
            "-inform",
            "DER",
            "-in",
            "message",
            "-content",
            "content",
            "-nointern",
            "-noverify",
            "-certfile",
            str(certificate),
            "-out",
            "/dev/null",
        ],
        cwd=scratch,
    )
    if done.status:
        raise _refused(f"the signature does not verify: {done.err.strip().splitlines()[-1:]}")


def sign(module: bytes, target: Target, key: Path, certificate: Path) -> bytes:
    """The module with a signature that ``certificate`` (PEM) verifies. The hash is the kernel's
    CONFIG_MODULE_SIG_HASH.
    """
    for what, path in (("key", key), ("certificate", certificate)):
        if not path.is_file():
            raise _refused(f"the {what} {path} does not exist")
    digest = (
        config_value((target.headers / ".config").read_text(encoding="utf-8"), "MODULE_SIG_HASH") or "sha256"
    )
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "module").write_bytes(module)
        tool = target.absolute().kbuild / "scripts/sign-file"
        done = run([str(tool), digest, str(key.resolve()), str(certificate.resolve()), "module"], cwd=scratch)
        if done.status:
            raise _refused(done.err.strip().splitlines()[-1] if done.err.strip() else "sign-file failed")
        signed = (scratch / "module").read_bytes()
        check_signature(signed, certificate.resolve(), scratch)
    return signed
