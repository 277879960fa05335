/* Patches what every sleeping process sleeps in: each holds the transition up until the fake signal. */
#include "lp.h"

#include <linux/hrtimer.h>

typedef int (*lp_nanosleep_fn)(struct hrtimer_sleeper *, enum hrtimer_mode);

static int lp_do_nanosleep(struct hrtimer_sleeper *sleeper, enum hrtimer_mode mode);

static struct klp_func lp_functions[] = { LP_FUNCTION("do_nanosleep", lp_do_nanosleep), { } };

static int lp_do_nanosleep(struct hrtimer_sleeper *sleeper, enum hrtimer_mode mode)
{
	/* Not a tail call: this function must stay on the stack while its task sleeps. */
	int ret = ((lp_nanosleep_fn)lp_original(&lp_functions[0]))(sleeper, mode);

	barrier();
	return ret;
}

LP_PATCH(lp_patch, NULL, lp_functions, true);
LP_MODULE(lp_patch);
