/* Gets in, and oopses in the first task that reads /proc/version. */
#include "lp.h"

static int lp_version_proc_show(struct seq_file *m, void *v)
{
	BUG();
	return 0;
}

static struct klp_func lp_functions[] = {
	LP_FUNCTION("version_proc_show", lp_version_proc_show),
	{ }
};

LP_PATCH(lp_patch, NULL, lp_functions, true);
LP_MODULE(lp_patch);
