/* Exports what lp_needs_provider needs. */
#define LP_PLAIN
#include "lp.h"

int lab_provided(void);

int lab_provided(void)
{
	return 42;
}
EXPORT_SYMBOL_GPL(lab_provided);
