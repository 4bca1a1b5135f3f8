/*
 * Owns the pictures of tasks: a bar of statuses over time, with a hole for a
 * status that is missing and a ring for a repeat. Must not know how wide things
 * are; svg.c does. A picture is as wide as the page, so positions are in
 * percent.
 */
#include "base/alloc.h"
#include "base/macros.h"
#include "cli/report/html.h"
#include "cli/report/page.h"
#include "cli/report/svg.h"
#include "cli/report/tables.h"

#include <stdlib.h>
#include <string.h>

/*
 * Heights in pixels. A label is left out if it does not fit on a wide page, or
 * hidden on a telephone if it does not fit there.
 */
enum { BAR = 30, PICTURE = 46, WIDE_PAGE = 1040, TELEPHONE = 330 };

/* The least width of a status, in percent. */
static const double smallest = 4;

/* A stretch of the bar: a status, or a hole. */
struct stretch {
	size_t row;
	bool hole;
};

struct picture {
	const struct rows *rows;
	size_t first, end; /* rows of the task */
	struct stretch *stretches;
	struct svg_span *spans;
	size_t count;
	size_t events, repeats, holes;
	int64_t now; /* ms since 1970 */
	bool ended;
};

const char *report_status_class(const char *status)
{
	static const struct {
		const char *status, *class;
	} classes[] = {
		{ "PENDING", "s-pending" },
		{ "ESTIMATE_PENDING", "s-estimate" },
		{ "ACCEPTED", "s-accepted" },
		{ "IN_PROGRESS", "s-progress" },
		{ "SUBMITTED", "s-submitted" },
		{ "VERIFIED", "s-verified" },
		{ "COMPLETED", "s-completed" },
		{ "MANUAL_REVIEW", "s-review" },
		{ "DISPUTED", "s-disputed" },
		{ "CANCELLED", "s-cancelled" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
		if (strcmp(classes[i].status, status) == 0)
			return classes[i].class;
	}
	return "s-other";
}

void report_put_status(struct buf *b, const char *status)
{
	if (!*status) {
		buf_printf(b, "–");
		return;
	}
	buf_printf(b, "<span class=\"label %s\"><bdi>",
		   report_status_class(status));
	html_put_some(b, status, 60);
	buf_printf(b, "</bdi></span>");
}

static const char *text(const struct picture *p, size_t row, size_t column)
{
	return rows_text(p->rows, row, column);
}

static bool is_event(const struct picture *p, size_t row)
{
	return strcmp(text(p, row, STEP_KIND), "event") == 0;
}

/* Returns when a step occurred, ms since 1970. */
static int64_t occurred(const struct picture *p, size_t row)
{
	return strtoll(text(p, row, STEP_OCCURRED), NULL, 10);
}

static void add_stretch(struct picture *p, size_t row, bool hole)
{
	int64_t time = occurred(p, row);

	if (p->count)
		p->spans[p->count - 1].to = time;
	p->stretches[p->count] = (struct stretch){ row, hole };
	p->spans[p->count] = (struct svg_span){ .from = time, .to = time };
	p->count++;
}

/* Fills a picture with the steps of a task from row first on. */
static void open_picture(struct picture *p, const struct rows *rows,
			 size_t first)
{
	size_t n = first, most;

	*p = (struct picture){ .rows = rows, .first = first };
	while (n < rows_count(rows) && strcmp(rows_text(rows, n, STEP_TASK),
					      text(p, first, STEP_TASK)) == 0)
		n++;
	p->end = n;
	most = 2 * (p->end - first);
	p->stretches = xcalloc(most, sizeof(*p->stretches));
	p->spans = xcalloc(most, sizeof(*p->spans));
	for (n = first; n < p->end; n++) {
		if (!is_event(p, n)) {
			p->repeats++;
			continue;
		}
		if (rows_get(rows, n, STEP_MISSING)) {
			add_stretch(p, n, true);
			p->holes++;
		}
		add_stretch(p, n, false);
		p->events++;
		p->ended = strcmp(text(p, n, STEP_TERMINAL), "t") == 0;
	}
	p->now = strtoll(text(p, first, STEP_NOW), NULL, 10);
	if (p->count && !p->ended)
		p->spans[p->count - 1].to = p->now;
	svg_spread(p->spans, p->count, smallest);
}

static void close_picture(struct picture *p)
{
	free(p->stretches);
	free(p->spans);
}

/* Appends the label of a stretch, if it fits. */
static void put_label(struct buf *b, const char *status, double width)
{
	size_t length = strlen(status);

	if (!svg_text_fits(length, width * WIDE_PAGE / 100))
		return;
	buf_printf(b, "<text x=\"8\" y=\"19\"%s>",
		   svg_text_fits(length, width * TELEPHONE / 100)
			   ? ""
			   : " class=\"wide\"");
	html_put(b, status);
	buf_printf(b, "</text>");
}

static void put_stretch(struct buf *b, const struct picture *p, size_t i)
{
	const struct svg_span *span = &p->spans[i];
	size_t row = p->stretches[i].row;
	bool hole = p->stretches[i].hole, last = i + 1 == p->count;
	const char *status = text(p, row, hole ? STEP_MISSING : STEP_STATUS);

	buf_printf(b,
		   "<svg class=\"%s %s%s\" x=\"%.3f%%\" width=\"%.3f%%\" "
		   "height=\"%d\"><title>",
		   hole ? "hole" : "seg", report_status_class(status),
		   last && !p->ended ? " on" : "", span->x, span->width, BAR);
	html_put_some(b, status, 60);
	if (hole) {
		buf_printf(b, " is missing: the next event follows on it");
	} else {
		buf_printf(b, ", %s", text(p, row, STEP_OCCURRED_AT));
		if (span->to > span->from) {
			buf_printf(b, ", for ");
			html_put_duration(b, span->to - span->from);
		}
		if (last && !p->ended)
			buf_printf(b, " until now");
	}
	buf_printf(b, "</title><rect %s rx=\"5\"/>",
		   hole ? "x=\"2\" y=\"2\" width=\"90%\" height=\"26\""
			: "width=\"100%\" height=\"100%\"");
	if (hole)
		buf_printf(b, "<text x=\"46%%\" y=\"20\" "
			      "text-anchor=\"middle\">?</text>");
	else
		put_label(b, status, span->width);
	buf_printf(b, "</svg>\n");
}

/* Appends a ring below the bar, where a repeat came. */
static void put_repeat(struct buf *b, const struct picture *p, size_t row)
{
	int64_t time = occurred(p, row);
	size_t i = 0;

	while (i + 1 < p->count && p->spans[i + 1].from <= time)
		i++;
	buf_printf(b,
		   "<circle class=\"again\" cx=\"%.3f%%\" cy=\"39\" r=\"4\">"
		   "<title>",
		   p->count ? svg_place(&p->spans[i], time) : 0);
	html_put_some(b, text(p, row, STEP_STATUS), 60);
	buf_printf(b, " was delivered again, %s</title></circle>\n",
		   text(p, row, STEP_OCCURRED_AT));
}

static void put_picture(struct buf *b, const struct picture *p)
{
	buf_printf(b,
		   "<svg class=\"life\" width=\"100%%\" height=\"%d\" "
		   "role=\"img\" aria-label=\"",
		   p->repeats ? PICTURE : BAR + 4);
	for (size_t i = 0; i < p->count; i++) {
		bool hole = p->stretches[i].hole;

		buf_printf(b, "%s%s", i ? ", " : "", hole ? "missing " : "");
		html_put_some(b,
			      text(p, p->stretches[i].row,
				   hole ? STEP_MISSING : STEP_STATUS),
			      60);
	}
	buf_printf(b, "\">\n");
	for (size_t i = 0; i < p->count; i++)
		put_stretch(b, p, i);
	for (size_t n = p->first; n < p->end; n++) {
		if (!is_event(p, n))
			put_repeat(b, p, n);
	}
	buf_printf(b, "</svg>\n");
}

static void put_count(struct buf *b, size_t count, const char *one,
		      const char *several)
{
	if (count)
		buf_printf(b, ", %zu %s", count, count == 1 ? one : several);
}

/* Appends the two ends of the bar and what is between. */
static void put_ends(struct buf *b, const struct picture *p)
{
	int64_t end = p->ended || !p->count ? occurred(p, p->end - 1) : p->now;

	buf_printf(b, "<p class=\"ends\"><time>%s</time><span>",
		   text(p, p->first, STEP_OCCURRED_AT));
	html_put_duration(b, end - occurred(p, p->first));
	put_count(b, p->events, "event", "events");
	put_count(b, p->repeats, "repeat", "repeats");
	put_count(b, p->holes, "gap", "gaps");
	put_count(b, report_number(p->rows, p->first, STEP_OMITTED),
		  "older step is not shown", "older steps are not shown");
	buf_printf(b, "</span><time>%s</time></p>\n",
		   p->ended ? text(p, p->end - 1, STEP_OCCURRED_AT)
			    : "open, until now");
}

static void put_step(struct buf *b, const struct picture *p, size_t row)
{
	const char *missing = text(p, row, STEP_MISSING);

	buf_printf(b, "<tr>");
	report_cell(b, "Time", text(p, row, STEP_OCCURRED_AT));
	buf_printf(b, "<td data-label=\"Status\"><span>");
	report_put_status(b, text(p, row, STEP_STATUS));
	buf_printf(b, "</span></td><td data-label=\"Meaning\"><span><bdi>");
	html_put(b, text(p, row, STEP_MEANING));
	buf_printf(b, "</bdi>");
	if (!is_event(p, row))
		buf_printf(b, " <span class=\"label warn\">delivered again"
			      "</span>");
	if (*missing) {
		buf_printf(
			b,
			" <span class=\"label bad\">missing before it: <bdi>");
		html_put_some(b, missing, 60);
		buf_printf(b, "</bdi></span>");
	}
	buf_printf(b, "</span></td>");
	report_cell(b, "Received", text(p, row, STEP_RECEIVED_AT));
	buf_printf(b, "<td class=\"n\" data-label=\"To record\"><span>");
	html_put_duration(b,
			  (int64_t)report_number(p->rows, row, STEP_RECORD_MS));
	buf_printf(b, "</span></td></tr>\n");
}

static void put_task(struct buf *b, const struct picture *p)
{
	static const char *const titles[] = { "Time", "Status", "Meaning",
					      "Received", "#To record" };
	const char *task = text(p, p->first, STEP_TASK);
	size_t last = p->end - 1;

	while (last > p->first && !is_event(p, last))
		last--;
	buf_printf(b, "<article class=\"task\">\n<h3><code><bdi>");
	html_put(b, task);
	buf_printf(b, "</bdi></code> ");
	report_put_status(b, text(p, last, STEP_STATUS));
	buf_printf(b, " <span class=\"soft small\">secret <bdi>");
	html_put(b, text(p, last, STEP_SECRET));
	buf_printf(b, "</bdi></span>");
	if (strncmp(task, "task_test_", 10) == 0)
		buf_printf(b, " <span class=\"label plain\">test</span>");
	buf_printf(b, "</h3>\n");
	put_picture(b, p);
	put_ends(b, p);
	buf_printf(b, "<details><summary>All steps</summary>\n");
	report_table(b, titles, ARRAY_SIZE(titles));
	for (size_t n = p->first; n < p->end; n++)
		put_step(b, p, n);
	report_table_end(b);
	buf_printf(b, "</details>\n</article>\n");
}

static void put_legend(struct buf *b)
{
	buf_printf(b, "<ul class=\"legend\"><li><span class=\"gone\"></span> "
		      "a status is missing</li><li><span class=\"dot\"></span> "
		      "delivered again</li><li>A stretch is as long as its "
		      "status lasted; the shortest are widened. Times are "
		      "HumCLI's.</li></ul>\n");
}

void report_put_tasks(struct buf *b, const struct report *r)
{
	const struct rows *rows = r->answers.rows[ASK_STEPS];
	size_t n = 0;

	report_section(b, "tasks", "Last tasks",
		       "The " REPORT_TASKS_SHOWN " tasks with the newest "
		       "events");
	if (rows_count(rows))
		put_legend(b);
	else
		buf_printf(b, "<p class=\"none\">No event is recorded yet."
			      "</p>\n");
	while (n < rows_count(rows)) {
		struct picture p;

		open_picture(&p, rows, n);
		put_task(b, &p);
		n = p.end;
		close_picture(&p);
	}
	report_section_end(b);
}
