/* Takes the kernel down while it is loaded. */
#define LP_LINE "never seen"
#include "lp_cmdline.h"

LP_PATCH(lp_patch, NULL, lp_functions, true);

static int __init lp_init(void)
{
	if (lp_patch.replace)
		panic("lp_panic: as ordered");
	return lp_enable(&lp_patch);
}

static void __exit lp_exit(void)
{
}

module_init(lp_init);
module_exit(lp_exit);
