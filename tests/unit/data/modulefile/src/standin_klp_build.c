/*
 * A STAND-IN for what the kernel's klp-build (6.19 and newer) produces (not made by it): .init.klp_objects and
 * .init.klp_funcs as include/linux/livepatch_external.h lays them out.
 */
/* aligned(8): gcc would pad large arrays to 32 bytes, the kernel tool does not. */
#define SECTION(name) __attribute__((used, section(name), aligned(8)))

struct func { const char *old_name; void *new_func; unsigned long sympos; };
struct callbacks { void *pre_patch, *post_patch, *pre_unpatch, *post_unpatch; _Bool post_unpatch_enabled; };
struct object { const char *name; struct func *funcs; struct callbacks callbacks; unsigned int nr_funcs; };
struct this_module { int state; void *list[2]; char name[56]; };

static int new_one(void) { return 1; }
static int new_two(void) { return 2; }
static int new_three(void) { return 3; }
static void post(void *object) { }

SECTION(".init.klp_funcs") static struct func vmlinux_funcs[] = {
	{ "cmdline_proc_show", new_one, 0 },
	{ "meminfo_proc_show", new_two, 2 },
};
SECTION(".init.klp_funcs") static struct func xfs_funcs[] = { { "xfs_fs_statfs", new_three, 1 } };
SECTION(".init.klp_objects") static struct object objects[] = {
	{ .funcs = vmlinux_funcs, .nr_funcs = 2 },
	{ .name = "xfs", .funcs = xfs_funcs, .callbacks = { .post_unpatch = post }, .nr_funcs = 1 },
};

SECTION(".gnu.linkonce.this_module") struct this_module __this_module = { .name = "livepatch_cmdline" };
SECTION(".modinfo") static const char modinfo[] =
	"license=GPL\0livepatch=Y\0depends=xfs,libcrc32c\0name=livepatch_cmdline\0vermagic=6.19.0-1-amd64 SMP preempt mod_unload modversions ";
