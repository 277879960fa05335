/*
 * Loads as any other patch, unless a file says otherwise: /var/lib/moody-panic takes the kernel down,
 * /var/lib/moody-hang keeps the load from ending (the power is cut then).
 */
#define LP_LINE "moody"
#include <linux/delay.h>
#include <linux/fs.h>
#include "lp_cmdline.h"

LP_PATCH(lp_patch, NULL, lp_functions, true);

static bool lp_there(const char *path)
{
	struct file *file = filp_open(path, O_RDONLY, 0);

	if (IS_ERR(file))
		return false;
	filp_close(file, NULL);
	return true;
}

static int __init lp_init(void)
{
	if (lp_there("/var/lib/moody-panic"))
		panic("lp_moody: as ordered");
	while (lp_there("/var/lib/moody-hang")) {
		pr_emerg("lp_moody: hangs as ordered\n");
		msleep(1000);
	}
	return lp_enable(&lp_patch);
}

static void __exit lp_exit(void)
{
}

module_init(lp_init);
module_exit(lp_exit);
