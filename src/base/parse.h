/* Reads numbers, sizes and durations from text. */
#ifndef PARSE_H
#define PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

/*
 * Reads a decimal number: digits alone, leading zeros allowed, no sign, no
 * space. Returns true if it is within [min, max]; false otherwise, with *out
 * unchanged.
 */
bool parse_u64(const char *text, uint64_t min, uint64_t max,
	       uint64_t *out) MUST_CHECK;

/*
 * Reads a size such as "64KiB": an integer with B, KiB, MiB or GiB. Returns
 * true if text has that form; false otherwise, with *bytes unchanged.
 */
bool parse_size(const char *text, uint64_t *bytes) MUST_CHECK;
/*
 * Reads a duration such as "1.5s": a decimal with ms, s, min or h. Returns true
 * if text has that form; false otherwise, with *us unchanged.
 */
bool parse_duration(const char *text, int64_t *us) MUST_CHECK;

/*
 * Returns true if text has at least one character and all are printable ASCII;
 * false otherwise.
 */
bool is_printable(const char *text) MUST_CHECK;

#endif
