/*
 * Owns the arithmetic of open descriptors. Must not know their users beyond
 * the numbers below.
 */
#include "responder/descriptors.h"

#include <sys/resource.h>

#include "base/log.h"

enum {
	/*
	 * The process itself: 0 to 2, the listening socket, wake-ups and the
	 * log (8); connecting to PostgreSQL with a name look-up (6); draining
	 * (5); reading a secret (3).
	 */
	OWN = 22,
	/*
	 * A connection has one, and three more while it is served: spooling
	 * opens a file and two directories; reading needs only one.
	 */
	WHILE_SERVED = 3
};

uint64_t descriptors_raise_limit(void)
{
	struct rlimit limit;
	rlim_t soft;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return OWN;
	soft = limit.rlim_cur;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
		log_message(LEVEL_WARNING,
			    "can't raise the limit of open files: %m");
		return soft;
	}
	return limit.rlim_max;
}

unsigned descriptors_allow(uint64_t limit, unsigned wanted, unsigned threads)
{
	uint64_t left = limit > OWN ? limit - OWN : 0;
	uint64_t count = left / (1 + WHILE_SERVED);

	/* Beyond so many, the others only wait. */
	if (count > threads)
		count = left - (uint64_t)threads * WHILE_SERVED;
	if (count > wanted)
		return wanted;
	return count ? (unsigned)count : 1;
}
