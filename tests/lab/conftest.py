"""The lab's fixtures, for its own tests. (``pytest_plugins`` is for the topmost conftest only.)"""

from __future__ import annotations

from lab.fixtures import (  # noqa: F401
    bare_guest,
    fleet,
    lab_kernels,
    minion_guest,
    pytest_runtest_makereport,
    salt_master,
    salt_master_config,
    systemd_guest,
)
