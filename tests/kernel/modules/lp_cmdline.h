/*
 * A patch of /proc/cmdline that adds the line LP_LINE, for the tests in which it does not matter what is
 * patched. A file that wants something else besides defines it and includes this first.
 */
#include "lp.h"

static int lp_cmdline_proc_show(struct seq_file *m, void *v);

static struct klp_func lp_functions[] = {
	LP_FUNCTION("cmdline_proc_show", lp_cmdline_proc_show),
	{ }
};

static int lp_cmdline_proc_show(struct seq_file *m, void *v)
{
	int ret = ((lp_show_fn)lp_original(&lp_functions[0]))(m, v);

	seq_printf(m, "%s\n", LP_LINE);
	return ret;
}
