/*
 * A module to be patched while tasks sleep in it. /proc/lab_stall/{u,i,k}: a reader sleeps in the function
 * that is patched, uninterruptibly, interruptibly or until it is killed, and is let go by a write to
 * /proc/lab_stall/go. kthread=1: a kernel thread sleeps in lab_stall_loop() until then.
 */
#define LP_PLAIN
#include "lp.h"

#include <linux/kthread.h>
#include <linux/proc_fs.h>
#include <linux/wait.h>

static bool kthread;
module_param(kthread, bool, 0444);

static DECLARE_WAIT_QUEUE_HEAD(lab_stall_queue);
static atomic_t lab_stall_released = ATOMIC_INIT(0);
static struct task_struct *lab_stall_task;
static struct proc_dir_entry *lab_stall_directory;

static lp_target int lab_stall_u_show(struct seq_file *m, void *v)
{
	int before = atomic_read(&lab_stall_released);

	wait_event(lab_stall_queue, atomic_read(&lab_stall_released) != before);
	seq_puts(m, "u old\n");
	return 0;
}

static lp_target int lab_stall_i_show(struct seq_file *m, void *v)
{
	int before = atomic_read(&lab_stall_released);
	int ret = wait_event_interruptible(lab_stall_queue, atomic_read(&lab_stall_released) != before);

	seq_puts(m, "i old\n");
	return ret;
}

static lp_target int lab_stall_k_show(struct seq_file *m, void *v)
{
	int before = atomic_read(&lab_stall_released);
	int ret = wait_event_killable(lab_stall_queue, atomic_read(&lab_stall_released) != before);

	seq_puts(m, "k old\n");
	return ret;
}

static lp_target int lab_stall_loop(void *unused)
{
	int before = atomic_read(&lab_stall_released);

	while (atomic_read(&lab_stall_released) == before && !kthread_should_stop())
		schedule_timeout_idle(HZ / 10);
	return 0;
}

/* The thread's entry is another function, so that it does not stay in the patched one once it is let go. */
static int lab_stall_thread(void *unused)
{
	lab_stall_loop(NULL);
	while (!kthread_should_stop())
		schedule_timeout_idle(HZ / 10);
	return 0;
}

static ssize_t lab_stall_go(struct file *file, const char __user *data, size_t size, loff_t *position)
{
	atomic_inc(&lab_stall_released);
	wake_up_all(&lab_stall_queue);
	return size;
}

static const struct proc_ops lab_stall_go_ops = { .proc_write = lab_stall_go };

static int __init lab_stall_init(void)
{
	lab_stall_directory = proc_mkdir("lab_stall", NULL);
	if (!lab_stall_directory)
		return -ENOMEM;
	proc_create_single("u", 0444, lab_stall_directory, lab_stall_u_show);
	proc_create_single("i", 0444, lab_stall_directory, lab_stall_i_show);
	proc_create_single("k", 0444, lab_stall_directory, lab_stall_k_show);
	proc_create("go", 0200, lab_stall_directory, &lab_stall_go_ops);
	if (kthread) {
		lab_stall_task = kthread_run(lab_stall_thread, NULL, "lab_stall");
		if (IS_ERR(lab_stall_task)) {
			proc_remove(lab_stall_directory);
			return PTR_ERR(lab_stall_task);
		}
	}
	return 0;
}

static void __exit lab_stall_exit(void)
{
	if (lab_stall_task)
		kthread_stop(lab_stall_task);
	proc_remove(lab_stall_directory);
}

module_init(lab_stall_init);
module_exit(lab_stall_exit);
