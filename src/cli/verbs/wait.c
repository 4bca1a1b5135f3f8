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
#include <sys/timerfd.h>
#include <unistd.h>

/*
 * FIRST_LOOK_MS is for the first look, also with a shorter --timeout. An error
 * within LATE_MS of the end is the time-out's, and not reported.
 */
enum { POLL_MS = 2000, QUERY_MS = 30000, FIRST_LOOK_MS = 1000, LATE_MS = 250 };

#define OCCURRED_AT ISO_TIME("e.occurred_at") " AS occurred_at"
#define RECEIVED_AT ISO_TIME("e.received_at") " AS received_at"

/*
 * One statement, so that the task's end is not newer than its events: the first
 * event of the task with a status of $2 (NULL: any terminal one), and the status
 * that ended the task. Of a task that was purged, its last delivery is left.
 */
static const char look_sql[] =
	"SELECT (SELECT pg_catalog.row_to_json(r) FROM ("
	"SELECT e.id::text AS id, e.event, e.task_id, e.status, "
	"nullif(e.previous_status, '') AS previous_status, " OCCURRED_AT
	", " RECEIVED_AT ", e.secret_name AS secret, e.payload "
	"FROM (SELECT v.id, v.event, v.task_id, v.status, v.previous_status, "
	"v.occurred_at, v.received_at, v.secret_name, v.payload "
	"FROM humcli.events v WHERE v.task_id = $1 UNION ALL "
	"SELECT d.event_id, d.event, d.task_id, d.status, d.previous_status, "
	"d.occurred_at, NULL, NULL, NULL "
	"FROM humcli.retired d WHERE d.task_id = $1) e "
	"LEFT JOIN humcli.statuses s ON s.status = e.status "
	"WHERE CASE WHEN $2::text IS NULL THEN s.terminal "
	"ELSE e.status = ANY (pg_catalog.string_to_array($2, ',')) END "
	"ORDER BY e.occurred_at, e.id LIMIT 1) r), "
	"CASE WHEN $2::text IS NOT NULL THEN coalesce("
	"(SELECT t.status FROM humcli.tasks t WHERE t.task_id = $1 "
	"AND t.terminal), "
	"(SELECT d.status FROM humcli.retired d JOIN humcli.statuses s "
	"ON s.status = d.status WHERE d.task_id = $1 AND s.terminal "
	"AND NOT EXISTS (SELECT FROM humcli.events e "
	"WHERE e.task_id = $1))) END";

struct wait {
	struct query query;
	const char *task;
	char *statuses; /* NULL: any terminal status */
	int64_t end; /* monotonic_ms() */
	int64_t query_end; /* the same, but not before the first look's end */
};

/* Returns the time until a moment of monotonic_ms(), limit at most. */
static int64_t time_left(int64_t until, int64_t limit)
{
	return max_i64(min_i64(until - monotonic_ms(), limit), 0);
}

static void print_event(const char *json)
{
	for (const char *p = json; *p; p++)
		putchar(*p == '\n' || *p == '\r' ? ' ' : *p);
	putchar('\n');
}

/* Reads the answer. Returns true if the wait is over, with its exit code. */
static bool judge(const struct wait *w, const struct rows *rows, int *code)
{
	const char *event = rows_text(rows, 0, 0);
	const char *ended = rows_text(rows, 0, 1);

	if (*event) {
		print_event(event);
		*code = EX_OK;
	} else if (*ended) {
		cli_error(w->query.verb, "the task has ended with %s", ended);
		*code = EXIT_NEGATIVE;
	}
	return *event || *ended;
}

/*
 * Looks at the task. Returns true if the wait is over, with its exit code. An
 * error that may pass is reported; then the wait goes on.
 */
static bool look(struct wait *w, int *code)
{
	const char *values[] = { w->task, w->statuses };
	struct session *s = w->query.session;
	struct rows *rows = NULL;
	enum query_status status =
		session_query(s, look_sql, values, ARRAY_SIZE(values),
			      time_left(w->query_end, QUERY_MS), &rows);
	bool over = false;

	*code = EX_TEMPFAIL;
	if (status == QUERY_OK) {
		session_reset_backoff(s);
		over = judge(w, rows, code);
		rows_free(rows);
	} else if (monotonic_ms() + LATE_MS < w->query_end) {
		*code = query_report(&w->query, status);
		over = *code != EX_UNAVAILABLE;
	}
	return over;
}

static void wait_for_news(struct wait *w)
{
	struct session *s = w->query.session;
	struct pollfd p = { .fd = session_socket(s), .events = POLLIN };
	struct notification n;

	if (poll(&p, 1, (int)time_left(w->end, POLL_MS)) > 0 &&
	    !session_receive(s))
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
					   time_left(w->query_end, POLL_MS),
					   NULL) == QUERY_OK;
	return *listening;
}

static int wait_for_status(struct wait *w)
{
	bool listening = false;
	int code;

	do {
		if (listen_again(w, &listening) && look(w, &code))
			return code;
		wait_for_news(w);
	} while (monotonic_ms() < w->end);
	return EX_TEMPFAIL;
}

/*
 * Returns a descriptor that is readable at w->query_end; -1 if there is none.
 */
static int end_timer(const struct wait *w)
{
	struct itimerspec at = { .it_value = {
					 .tv_sec = w->query_end / 1000,
					 .tv_nsec =
						 w->query_end % 1000 * 1000000 +
						 1,
				 } };
	int fd = w->query_end == INT64_MAX
			 ? -1
			 : timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	/* Without it, only an attempt to connect may last longer. */
	if (fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &at, NULL) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Connects. Returns EX_TEMPFAIL if the time is over by then. */
static int connect_in_time(struct wait *w)
{
	int code;

	w->query_end = max_i64(w->end, monotonic_ms() + FIRST_LOOK_MS);
	w->query.stop = end_timer(w);
	code = query_connect(&w->query);
	return monotonic_ms() < w->query_end ? code : EX_TEMPFAIL;
}

int cmd_wait(const struct verb *v, int argc, char **argv)
{
	struct wait w = { .end = INT64_MAX };
	const char *statuses = NULL, *timeout = NULL;
	const struct cli_option options[] = {
		{ "for", &statuses, NULL, "STATUS,...",
		  "wait for one of these statuses (default: any that ends the task)" },
		{ "timeout", &timeout, NULL, "DURATION",
		  "wait at most for this time (default: forever)" },
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
	code = query_load(&w.query, v);
	if (code == EX_OK)
		code = connect_in_time(&w);
	if (code == EX_OK)
		code = wait_for_status(&w);
	if (code == EX_TEMPFAIL)
		cli_error(v, "%s has not reached the status in time", w.task);
	if (w.query.stop >= 0)
		close(w.query.stop);
	query_close(&w.query);
	free(w.statuses);
	return code;
}
