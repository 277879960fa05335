/* Not cumulative: goes on top of what is in force instead of replacing it. */
#define LP_LINE "stacked"
#include "lp_cmdline.h"

LP_PATCH(lp_patch, NULL, lp_functions, false);
LP_MODULE(lp_patch);
