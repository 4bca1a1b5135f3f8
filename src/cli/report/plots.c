/*
 * Owns the two plots: events an hour, and how long recording took. Must not
 * know SQL. Each is a picture of the page's width beside one with the axis, so
 * that text keeps its size on any screen.
 */
#include "base/clock.h"
#include "base/macros.h"
#include "cli/report/html.h"
#include "cli/report/page.h"
#include "cli/report/svg.h"
#include "cli/report/tables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Heights and margins in pixels; a column of the second plot is 4 hours. */
enum {
	TOP = 8,
	BARS = 130,
	CELL = 13,
	LABELS = 20,
	COLUMN_HOURS = 4,
	COLUMNS = REPORT_HOURS / COLUMN_HOURS,
	SHADES = 5
};

struct counts {
	uint64_t hours[REPORT_HOURS]; /* the oldest first */
	uint64_t cells[COLUMNS][REPORT_BUCKETS];
	uint64_t total, day, max_hour, max_cell;
	int64_t now; /* s since 1970 */
	bool limited;
};

static void count(struct counts *c, const struct rows *rows)
{
	*c = (struct counts){ 0 };
	for (size_t n = 0; n < rows_count(rows); n++) {
		uint64_t ago = report_number(rows, n, HOUR_AGO);
		uint64_t bucket = report_number(rows, n, HOUR_BUCKET);
		uint64_t events = report_number(rows, n, HOUR_COUNT);
		size_t hour;

		if (ago >= REPORT_HOURS || bucket >= REPORT_BUCKETS)
			continue;
		hour = REPORT_HOURS - 1 - (size_t)ago;
		c->hours[hour] += events;
		c->cells[hour / COLUMN_HOURS][bucket] += events;
		c->total += events;
		c->day += ago < 24 ? events : 0;
	}
	for (size_t i = 0; i < REPORT_HOURS; i++)
		c->max_hour = c->hours[i] > c->max_hour ? c->hours[i]
							: c->max_hour;
	for (size_t i = 0; i < (size_t)COLUMNS * REPORT_BUCKETS; i++) {
		uint64_t cell =
			c->cells[i / REPORT_BUCKETS][i % REPORT_BUCKETS];

		c->max_cell = cell > c->max_cell ? cell : c->max_cell;
	}
	c->now = (int64_t)report_number(rows, 0, HOUR_NOW);
	c->limited = strcmp(rows_text(rows, 0, HOUR_LIMITED), "t") == 0;
}

/* Writes the day and month of a time (s since 1970), or its hour, too. */
static void format_day(int64_t s, bool with_hour, char text[24])
{
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr",
					    "May", "Jun", "Jul", "Aug",
					    "Sep", "Oct", "Nov", "Dec" };
	char iso[TIME_TEXT_SIZE];
	long month;
	unsigned day;

	format_time(s * 1000000, iso);
	month = strtol(iso + 5, NULL, 10);
	day = (unsigned)strtoul(iso + 8, NULL, 10) % 32;
	snprintf(text, 24, "%u %.3s%s%.5s", day,
		 months[month >= 1 && month <= 12 ? month - 1 : 0],
		 with_hour ? " " : "", with_hour ? iso + 11 : "");
}

/* Returns the start of an hour of the plots, s since 1970. */
static int64_t hour_start(const struct counts *c, size_t hour)
{
	int64_t this_hour = c->now - c->now % 3600;

	return this_hour - (int64_t)(REPORT_HOURS - 1 - hour) * 3600;
}

/* Appends a line and a label for each midnight. */
static void put_days(struct buf *b, const struct counts *c, int height)
{
	unsigned day = 0;

	for (size_t hour = 0; hour < REPORT_HOURS; hour++) {
		int64_t start = hour_start(c, hour);
		double x = (double)hour * 100 / REPORT_HOURS;
		char label[24];

		if (start % 86400 != 0)
			continue;
		format_day(start, false, label);
		buf_printf(b,
			   "<line class=\"grid\" x1=\"%.3f%%\" x2=\"%.3f%%\" "
			   "y1=\"%d\" y2=\"%d\"/>",
			   x, x, TOP, height);
		if (hour < REPORT_HOURS - 16)
			buf_printf(b,
				   "<text%s x=\"%.3f%%\" y=\"%d\" dx=\"3\">%s"
				   "</text>\n",
				   day % 4 ? " class=\"wide\"" : "", x,
				   height + 14, label);
		day++;
	}
}

