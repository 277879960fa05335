// SPDX-License-Identifier: GPL-2.0
/*
 * Counts how often functions are entered. The function tracer would do, but an emulated guest prints its trace
 * for minutes; this prints numbers.
 *
 * ips: addresses of the functions, ascending (as /proc/kallsyms has them). hits: how often each was entered
 * since this was loaded.
 */
#include <linux/bsearch.h>
#include <linux/ftrace.h>
#include <linux/module.h>

#define MOST 512
#define NEAR 16 /* the call of ftrace comes within so many bytes of a function's address */

static unsigned long ips[MOST];
static unsigned long hits[MOST];
static unsigned int count, hits_count = MOST;
module_param_array(ips, ulong, &count, 0);
module_param_array(hits, ulong, &hits_count, 0444);

static int compare(const void *key, const void *entry)
{
	unsigned long ip = *(const unsigned long *)key, start = *(const unsigned long *)entry;

	if (ip < start)
		return -1;
	return ip - start < NEAR ? 0 : 1;
}

static void notrace entered(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
			    struct ftrace_regs *regs)
{
	unsigned long *found = bsearch(&ip, ips, count, sizeof(*ips), compare);

	if (found)
		hits[found - ips]++;
}

static struct ftrace_ops ops = { .func = entered };

static int __init start(void)
{
	int error = ftrace_set_filter_ips(&ops, ips, count, 0, 1);

	hits_count = count;
	return error ?: register_ftrace_function(&ops);
}

static void __exit stop(void)
{
	unregister_ftrace_function(&ops);
	ftrace_free_filter(&ops);
}

module_init(start);
module_exit(stop);
MODULE_DESCRIPTION("Counts how often functions are entered");
MODULE_LICENSE("GPL");
