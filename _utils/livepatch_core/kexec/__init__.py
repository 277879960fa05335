"""Starting another kernel with kexec: what could be started, whether it may, and what came of it.

The fallback for what cannot be patched live. Deciding is pure (order, cmdline, image, checks, ended); reading
(installed, facts) and the system calls (calls) are thin.
"""
