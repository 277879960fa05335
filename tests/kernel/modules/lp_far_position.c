/* Means the 999th function of a name that fewer functions have: never gets in. */
#include "lp.h"

static void lp_init_once(void *object)
{
}

static struct klp_func lp_functions[] = {
	{ .old_name = "init_once", .new_func = lp_init_once, .old_sympos = 999 },
	{ }
};

LP_PATCH(lp_patch, NULL, lp_functions, true);
LP_MODULE(lp_patch);
