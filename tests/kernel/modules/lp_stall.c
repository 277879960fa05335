/*
 * Patches all functions of lab_stall in which tasks sleep. A new reader gets its answer at once, except that
 * while the parameter hold is 1 it sleeps uninterruptibly in the *new* function and so holds up a reversal.
 */
#define LP_TARGET "lab_stall"
#ifdef LP_BUILD_ID_lab_stall
#define LP_TARGET_BUILD_ID LP_BUILD_ID_lab_stall
#endif
#include "lp.h"

#include <linux/wait.h>

static bool hold;
static DECLARE_WAIT_QUEUE_HEAD(lp_stall_queue);

static int lp_stall_set_hold(const char *value, const struct kernel_param *param)
{
	int ret = param_set_bool(value, param);

	wake_up_all(&lp_stall_queue);
	return ret;
}

static const struct kernel_param_ops lp_stall_hold_ops = { .set = lp_stall_set_hold, .get = param_get_bool };
module_param_cb(hold, &lp_stall_hold_ops, &hold, 0644);

/* Inline: it is the patched functions that must stay on the stack. */
static __always_inline int lp_stall_answer(struct seq_file *m, const char *answer)
{
	wait_event(lp_stall_queue, !READ_ONCE(hold));
	seq_puts(m, answer);
	return 0;
}

static lp_target int lp_stall_u_show(struct seq_file *m, void *v)
{
	return lp_stall_answer(m, "u new\n");
}

static lp_target int lp_stall_i_show(struct seq_file *m, void *v)
{
	return lp_stall_answer(m, "i new\n");
}

static lp_target int lp_stall_k_show(struct seq_file *m, void *v)
{
	return lp_stall_answer(m, "k new\n");
}

static int lp_stall_loop(void *unused)
{
	return 0;
}

static struct klp_func lp_functions[] = {
	LP_FUNCTION("lab_stall_u_show", lp_stall_u_show),
	LP_FUNCTION("lab_stall_i_show", lp_stall_i_show),
	LP_FUNCTION("lab_stall_k_show", lp_stall_k_show),
	LP_FUNCTION("lab_stall_loop", lp_stall_loop),
	{ }
};

LP_PATCH(lp_patch, LP_TARGET, lp_functions, true);
LP_MODULE(lp_patch);
