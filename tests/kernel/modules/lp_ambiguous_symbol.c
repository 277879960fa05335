/* Patches a function whose name every file system uses, and does not say which: never gets in. */
#include "lp.h"

static void lp_init_once(void *object)
{
}

static struct klp_func lp_functions[] = { LP_FUNCTION("init_once", lp_init_once), { } };

LP_PATCH(lp_patch, NULL, lp_functions, true);
LP_MODULE(lp_patch);