/* Appends an axis: the numbers at its end, in the middle, and 0. */
static void put_axis(struct buf *b, uint64_t end)
{
	buf_printf(b,
		   "<div class=\"plot\"><svg height=\"%d\" "
		   "aria-hidden=\"true\">",
		   TOP + BARS + LABELS);
	for (unsigned i = 0; i <= 2; i++) {
		if (i == 1 && end % 2)
			continue;
		buf_printf(b, "<text x=\"38\" y=\"%u\" text-anchor=\"end\">",
			   (unsigned)(TOP + 4 + BARS * i / 2));
		html_put_number(b, end - end * i / 2);
		buf_printf(b, "</text>");
	}
	buf_printf(b, "</svg>");
}

static void put_bars(struct buf *b, const struct counts *c)
{
	uint64_t end = svg_axis_end(c->max_hour);

	put_axis(b, end);
	buf_printf(b,
		   "<svg width=\"100%%\" height=\"%d\" role=\"img\" "
		   "aria-label=\"Events an hour over %d days\">\n",
		   TOP + BARS + LABELS, REPORT_DAYS);
	for (int i = 0; i <= 2; i++)
		buf_printf(b,
			   "<line class=\"grid\" x1=\"0\" x2=\"100%%\" "
			   "y1=\"%d\" y2=\"%d\"/>",
			   TOP + BARS * i / 2, TOP + BARS * i / 2);
	put_days(b, c, TOP + BARS);
	for (size_t hour = 0; hour < REPORT_HOURS; hour++) {
		double height = (double)c->hours[hour] * BARS / (double)end;
		char label[24];

		if (!c->hours[hour])
			continue;
		height = height < 2 ? 2 : height;
		format_day(hour_start(c, hour), true, label);
		buf_printf(b,
			   "<rect class=\"bar\" x=\"%.3f%%\" y=\"%.1f\" "
			   "width=\"%.3f%%\" height=\"%.1f\"><title>%s: ",
			   (double)hour * 100 / REPORT_HOURS,
			   TOP + BARS - height, 88.0 / REPORT_HOURS, height,
			   label);
		html_put_number(b, c->hours[hour]);
		buf_printf(b, " events</title></rect>\n");
	}
	buf_printf(b, "</svg></div>\n");
}

/* Returns the y of the upper end of a bucket; the fastest is at the bottom. */
static int bucket_top(size_t bucket)
{
	return TOP + (int)(REPORT_BUCKETS - 1 - bucket) * CELL;
}

/* Appends the durations at the ends of some buckets. */
static void put_duration_axis(struct buf *b)
{
	static const size_t labelled[] = { 0, 2, 4, 6, 8, 9, 10 };

	buf_printf(b,
		   "<div class=\"plot\"><svg height=\"%d\" "
		   "aria-hidden=\"true\">",
		   TOP + REPORT_BUCKETS * CELL + LABELS);
	for (size_t i = 0; i < ARRAY_SIZE(labelled); i++) {
		buf_printf(b, "<text x=\"40\" y=\"%d\" text-anchor=\"end\">",
			   bucket_top(labelled[i]) + 4);
		html_put_duration(b, report_buckets[labelled[i]]);
		buf_printf(b, "</text>");
	}
	buf_printf(b, "</svg>");
}

static void put_cell(struct buf *b, const struct counts *c, size_t column,
		     size_t bucket)
{
	uint64_t events = c->cells[column][bucket];
	char label[24];

	format_day(hour_start(c, column * COLUMN_HOURS), true, label);
	buf_printf(b,
		   "<rect class=\"h%u\" x=\"%.3f%%\" y=\"%d\" "
		   "width=\"%.3f%%\" height=\"%d\" rx=\"2\"><title>%s and "
		   "%d hours on: ",
		   svg_shade(events, c->max_cell, SHADES),
		   (double)column * 100 / COLUMNS, bucket_top(bucket) + 1,
		   94.0 / COLUMNS, CELL - 2, label, COLUMN_HOURS);
	html_put_number(b, events);
	buf_printf(b, " in %s ",
		   bucket + 1 < REPORT_BUCKETS ? "less than" : "more than");
	html_put_duration(
		b, report_buckets[bucket + 1 < REPORT_BUCKETS ? bucket
							      : bucket - 1]);
	buf_printf(b, "</title></rect>\n");
}

