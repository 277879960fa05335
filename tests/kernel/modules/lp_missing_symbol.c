/* Patches a function that no kernel has. */
#include "lp.h"

static int lp_new(void)
{
	return 0;
}

static struct klp_func lp_functions[] = { LP_FUNCTION("lab_no_such_function", lp_new), { } };

LP_PATCH(lp_patch, NULL, lp_functions, true);
LP_MODULE(lp_patch);
