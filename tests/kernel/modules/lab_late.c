/* A target that is loaded after the patch: /proc/lab_late. */
#define LP_PLAIN
#include "lp.h"

#include <linux/proc_fs.h>

static lp_target int lab_late_show(struct seq_file *m, void *v)
{
	seq_puts(m, "old\n");
	return 0;
}

static int __init lab_late_init(void)
{
	return proc_create_single("lab_late", 0444, NULL, lab_late_show) ? 0 : -ENOMEM;
}

static void __exit lab_late_exit(void)
{
	remove_proc_entry("lab_late", NULL);
}

module_init(lab_late_init);
module_exit(lab_late_exit);