/* Appends the line above which events came by way of the spool. */
static void put_deadline(struct buf *b, int64_t deadline)
{
	size_t bucket = 0;
	int y;

	while (bucket < REPORT_BUCKETS - 2 && report_buckets[bucket] < deadline)
		bucket++;
	y = bucket_top(bucket);
	buf_printf(b,
		   "<line class=\"mark\" x1=\"0\" x2=\"100%%\" y1=\"%d\" "
		   "y2=\"%d\"/><text class=\"marked\" x=\"4\" y=\"%d\">"
		   "slower: by way of the spool</text>\n",
		   y, y, y - 4);
}

static void put_cells(struct buf *b, const struct counts *c, int64_t deadline)
{
	put_duration_axis(b);
	buf_printf(b,
		   "<svg width=\"100%%\" height=\"%d\" role=\"img\" "
		   "aria-label=\"Time from receipt to record over %d days\">\n",
		   TOP + REPORT_BUCKETS * CELL + LABELS, REPORT_DAYS);
	put_days(b, c, TOP + REPORT_BUCKETS * CELL);
	for (size_t column = 0; column < COLUMNS; column++) {
		for (size_t bucket = 0; bucket < REPORT_BUCKETS; bucket++) {
			if (c->cells[column][bucket])
				put_cell(b, c, column, bucket);
		}
	}
	put_deadline(b, deadline);
	buf_printf(b, "</svg></div>\n");
}

/* Appends percentiles: "half within 4 ms, 95 % within 20 ms". */
static void put_percentiles(struct buf *b, const struct rows *totals,
			    size_t half, size_t most)
{
	buf_printf(b, "half within ");
	html_put_duration(b, (int64_t)report_number(totals, 0, half));
	buf_printf(b, ", 95 %% within ");
	html_put_duration(b, (int64_t)report_number(totals, 0, most));
}

static void put_captions(struct buf *b, const struct report *r,
			 const struct counts *c)
{
	const struct rows *totals = r->answers.rows[ASK_TOTALS];

	buf_printf(b, "<figure><figcaption><b>From receipt to record</b> "
		      "<span class=\"soft small\">when our clock had the whole "
		      "body, to when the row was made; of the newest events ");
	put_percentiles(b, totals, TOTAL_RECORD_HALF, TOTAL_RECORD_95);
	buf_printf(b, ", all within ");
	html_put_duration(b,
			  (int64_t)report_number(totals, 0, TOTAL_RECORD_MAX));
	buf_printf(b, "</span></figcaption>\n");
	put_cells(b, c, r->settings->deadline);
	buf_printf(b,
		   "<p class=\"soft small\">Stronger is more; a column is %d "
		   "hours. From HumCLI's time of an event to our receipt: ",
		   COLUMN_HOURS);
	put_percentiles(b, totals, TOTAL_DELIVERY_HALF, TOTAL_DELIVERY_95);
	buf_printf(b, ", if both clocks are right.</p></figure>\n");
}

void report_put_plots(struct buf *b, const struct report *r)
{
	struct counts c;

	count(&c, r->answers.rows[ASK_HOURS]);
	report_section(b, "plots", "Two weeks",
		       c.limited ? "The newest 100,000 events; older ones of "
				   "these days are not counted"
				 : "By the time of receipt, UTC");
	if (!c.total) {
		buf_printf(b,
			   "<p class=\"none\">No event came in these %d "
			   "days.</p>\n",
			   REPORT_DAYS);
		report_section_end(b);
		return;
	}
	buf_printf(b, "<figure><figcaption><b>Events an hour</b> "
		      "<span class=\"soft small\">");
	html_put_number(b, c.total);
	buf_printf(b, " in all, ");
	html_put_number(b, c.day);
	buf_printf(b, " in the last 24 hours, ");
	html_put_number(b, c.max_hour);
	buf_printf(b, " in the busiest hour</span></figcaption>\n");
	put_bars(b, &c);
	buf_printf(b, "</figure>\n");
	put_captions(b, r, &c);
	report_section_end(b);
}
