/*
 * Everything the tables can say: two modules and vmlinux, symbol positions, callbacks, an object with callbacks
 * only, system states, a shadow variable, compound literals, livepatch symbols, recorded build-ids.
 * klp_sym_* are renamed to .klp.sym.* by build.py once the module is linked.
 */
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/seq_file.h>

extern int klp_sym_a(void);
extern int klp_sym_b(void);
extern int klp_sym_c;
extern int klp_sym_d(void *data);

static int lp_full_one(void) { return klp_sym_a() + klp_sym_b(); }
static int lp_full_two(void) { return klp_sym_c; }
static int lp_full_three(void *data)
{
	return klp_shadow_get(data, 7) ? klp_sym_d(data) : 0;
}

static int pre(struct klp_object *obj) { return 0; }
static void post(struct klp_object *obj) { }

/* A decoy: like klp_patch it begins with a pointer to the module and one to a writable table. */
static int decoy_table[4] = { 1, 2, 3, 4 };
static struct { struct module *owner; int *table; } decoy = { THIS_MODULE, decoy_table };

static struct klp_func no_funcs[] = { { } };

static struct klp_object objs[] = {
	{
		.funcs = (struct klp_func[]) {
			{ .old_name = "cmdline_proc_show", .new_func = lp_full_one },
			{ .old_name = "notifier_call.isra.0", .new_func = lp_full_two, .old_sympos = 3 },
			{ }
		},
		.callbacks = { .pre_patch = pre, .post_unpatch = post },
	},
	{
		.name = "xfs",
		.funcs = (struct klp_func[]) {
			{ .old_name = "xfs_fs_statfs", .new_func = lp_full_three, .old_sympos = 1 },
			{ }
		},
	},
	{
		.name = "nf_tables",
		.funcs = no_funcs,
		.callbacks = { .post_patch = post, .pre_unpatch = post },
	},
	{ }
};

static struct klp_state states[] = {
	{ .id = 11, .version = 2 },
	{ .id = 0x100000001, .version = 1 },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.states = states,
};

static int __init lp_full_init(void)
{
	pr_debug("%p\n", &decoy);
	return klp_enable_patch(&patch);
}

static void __exit lp_full_exit(void)
{
}

module_init(lp_full_init);
module_exit(lp_full_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_INFO(built_for, "vmlinux:00112233445566778899aabbccddeeff00112233");
MODULE_INFO(built_for, "xfs:ffeeddccbbaa99887766554433221100ffeeddcc");
MODULE_INFO(built_for_release, "6.1.0-56-amd64");
