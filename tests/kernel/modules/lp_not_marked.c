/* Calls klp_enable_patch() without being marked as a livepatch. */
#define LP_PLAIN
#define LP_LINE "not marked"
#include "lp_cmdline.h"

LP_PATCH(lp_patch, NULL, lp_functions, true);
LP_MODULE(lp_patch);
