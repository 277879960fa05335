/* Patches lab_busy's only function. */
#define LP_TARGET "lab_busy"
#ifdef LP_BUILD_ID_lab_busy
#define LP_TARGET_BUILD_ID LP_BUILD_ID_lab_busy
#endif
#include "lp.h"

static int lp_busy_show(struct seq_file *m, void *v)
{
	seq_puts(m, "new\n");
	return 0;
}

static struct klp_func lp_functions[] = { LP_FUNCTION("lab_busy_show", lp_busy_show), { } };

LP_PATCH(lp_patch, LP_TARGET, lp_functions, true);
LP_MODULE(lp_patch);
