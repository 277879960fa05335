/*
 * Patches the loop in which a vhost worker lives, so that every worker there is holds the patch up for ever.
 * The new function is for workers that start later; the tests start none.
 */
#include "lp.h"

static int lp_vhost_worker(void *data)
{
	return 0;
}

static struct klp_func lp_functions[] = { LP_FUNCTION("vhost_worker", lp_vhost_worker), { } };

LP_PATCH(lp_patch, "vhost", lp_functions, true);
LP_MODULE(lp_patch);
