/* Level 1: /proc/meminfo says VMALLOCCHUNK; every other line stays, since Salt reads that file at import. */
#include "lp.h"

static int lp_meminfo_proc_show(struct seq_file *m, void *v);

static struct klp_func lp_functions[] = {
	LP_FUNCTION("meminfo_proc_show", lp_meminfo_proc_show),
	{ }
};

static int lp_meminfo_proc_show(struct seq_file *m, void *v)
{
	size_t from = m->count;
	int ret = ((lp_show_fn)lp_original(&lp_functions[0]))(m, v);

	lp_relabel(m, from, "VmallocChunk:", "VMALLOCCHUNK:");
	return ret;
}

LP_PATCH(lp_patch, NULL, lp_functions, true);
LP_MODULE(lp_patch);
