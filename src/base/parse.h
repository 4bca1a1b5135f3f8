/* Numbers, sizes and durations out of text. */
#ifndef PARSE_H
#define PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

/*
 * A decimal number of digits alone (no sign, no space, leading zeros
 * allowed) within [min, max]. False leaves *out as it was.
 */
bool parse_u64(const char *text, uint64_t min, uint64_t max,
	       uint64_t *out) MUST_CHECK;

/* "64KiB": an integer and B, KiB, MiB or GiB, in bytes. */
bool parse_size(const char *text, uint64_t *bytes) MUST_CHECK;
/* "1.5s": a decimal and ms, s, min or h, in microseconds. */
bool parse_duration(const char *text, int64_t *us) MUST_CHECK;

/* Whether text is not empty and all printable ASCII: fit to be shown. */
bool is_printable(const char *text) MUST_CHECK;

#endif
