/* A patch of /proc/cmdline and of LP_LATE_FUNCTION in lab_late, which need not be loaded. */
#define LP_TARGET "lab_late"
#ifdef LP_BUILD_ID_lab_late
#define LP_TARGET_BUILD_ID LP_BUILD_ID_lab_late
#endif
#define LP_LINE "late"
#include "lp_cmdline.h"

static int lp_late_show(struct seq_file *m, void *v)
{
	seq_puts(m, "new\n");
	return 0;
}

static struct klp_func lp_late_functions[] = { LP_FUNCTION(LP_LATE_FUNCTION, lp_late_show), { } };
static struct klp_object lp_objects[] = {
	{ .funcs = lp_functions },
	{ .name = LP_TARGET, .funcs = lp_late_functions },
	{ }
};
static struct klp_patch lp_patch = { .mod = THIS_MODULE, .objs = lp_objects, .replace = true };

LP_MODULE(lp_patch);
