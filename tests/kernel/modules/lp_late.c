/* Waits for lab_late and then patches it too. */
#define LP_LATE_FUNCTION "lab_late_show"
#include "lp_late.h"
