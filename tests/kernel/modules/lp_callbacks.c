/* Has all four callbacks; each says so in the kernel log. refuse=1: pre_patch forbids the patch. */
#define LP_LINE "callbacks"
#include "lp_cmdline.h"

static bool refuse;
module_param(refuse, bool, 0444);

static int lp_pre_patch(struct klp_object *object)
{
	pr_info("pre_patch\n");
	return refuse ? -EPERM : 0;
}

static void lp_post_patch(struct klp_object *object)
{
	pr_info("post_patch\n");
}

static void lp_pre_unpatch(struct klp_object *object)
{
	pr_info("pre_unpatch\n");
}

static void lp_post_unpatch(struct klp_object *object)
{
	pr_info("post_unpatch\n");
}

static struct klp_object lp_objects[] = {
	{
		.funcs = lp_functions,
		.callbacks = {
			.pre_patch = lp_pre_patch,
			.post_patch = lp_post_patch,
			.pre_unpatch = lp_pre_unpatch,
			.post_unpatch = lp_post_unpatch,
		},
	},
	{ }
};
static struct klp_patch lp_patch = { .mod = THIS_MODULE, .objs = lp_objects, .replace = true };

LP_MODULE(lp_patch);
