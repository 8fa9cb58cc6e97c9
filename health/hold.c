/* How long a backend rests.  See hold.h. */
#include "health/hold.h"

int64_t
hold_until(int64_t now_ms, int64_t hold_down_ms, unsigned failures_before)
{
	unsigned doubles = failures_before < HOLD_DOUBLES ? failures_before : HOLD_DOUBLES;

	return now_ms + hold_down_ms * (INT64_C(1) << doubles);
}
