/* Level 2 holds all of level 1 and more: VMALLOCTOTAL too, and a line of its own in /proc/version. */
#include "lp.h"

static int lp_meminfo_proc_show(struct seq_file *m, void *v);
static int lp_version_proc_show(struct seq_file *m, void *v);

static struct klp_func lp_functions[] = {
	LP_FUNCTION("meminfo_proc_show", lp_meminfo_proc_show),
	LP_FUNCTION("version_proc_show", lp_version_proc_show),
	{ }
};

static int lp_meminfo_proc_show(struct seq_file *m, void *v)
{
	size_t from = m->count;
	int ret = ((lp_show_fn)lp_original(&lp_functions[0]))(m, v);

	lp_relabel(m, from, "VmallocChunk:", "VMALLOCCHUNK:");
	lp_relabel(m, from, "VmallocTotal:", "VMALLOCTOTAL:");
	return ret;
}

static int lp_version_proc_show(struct seq_file *m, void *v)
{
	int ret = ((lp_show_fn)lp_original(&lp_functions[1]))(m, v);

	seq_puts(m, "live-patched to level 2\n");
	return ret;
}

LP_PATCH(lp_patch, NULL, lp_functions, true);
LP_MODULE(lp_patch);
