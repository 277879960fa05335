/* A function that can be read very often: /proc/lab_busy says old, and new once it is patched. */
#define LP_PLAIN
#include "lp.h"

#include <linux/proc_fs.h>

static lp_target int lab_busy_show(struct seq_file *m, void *v)
{
	seq_puts(m, "old\n");
	return 0;
}

static int __init lab_busy_init(void)
{
	return proc_create_single("lab_busy", 0444, NULL, lab_busy_show) ? 0 : -ENOMEM;
}

static void __exit lab_busy_exit(void)
{
	remove_proc_entry("lab_busy", NULL);
}

module_init(lab_busy_init);
module_exit(lab_busy_exit);
