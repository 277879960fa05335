/* Its init gives up before it patches anything. */
#define LP_LINE "never seen"
#include "lp_cmdline.h"

LP_PATCH(lp_patch, NULL, lp_functions, true);

static int __init lp_init(void)
{
	return lp_patch.replace ? -ENODEV : lp_enable(&lp_patch);
}

static void __exit lp_exit(void)
{
}

module_init(lp_init);
module_exit(lp_exit);
