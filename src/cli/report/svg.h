/*
 * The geometry of the report's pictures. Widths are in percent of the picture,
 * so that it fits any screen; heights are in pixels, so that text stays as it
 * is.
 */
#ifndef REPORT_SVG_H
#define REPORT_SVG_H

#include <stddef.h>
#include <stdint.h>

struct svg_span {
	int64_t from, to; /* ms since 1970 */
	double x, width; /* percent */
};

/*
 * Fills x and width of spans that follow one another. A width goes by the
 * span's time, but each is at least smallest percent: a task is in one status
 * for a minute and in the next for days, and both are to be seen. A span that
 * ends before it begins counts as empty.
 */
void svg_spread(struct svg_span *spans, size_t count, double smallest);

/* Returns where a time is within a span, in percent of the picture. */
double svg_place(const struct svg_span *span, int64_t time);

/* Returns 1 if a text of so many characters fits a width of so many pixels. */
int svg_text_fits(size_t characters, double pixels);

/* Returns the end of an axis for values up to max: 1, 2 or 5 times 10^n. */
uint64_t svg_axis_end(uint64_t max);

/*
 * Returns a shade, 1 to steps, for a count of 1 to max: each shade stands for
 * four times the count of the one below it.
 */
unsigned svg_shade(uint64_t count, uint64_t max, unsigned steps);

#endif
