/*
 * What the live patches of the tests share. Each is one C file, compiled by the kernel's own build; -D
 * macros say what it was made for: LP_RELEASE, LP_BUILD_ID (of the kernel's image) and, of each target
 * module, LP_BUILD_ID_<module>, from which a file that defines LP_TARGET defines LP_TARGET_BUILD_ID.
 * Without them nothing is recorded.
 */
#ifndef LP_H
#define LP_H

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpufeature.h>
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/stringify.h>

MODULE_LICENSE("GPL");
#ifndef LP_PLAIN
MODULE_INFO(livepatch, "Y");
#endif
#ifdef LP_RELEASE
MODULE_INFO(built_for_release, __stringify(LP_RELEASE));
#endif
#ifdef LP_BUILD_ID
MODULE_INFO(built_for, "vmlinux:" __stringify(LP_BUILD_ID));
#endif
#ifdef LP_TARGET_BUILD_ID
MODULE_INFO(built_for, LP_TARGET ":" __stringify(LP_TARGET_BUILD_ID));
#endif
#ifdef LP_VARIANT
/* The same module with other content. */
MODULE_INFO(variant, __stringify(LP_VARIANT));
#endif

/*
 * The code of a patched function behind its ftrace call, so that a new function can run the original
 * and then change what it printed. livepatch fills in old_func while it enables the patch; on x86-64
 * the function starts with an endbr64 (if the kernel was built for IBT) and the 5-byte call or nop that
 * ftrace owns. With IBT switched on in hardware such a jump would fault: lp_enable() refuses then.
 */
static inline void *lp_original(const struct klp_func *func)
{
	static const u8 endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa };
	u8 *code = func->old_func;

	return code + (memcmp(code, endbr64, sizeof(endbr64)) ? 0 : sizeof(endbr64)) + 5;
}

static inline int lp_enable(struct klp_patch *patch)
{
	if (cpu_feature_enabled(X86_FEATURE_IBT))
		return -ENODEV;
	return klp_enable_patch(patch);
}

/* Change a label in what has been printed since `from`, to one of the same length. */
static inline void lp_relabel(struct seq_file *m, size_t from, const char *label, const char *to)
{
	char *found = strnstr(m->buf + from, label, m->count - from);

	if (found)
		memcpy(found, to, strlen(to));
}

/* A function that is to be patched by its name: not inlined, not cloned to lab_x.constprop.0 or lab_x.isra.0. */
#define lp_target noinline __attribute__((__noipa__))

typedef int (*lp_show_fn)(struct seq_file *, void *);

#define LP_FUNCTION(old, new) { .old_name = (old), .new_func = (new) }

/* A module whose init enables `patch`, and which can be removed once that is disabled. */
#define LP_MODULE(patch)                          \
	static int __init lp_init(void)           \
	{                                         \
		return lp_enable(&patch);         \
	}                                         \
	static void __exit lp_exit(void)          \
	{                                         \
	}                                         \
	module_init(lp_init);                     \
	module_exit(lp_exit)

/* A patch of one object with one list of functions. */
#define LP_PATCH(patch, object, functions, cumulative)         \
	static struct klp_object lp_objects[] = {              \
		{ .name = (object), .funcs = (functions) },    \
		{ }                                            \
	};                                                     \
	static struct klp_patch patch = {                      \
		.mod = THIS_MODULE,                            \
		.objs = lp_objects,                            \
		.replace = (cumulative),                       \
	}

#endif
