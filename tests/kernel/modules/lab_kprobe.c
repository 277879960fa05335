/*
 * A kprobe on the function symbol=. post=1 gives it a post handler, with which it takes the function's ftrace
 * entry for itself (IPMODIFY) and excludes live patches of it; a plain one does not.
 */
#define LP_PLAIN
#include "lp.h"

#include <linux/kprobes.h>

static char *symbol = "cmdline_proc_show";
module_param(symbol, charp, 0444);
static bool post;
module_param(post, bool, 0444);

static int lab_kprobe_before(struct kprobe *probe, struct pt_regs *registers)
{
	return 0;
}

static void lab_kprobe_after(struct kprobe *probe, struct pt_regs *registers, unsigned long flags)
{
}

static struct kprobe lab_kprobe = { .pre_handler = lab_kprobe_before };

static int __init lab_kprobe_init(void)
{
	lab_kprobe.symbol_name = symbol;
	if (post)
		lab_kprobe.post_handler = lab_kprobe_after;
	return register_kprobe(&lab_kprobe);
}

static void __exit lab_kprobe_exit(void)
{
	unregister_kprobe(&lab_kprobe);
}

module_init(lab_kprobe_init);
module_exit(lab_kprobe_exit);
