"""What vendors' programs and kernels print, for the parsers.

DOCUMENTED: quoted from the vendor's documentation or a user's host, shortened. STAND-IN: written from the
documented behaviour, because no whole sample was to be had; what it shows of the parser holds for the real
program only as far as the documentation does.
"""

from __future__ import annotations

import json

# DOCUMENTED (TuxCare documentation, and a user's host)
KCARE_INFO = """\
kpatch-state: patch is applied
kpatch-for: Linux version 5.4.0-1028-raspi (buildd@bos02) #31-Ubuntu SMP PREEMPT Wed Jan 20 11:30:45 UTC 2021
kpatch-build-time: Thu Feb 11 23:02:52 2021
kpatch-description: 1-:1615812815;5.4.0-1028.31
"""
# DOCUMENTED; the second patch is a STAND-IN with the same fields
KCARE_PATCHES = """\
OS: centos6
kernel: kernel-2.6.32-696.6.3.el6
time: 2017-07-31 22:46:22
uname: 2.6.32-696.6.3.el6

kpatch-name: 2.6.32/symlink-protection.patch
kpatch-description: symlink protection
kpatch-kernel: kernel-2.6.32-279.2.1.el6
kpatch-cve: N/A
kpatch-cvss: N/A

kpatch-name: 2.6.32/second.patch
kpatch-cve: CVE-2017-7895, CVE-2017-1000364
kpatch-cvss: 9.8
"""
# STAND-IN: the documentation shows the state "patch is applied" only
KCARE_INFO_NONE = "kpatch-state: no patch is applied\n"

# DOCUMENTED layout (Oracle's Ksplice user's guide, and users' hosts): the last line is the package's version,
# without the architecture that uname -r has; the updates are a STAND-IN
UPTRACK_SHOW = """\
Installed updates:
[dfvn0zq8] CVE-2014-7826: Memory corruption in ftrace.
[k3bv2x0a] Denial-of-service in the scheduler (CVE-2014-3690).

Effective kernel version is 3.8.13-55.1.1.el6uek
"""
# DOCUMENTED (Oracle's Ksplice user's guide)
UPTRACK_UNAME = "3.8.13-55.1.1.el6uek.x86_64\n"
# DOCUMENTED last line; that "None" stands above it is as users' hosts show it. Ubuntu's version is never that
# of uname -r (5.15.0-89-generic).
UPTRACK_NOTHING = "Installed updates:\nNone\n\nEffective kernel version is 3.8.13-44.el6uek\n"
UPTRACK_NOTHING_UBUNTU = "Installed updates:\nNone\n\nEffective kernel version is 5.15.0-89.99\n"

# kGraft: the format strings of its kernel module, in two versions of it
KGRAFT_STATE = "Function               State  Fatal\n" + "".join(
    f"{name:<20}  {state:5d}  {1:5d}\n" for name, state in (("SyS_foo", 2), ("tcp_bar", 2))
)
KGRAFT_STATE_NEWER = "Function               Weak  State\n" + "".join(
    f"{name:<20}  {0:5d}  {state:5d}\n" for name, state in (("SyS_foo", 2), ("xfs_bar", 5))
)


# DOCUMENTED (the vendor's own consumer, ubuntu-pro-client)
SUPPORTED = ("supported", "kernel-upgrade-required", "kernel-end-of-life", "unsupported", "unknown")


def canonical(state: str, running: bool | None = True, supported: str = "supported", **more: object) -> str:
    """DOCUMENTED keys (client 10.x, as the vendor's own consumers read them); the values vary. supported: of
    SUPPORTED."""
    entry: dict[str, object] = {
        "Kernel": "5.15.0-100.110-generic",
        "Supported": supported,
        "Livepatch": {
            "CheckState": "checked",
            "State": state,
            "Version": "104.1",
            "Fixes": [
                {"Bug": "", "Description": "", "Name": "cve-2023-6270", "Patched": True},
                {"Bug": "", "Description": "", "Name": "cve-2024-0001", "Patched": False},
            ],
        },
        **more,
    }
    if running is not None:
        entry["Running"] = running
    return json.dumps({"Client-Version": "10.8.3", "Status": [entry]})
