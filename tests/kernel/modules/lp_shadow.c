/* Counts the readers of /proc/cmdline in a shadow variable, which stays when the patch goes. */
#include "lp.h"

#define LP_SHADOW_ID 4711

static int lp_cmdline_proc_show(struct seq_file *m, void *v);

static struct klp_func lp_functions[] = {
	LP_FUNCTION("cmdline_proc_show", lp_cmdline_proc_show),
	{ }
};

static int lp_cmdline_proc_show(struct seq_file *m, void *v)
{
	int ret = ((lp_show_fn)lp_original(&lp_functions[0]))(m, v);
	atomic_t *count = klp_shadow_get_or_alloc(&init_task, LP_SHADOW_ID, sizeof(*count), GFP_KERNEL, NULL, NULL);

	if (count)
		seq_printf(m, "read %d times\n", atomic_inc_return(count));
	return ret;
}

LP_PATCH(lp_patch, NULL, lp_functions, true);
LP_MODULE(lp_patch);
