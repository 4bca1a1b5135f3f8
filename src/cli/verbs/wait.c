/*
 * wait: waits until a task has reached a status, and prints the event. It
 * listens before it reads the table, so that no event falls in between. It also
 * reads every POLL_MS, because behind a pooler in transaction mode no
 * notification arrives. A lost connection is made again.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "base/parse.h"
#include "cli/query.h"
#include "cli/statuses.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

enum { POLL_MS = 2000 };

#define OCCURRED_AT ISO_TIME("e.occurred_at") " AS occurred_at"
#define RECEIVED_AT ISO_TIME("e.received_at") " AS received_at"

/* The first event of the task with a status of $2; NULL: any terminal one. */
static const char event_sql[] =
	"SELECT pg_catalog.row_to_json(r) FROM ("
	"SELECT e.id::text AS id, e.event, e.task_id, e.status, "
	"nullif(e.previous_status, '') AS previous_status, " OCCURRED_AT
	", " RECEIVED_AT ", e.secret_name AS secret, e.payload "
	"FROM humcli.events e LEFT JOIN humcli.statuses s "
	"ON s.status = e.status WHERE e.task_id = $1 "
	"AND CASE WHEN $2::text IS NULL THEN s.terminal "
	"ELSE e.status = ANY (pg_catalog.string_to_array($2, ',')) END "
	"ORDER BY e.occurred_at, e.id LIMIT 1) r";

static const char ended_sql[] = "SELECT t.status FROM humcli.tasks t "
				"WHERE t.task_id = $1 AND t.terminal";

struct wait {
	struct query query;
	const char *task;
	char *statuses; /* NULL: any terminal status */
	int64_t end; /* monotonic_ms() */
};

/* Runs a query and returns its one value in *value, which the caller frees. */
static int ask(struct wait *w, const char *sql, char **value)
{
	const char *values[] = { w->task, w->statuses };
	struct rows *rows = NULL;
	int code = query_run(&w->query, sql, values, sql == event_sql ? 2 : 1,
			     &rows);

	*value = NULL;
	if (code == EX_OK && rows_count(rows)) {
		struct buf text = { 0 };

		buf_printf(&text, "%s", rows_text(rows, 0, 0));
		*value = text.data;
	}
	rows_free(rows);
	return code;
}

/* Looks at the task. *done: the wait is over, with the code returned. */
static int look(struct wait *w, bool *done)
{
	char *text;
	int code = ask(w, event_sql, &text);

	if (code == EX_OK && text) {
		for (char *p = text; *p; p++)
			putchar(*p == '\n' || *p == '\r' ? ' ' : *p);
		putchar('\n');
		*done = true;
	} else if (code == EX_OK && w->statuses) {
		code = ask(w, ended_sql, &text);
		if (code == EX_OK && text) {
			cli_error(w->query.verb, "the task has ended with %s",
				  text);
			*done = true;
			code = EXIT_NEGATIVE;
		}
	}
	free(text);
	return code;
}

static void wait_for_news(struct wait *w)
{
	struct session *s = w->query.session;
	struct pollfd p = { .fd = session_socket(s), .events = POLLIN };
	int64_t left = min_i64(POLL_MS, w->end - monotonic_ms());
	struct notification n;

	if (poll(&p, 1, (int)max_i64(left, 0)) > 0 && !session_receive(s))
		return;
	while (session_notification(s, &n))
		notification_free(&n);
}

/* Connects and listens, if that is not so already. */
static bool listen_again(struct wait *w, bool *listening)
{
	struct session *s = w->query.session;

	if (!session_is_open(s))
		*listening = false;
	if (!session_open(s))
		return false;
	if (!*listening)
		*listening = session_query(s, "LISTEN humcli_events", NULL, 0,
					   POLL_MS, NULL) == QUERY_OK;
	return *listening;
}

static int wait_for_status(struct wait *w)
{
	bool listening = false, done = false;

	while (monotonic_ms() < w->end) {
		if (listen_again(w, &listening)) {
			int code = look(w, &done);

			if (done || (code != EX_OK && code != EX_UNAVAILABLE))
				return code;
		}
		wait_for_news(w);
	}
	return EX_TEMPFAIL;
}

int cmd_wait(const struct verb *v, int argc, char **argv)
{
	struct wait w = { .end = INT64_MAX };
	const char *statuses = NULL, *timeout = NULL;
	const struct cli_option options[] = {
		{ "for", &statuses, NULL, "STATUS,...",
		  "wait for one of these statuses (default: any that ends the task)" },
		{ "timeout", &timeout, NULL, "DURATION",
		  "wait for so long (default: for ever)" },
	};
	int64_t us;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 1,
			 &code))
		return code;
	if (argc < 1)
		return cli_usage_error(v, "the task's id is missing");
	if (timeout && !parse_duration(timeout, &us))
		return cli_usage_error(v,
				       "--timeout '%s' is not a duration such "
				       "as 5s, 500ms, 10min or 1h",
				       timeout);
	if (timeout)
		w.end = monotonic_ms() + us / 1000;
	w.task = argv[0];
	w.statuses = cli_statuses(v, statuses);
	code = query_open_primary(&w.query, v);
	if (code == EX_OK)
		code = wait_for_status(&w);
	if (code == EX_TEMPFAIL)
		cli_error(v, "%s has not reached the status in time", w.task);
	query_close(&w.query);
	free(w.statuses);
	return code;
}
