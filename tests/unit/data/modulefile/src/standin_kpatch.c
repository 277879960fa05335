/*
 * A STAND-IN for what kpatch-build produces (not made by kpatch): the sections a kpatch module keeps in its .ko,
 * laid out as kpatch 0.9 documents them. struct kpatch_patch_func is seven words: new address and size, old
 * address and size, symbol position, name, object; a callback is two: function, object.
 */
/* aligned(8): gcc would pad large arrays to 32 bytes, kpatch does not. */
#define SECTION(name) __attribute__((used, section(name), aligned(8)))

struct func { unsigned long new_addr, new_size, old_addr, old_size, sympos; const char *name, *object; };
struct callback { void *function; const char *object; };
struct this_module { int state; void *list[2]; char name[56]; };

static int new_one(void) { return 1; }
static int new_two(void) { return 2; }
static int new_three(void) { return 3; }
static int pre(void *object) { return 0; }

static const char vmlinux[] SECTION(".kpatch.strings") = "vmlinux";
static const char xfs[] SECTION(".kpatch.strings") = "xfs";

SECTION(".kpatch.funcs") static struct func funcs[] = {
	{ (unsigned long)new_one, 6, 0, 6, 1, "cmdline_proc_show", vmlinux },
	{ (unsigned long)new_two, 6, 0, 6, 2, "xfs_fs_statfs", xfs },
	{ (unsigned long)new_three, 6, 0, 6, 0, "meminfo_proc_show", vmlinux },
};
SECTION(".kpatch.callbacks.pre_patch") static struct callback callbacks[] = { { pre, xfs } };
/* kpatch's linker script ends each callback section with one zero word, used or not. */
SECTION(".kpatch.callbacks.pre_patch") static unsigned long pad = 0;
SECTION(".kpatch.callbacks.post_patch") static unsigned long pad2 = 0;

SECTION(".gnu.linkonce.this_module") struct this_module __this_module = { .name = "livepatch_standin" };
SECTION(".modinfo") static const char modinfo[] =
	"license=GPL\0livepatch=Y\0depends=\0name=livepatch_standin\0vermagic=6.1.0-56-amd64 SMP preempt mod_unload modversions ";
