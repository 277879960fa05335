/* Carries system state 1 in version 1. */
#define LP_LINE "state version 1"
#include "lp_cmdline.h"

static struct klp_state lp_states[] = { { .id = 1, .version = 1 }, { } };
static struct klp_object lp_objects[] = { { .funcs = lp_functions }, { } };
static struct klp_patch lp_patch = {
	.mod = THIS_MODULE,
	.objs = lp_objects,
	.states = lp_states,
	.replace = true,
};

LP_MODULE(lp_patch);
