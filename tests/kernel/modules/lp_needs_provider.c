/* Needs a symbol of another module, lab_provider. */
#include "lp.h"

int lab_provided(void);

static int lp_cmdline_proc_show(struct seq_file *m, void *v);

static struct klp_func lp_functions[] = {
	LP_FUNCTION("cmdline_proc_show", lp_cmdline_proc_show),
	{ }
};

static int lp_cmdline_proc_show(struct seq_file *m, void *v)
{
	int ret = ((lp_show_fn)lp_original(&lp_functions[0]))(m, v);

	seq_printf(m, "provided %d\n", lab_provided());
	return ret;
}

LP_PATCH(lp_patch, NULL, lp_functions, true);
LP_MODULE(lp_patch);
