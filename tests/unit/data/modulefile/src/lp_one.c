/* The smallest livepatch module: one function of vmlinux, cumulative. */
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static int lp_one_cmdline_show(struct seq_file *m, void *v)
{
	seq_puts(m, "patched by lp_one\n");
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = lp_one_cmdline_show },
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.replace = true,
};

static int __init lp_one_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit lp_one_exit(void)
{
}

module_init(lp_one_init);
module_exit(lp_one_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
