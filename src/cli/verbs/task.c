/*
 * task: shows the history of a task, in order: its events; before an event the
 * status that it follows on and that is not recorded (a gap); further
 * deliveries of an event (repeats); and what purge left, or what came too late
 * for it. As text it is one line a step; with --json one object a step.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "base/parse.h"
#include "cli/output.h"
#include "cli/query.h"

#include <stdio.h>
#include <string.h>

#define TASK_ROWS                                                           \
	"SELECT 'purged' AS kind, 0 AS place, 0 AS turn, r.occurred_at, "   \
	"r.status, r.previous_status, NULL::timestamptz AS received_at, "   \
	"r.event_id AS id FROM humcli.retired r WHERE r.task_id = $1 "      \
	"UNION ALL "                                                        \
	"SELECT 'late', 0, 1, a.occurred_at, a.status, a.previous_status, " \
	"a.received_at, NULL FROM humcli.late a WHERE a.task_id = $1 "      \
	"UNION ALL "                                                        \
	"SELECT 'gap', g.place, 2, NULL, g.previous_status, "               \
	"g.status_before, NULL, NULL FROM humcli.gaps g "                   \
	"WHERE g.task_id = $1 AND g.kind <> 'read' "                        \
	"UNION ALL "                                                        \
	"SELECT CASE l.event WHEN 'api.status_read' THEN 'read' "           \
	"ELSE 'event' END, l.place, 3, l.occurred_at, l.status, "           \
	"l.previous_status, l.received_at, l.id "                           \
	"FROM humcli.timeline l WHERE l.task_id = $1 "                      \
	"UNION ALL "                                                        \
	"SELECT 'repeat', (SELECT coalesce(max(l.place), 0) "               \
	"FROM humcli.timeline l WHERE l.task_id = $1 "                      \
	"AND l.occurred_at <= p.occurred_at), 4, p.occurred_at, p.status, " \
	"p.previous_status, p.received_at, NULL "                           \
	"FROM humcli.repeats p WHERE p.task_id = $1"

#define TASK_FROM                                              \
	" FROM (" TASK_ROWS ") t LEFT JOIN humcli.statuses s " \
	"ON s.status = t.status "                              \
	"ORDER BY t.place, t.turn, t.occurred_at, t.id"

#define OCCURRED_AT ISO_TIME("t.occurred_at")
#define RECEIVED_AT ISO_TIME("t.received_at")

static const char json_sql[] =
	"SELECT t.kind, " OCCURRED_AT " AS occurred_at, t.status, "
	"nullif(t.previous_status, '') AS previous_status, "
	"s.event AS meaning, s.trigger, " RECEIVED_AT " AS received_at, "
	"t.id::text AS id" TASK_FROM;

/* The columns of timeline_sql. */
enum { KIND, TIME, MS, STATUS, MEANING };

static const char timeline_sql[] =
	"SELECT t.kind, " OCCURRED_AT ", "
	"(extract(epoch FROM t.occurred_at) * 1000)::bigint, "
	"t.status, coalesce(s.event, '')" TASK_FROM;

static size_t widest_status(const struct rows *r)
{
	size_t width = 0;

	for (size_t n = 0; n < rows_count(r); n++) {
		struct buf status = { 0 };

		cli_escape(&status, rows_text(r, n, STATUS));
		width = status.length > width ? status.length : width;
		buf_free(&status);
	}
	return width;
}

static const char *remark(const char *kind)
{
	if (strcmp(kind, "gap") == 0)
		return "the next event follows on it";
	if (strcmp(kind, "read") == 0)
		return "read from HumCLI by reconcile, not received";
	if (strcmp(kind, "repeat") == 0)
		return "delivered again";
	if (strcmp(kind, "purged") == 0)
		return "the last of what purge deleted";
	return strcmp(kind, "late") == 0 ? "came after purge" : "";
}

/*
 * Prints a line of the history. A gap has a mark, dashes for its time, and on a
 * terminal a colour, so that the eye finds it.
 */
static void print_step(const struct rows *r, size_t n, uint64_t *last,
		       int width)
{
	const char *kind = rows_text(r, n, KIND);
	struct buf since = { 0 }, status = { 0 }, what = { 0 };
	uint64_t ms = 0;
	bool gap = strcmp(kind, "gap") == 0;
	bool red = gap && output_has_colours();
	bool timed = parse_u64(rows_text(r, n, MS), 0, INT64_MAX, &ms);

	cli_escape(&status, rows_text(r, n, STATUS));
	cli_escape(&what, rows_text(r, n, MEANING));
	if (*remark(kind))
		buf_printf(&what, "%s%s", what.length ? "; " : "",
			   remark(kind));
	if (timed && *last && ms >= *last) {
		buf_add(&since, "+", 1);
		put_duration(&since, ms - *last, "", true);
	}
	if (timed)
		*last = ms;
	printf("%s%c %-24s  %-11s  %-*s  %s%s\n", red ? OUTPUT_RED : "",
	       gap ? '!' : ' ',
	       gap ? "-------- missing -------" : rows_text(r, n, TIME),
	       since.data ? since.data : "", width,
	       status.data ? status.data : "", what.data ? what.data : "",
	       red ? OUTPUT_PLAIN : "");
	buf_free(&since);
	buf_free(&status);
	buf_free(&what);
}

static int print_timeline(struct query *q, const char *task, size_t *printed)
{
	struct rows *rows = NULL;
	uint64_t last = 0;
	int width;
	int code = query_run(q, timeline_sql, &task, 1, &rows);

	if (code != EX_OK)
		return code;
	*printed = rows_count(rows);
	width = (int)widest_status(rows);
	if (*printed && strncmp(task, "task_test_", 10) == 0)
		puts("a test of send or probe; purge --tests deletes it");
	for (size_t n = 0; n < *printed; n++)
		print_step(rows, n, &last, width);
	rows_free(rows);
	return EX_OK;
}

int cmd_task(const struct verb *v, int argc, char **argv)
{
	struct query_form form = { 0 };
	const struct cli_option options[] = {
		{ "json", NULL, &form.json, NULL,
		  "print one JSON object per line" }
	};
	struct query q;
	size_t printed = 0;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 1,
			 &code))
		return code;
	if (argc < 1)
		return cli_usage_error(v, "the task's id is missing");
	code = query_open(&q, v);
	if (code == EX_OK && form.json)
		code = query_print(&q, json_sql,
				   (const char *const[]){ argv[0] }, 1, &form,
				   &printed);
	else if (code == EX_OK)
		code = print_timeline(&q, argv[0], &printed);
	if (code == EX_OK && !printed) {
		cli_error(v, "nothing is recorded of this task");
		code = EXIT_NEGATIVE;
	}
	query_close(&q);
	return code;
}
