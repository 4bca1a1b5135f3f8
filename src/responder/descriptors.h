/*
 * Open descriptors: how many the process may have, and for how many requests
 * in flight that is enough.
 */
#ifndef DESCRIPTORS_H
#define DESCRIPTORS_H

#include <stdint.h>

#include "base/macros.h"

/*
 * Raises the limit of open descriptors to its hard limit, and returns it. Call
 * it before any thread is started.
 */
uint64_t descriptors_raise_limit(void) MUST_CHECK;

/*
 * Returns for how many requests in flight so many descriptors are enough, of
 * which at most `threads` are read or spooled at one time. Returns at least 1
 * and at most `wanted`.
 */
unsigned descriptors_allow(uint64_t limit, unsigned wanted,
			   unsigned threads) MUST_CHECK;

#endif
