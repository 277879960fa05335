/* Gets in while lab_late is not loaded; then the kernel refuses lab_late, which has no such function. */
#define LP_LATE_FUNCTION "lab_late_no_such_function"
#include "lp_late.h"
