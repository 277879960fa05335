/*
 * Holds a transition up for a time that does not depend on the tools measured. A reader of /proc/lab_hold
 * sleeps in the function that is patched; the first module that comes (the live patch) starts a timer of
 * HOLD_MS, which lets it go. The kernel looks again 0.75 to 1.75 s after its first try
 * (klp_try_complete_transition: round_jiffies_relative(HZ)), later than HOLD_MS: so that look is always the last.
 */
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/timer.h>
#include <linux/wait.h>

#define HOLD_MS 500

static DECLARE_WAIT_QUEUE_HEAD(lab_hold_queue);
static int lab_hold_rounds;

static noinline int lab_hold_show(struct seq_file *m, void *v)
{
	int before = READ_ONCE(lab_hold_rounds);
	int ret = wait_event_killable(lab_hold_queue, READ_ONCE(lab_hold_rounds) != before);

	seq_puts(m, "old\n");
	return ret;
}

static void lab_hold_release(struct timer_list *unused)
{
	WRITE_ONCE(lab_hold_rounds, lab_hold_rounds + 1);
	wake_up_all(&lab_hold_queue);
}

static DEFINE_TIMER(lab_hold_timer, lab_hold_release);

static int lab_hold_module_comes(struct notifier_block *block, unsigned long action, void *module)
{
	if (action == MODULE_STATE_COMING && module != THIS_MODULE)
		mod_timer(&lab_hold_timer, jiffies + msecs_to_jiffies(HOLD_MS));
	return NOTIFY_OK;
}

static struct notifier_block lab_hold_block = { .notifier_call = lab_hold_module_comes };

static int __init lab_hold_init(void)
{
	if (!proc_create_single("lab_hold", 0400, NULL, lab_hold_show))
		return -ENOMEM;
	return register_module_notifier(&lab_hold_block);
}

static void __exit lab_hold_exit(void)
{
	unregister_module_notifier(&lab_hold_block);
	del_timer_sync(&lab_hold_timer);
	remove_proc_entry("lab_hold", NULL);
}

module_init(lab_hold_init);
module_exit(lab_hold_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("holds a livepatch transition up for a while");
