/*
 * Owns the geometry of the pictures. Must not know what they show, nor how they
 * are written.
 */
#include "cli/report/svg.h"

/* Of the page's font at its size in pictures; capitals are wide. */
static const double character_pixels = 7.4;
enum { TEXT_MARGIN_PIXELS = 14 };

static int64_t duration(const struct svg_span *span)
{
	return span->to > span->from ? span->to - span->from : 0;
}

void svg_spread(struct svg_span *spans, size_t count, double smallest)
{
	double total = 0, x = 0, rest;

	if (!count)
		return;
	if (smallest * (double)count > 100)
		smallest = 100 / (double)count;
	rest = 100 - smallest * (double)count;
	for (size_t i = 0; i < count; i++)
		total += (double)duration(&spans[i]);
	for (size_t i = 0; i < count; i++) {
		double share = total > 0 ? (double)duration(&spans[i]) / total
					 : 1 / (double)count;

		spans[i].x = x;
		spans[i].width = smallest + rest * share;
		x += spans[i].width;
	}
}

double svg_place(const struct svg_span *span, int64_t time)
{
	double share;

	if (time <= span->from)
		return span->x;
	if (time >= span->to)
		return span->x + span->width;
	share = (double)(time - span->from) / (double)duration(span);
	return span->x + span->width * share;
}

int svg_text_fits(size_t characters, double pixels)
{
	return (double)characters * character_pixels + TEXT_MARGIN_PIXELS <=
	       pixels;
}

uint64_t svg_axis_end(uint64_t max)
{
	static const uint64_t steps[] = { 1, 2, 5 };
	uint64_t ten = 1;

	for (;;) {
		for (unsigned i = 0; i < 3; i++) {
			if (max <= steps[i] * ten)
				return steps[i] * ten;
		}
		if (ten > UINT64_MAX / 100)
			return UINT64_MAX;
		ten *= 10;
	}
}

unsigned svg_shade(uint64_t count, uint64_t max, unsigned steps)
{
	while (steps > 1 && count <= max / 4) {
		max /= 4;
		steps--;
	}
	return steps;
}
