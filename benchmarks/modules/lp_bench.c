/* What is loaded: a function of the kernel itself and one of a module are patched, cumulatively. -D macros record
 * what it was made for: BENCH_RELEASE, BENCH_BUILD_ID (of the kernel's image), BENCH_TARGET_BUILD_ID (of lab_hold). */
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/stringify.h>

static int lp_cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "patched\n");
	return 0;
}

static int lp_hold_show(struct seq_file *m, void *v)
{
	seq_puts(m, "new\n");
	return 0;
}

static struct klp_func lp_kernel_functions[] = {
	{ .old_name = "cmdline_proc_show", .new_func = lp_cmdline_proc_show },
	{ }
};
static struct klp_func lp_hold_functions[] = {
	{ .old_name = "lab_hold_show", .new_func = lp_hold_show },
	{ }
};
static struct klp_object lp_objects[] = {
	{ .funcs = lp_kernel_functions },
	{ .name = "lab_hold", .funcs = lp_hold_functions },
	{ }
};
static struct klp_patch lp_patch = { .mod = THIS_MODULE, .objs = lp_objects, .replace = true };

static int __init lp_init(void)
{
	return klp_enable_patch(&lp_patch);
}

static void __exit lp_exit(void)
{
}

module_init(lp_init);
module_exit(lp_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_INFO(built_for_release, __stringify(BENCH_RELEASE));
MODULE_INFO(built_for, "vmlinux:" __stringify(BENCH_BUILD_ID));
MODULE_INFO(built_for, "lab_hold:" __stringify(BENCH_TARGET_BUILD_ID));
/* As the builder records it for the modules that it made, after it has read the positions back. */
MODULE_INFO(positions, "vmlinux");
MODULE_INFO(positions, "lab_hold");
