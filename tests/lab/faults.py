"""Modules that do what a kernel must not do."""

from __future__ import annotations

BODY = """
#include <linux/module.h>
#include <linux/irqflags.h>
static int __init start(void) {{ {statement} return 0; }}
module_init(start);
MODULE_LICENSE("GPL");
"""
SOURCES = {
    "lab_harmless.c": BODY.format(statement=""),
    "lab_panic.c": BODY.format(statement='panic("on purpose");'),
    "lab_oops.c": BODY.format(statement="*(volatile int *)8 = 1;"),
    "lab_hang.c": BODY.format(statement="local_irq_disable(); for (;;) cpu_relax();"),
}
