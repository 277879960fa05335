/* A module that is no livepatch, although it has a structure that looks like the start of klp_patch. */
#include <linux/module.h>

static int table[4] = { 1, 2, 3, 4 };
static struct { struct module *owner; int *table; } decoy = { THIS_MODULE, table };

static int __init plain_init(void)
{
	pr_info("%p\n", &decoy);
	return 0;
}

static void __exit plain_exit(void)
{
}

module_init(plain_init);
module_exit(plain_exit);
MODULE_LICENSE("GPL");
