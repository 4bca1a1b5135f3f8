/*
 * Follows the recorded events: reads those between two snapshots, prints them,
 * and goes on with the later snapshot. So events that commit out of order are
 * neither missed nor printed twice. Changes nothing in the database.
 *
 * The notification listener says when to read. While it is not active, as
 * behind a pooler in transaction mode, the table is read every POLL_MS. All of
 * it runs in one thread; a signal makes q->stop readable, which ends each wait.
 */
#include "cli/consumer/follow.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/consumer/event_listener.h"
#include "cli/output.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	POLL_MS = 2000,
	POLL_LISTENING_MS = 30000, /* a notification can be lost */
	QUERY_MS = 30000
};
#define ROWS_AT_ONCE "1000"

/* How far the events were read, as text for PostgreSQL. */
struct place {
	char *done; /* the snapshot whose events were printed */
	char *until; /* the snapshot that is being read; NULL: none */
	char *xid, *id; /* the last event of it that was printed */
};

struct follower {
	struct query *query;
	const struct follow *filter;
	struct rows_printer *printer;
	char *sql;
	struct event_listener *listener;
	struct place place;
	bool may_have_events;
	int64_t poll_due; /* ms, monotonic */
	int code; /* EX_OK: go on */
	bool ended;
};

static void set_text(char **to, const char *text)
{
	free(*to);
	*to = xstrdup(text);
}

/* Returns the SQL for the events of one window; the caller frees it. */
static char *window_sql(const struct query_form *form, const char *columns)
{
	return xasprintf(
		"SELECT %s, u.xid::text AS follow_xid, "
		"u.id::text AS follow_id FROM humcli.unread_events("
		"$1::txid_snapshot, $2::txid_snapshot, $3::bigint, "
		"$4::bigint, pg_catalog.string_to_array($5, ','), "
		"pg_catalog.string_to_array($6, ','), " ROWS_AT_ONCE ") u "
		"LEFT JOIN LATERAL (SELECT %s FROM humcli.events e "
		"WHERE e.id = u.id AND ($7::text IS NULL OR e.task_id = $7)) r "
		"ON true ORDER BY u.xid, u.id",
		form->json ? "pg_catalog.row_to_json(r)" : "r.*", columns);
}

static void query_failed(struct follower *f, enum query_status status)
{
	struct session *s = f->query->session;

	if (status == QUERY_REFUSED && session_exit_code(s) != EX_OK) {
		cli_error(f->query->verb, "%s", session_message(s));
		f->code = session_exit_code(s);
		f->ended = true;
		return;
	}
	if (session_stop_requested(s))
		return;
	cli_error(f->query->verb, "connection lost: %s; connecting again",
		  session_message(s));
	session_close(s);
}

/* Begins the next window: all that is committed by now. */
static bool open_window(struct follower *f)
{
	struct rows *rows = NULL;
	enum query_status status =
		session_query(f->query->session,
			      "SELECT pg_catalog.txid_current_snapshot()::text",
			      NULL, 0, QUERY_MS, &rows);

	if (status != QUERY_OK) {
		query_failed(f, status);
		return false;
	}
	set_text(&f->place.until, rows_text(rows, 0, 0));
	set_text(&f->place.xid, "0");
	set_text(&f->place.id, "0");
	rows_free(rows);
	return true;
}

/* Prints rows of the window, and moves the place behind them. */
static void print_rows(struct follower *f, const struct rows *rows)
{
	size_t count = rows_count(rows), columns = rows_columns(rows);
	struct buf out = { 0 };

	if (rows_printer_add(f->printer, rows, &out) &&
	    !output_write_all(out.data, out.length, INT64_MAX,
			      f->query->stop)) {
		f->ended = true;
		if (errno != EINTR) {
			cli_error(f->query->verb, "can't write to stdout: %s",
				  strerror(errno));
			f->code = EX_IOERR;
		}
	}
	buf_free(&out);
	set_text(&f->place.xid, rows_text(rows, count - 1, columns - 2));
	set_text(&f->place.id, rows_text(rows, count - 1, columns - 1));
}

/* Reads some of the window. Returns true if there may be more. */
static bool read_window(struct follower *f)
{
	const char *values[] = { f->place.done,	      f->place.until,
				 f->place.xid,	      f->place.id,
				 f->filter->statuses, f->filter->secrets,
				 f->filter->task };
	struct rows *rows = NULL;
	enum query_status status = session_query(f->query->session, f->sql,
						 values, ARRAY_SIZE(values),
						 QUERY_MS, &rows);

	if (status != QUERY_OK) {
		query_failed(f, status);
		return false;
	}
	if (rows_count(rows)) {
		print_rows(f, rows);
		rows_free(rows);
		return true;
	}
	rows_free(rows);
	free(f->place.done);
	f->place.done = f->place.until;
	f->place.until = NULL;
	session_reset_backoff(f->query->session);
	return false;
}

static void read_events(struct follower *f)
{
	bool listening =
		f->listener &&
		event_listener_maintain(f->listener, f->query->session) ==
			LISTENER_ACTIVE;

	if (!f->may_have_events && monotonic_ms() < f->poll_due)
		return;
	f->may_have_events = false;
	f->poll_due =
		monotonic_ms() + (listening ? POLL_LISTENING_MS : POLL_MS);
	if (!f->place.until && !open_window(f))
		return;
	while (!f->ended && read_window(f))
		;
}

static void wait_for_news(struct follower *f)
{
	struct session *s = f->query->session;
	struct pollfd fds[] = {
		{ .fd = f->query->stop, .events = POLLIN },
		{ .fd = session_socket(s), .events = POLLIN },
		{ .fd = event_listener_socket(f->listener), .events = POLLIN },
	};
	int64_t due = session_is_open(s)
			      ? min_i64(f->poll_due,
					event_listener_next_due(f->listener))
			      : session_retry_at(s);
	int64_t left = max_i64(due - monotonic_ms(), 0);

	if (poll(fds, ARRAY_SIZE(fds), (int)min_i64(left, POLL_LISTENING_MS)) <
	    0)
		return;
	f->ended = f->ended || fds[0].revents;
	if (fds[1].revents && !session_receive(s) && !f->ended)
		cli_error(f->query->verb,
			  "connection closed by the server; connecting again");
	if (event_listener_receive(f->listener))
		f->may_have_events = true;
}

int follow_events(struct query *q, const struct follow *filter,
		  const char *snapshot, struct rows_printer *printer,
		  const char *columns)
{
	struct follower f = { .query = q,
			      .filter = filter,
			      .printer = printer,
			      .sql = window_sql(printer->form, columns),
			      .may_have_events = true };

	f.listener = event_listener_new(q->settings.database, q->stop);
	set_text(&f.place.done, snapshot);
	while (!f.ended) {
		if (session_open_lasting(q->session))
			read_events(&f);
		if (!session_is_open(q->session))
			f.may_have_events = true;
		if (!f.ended)
			wait_for_news(&f);
	}
	event_listener_free(f.listener);
	free(f.sql);
	free(f.place.done);
	free(f.place.until);
	free(f.place.xid);
	free(f.place.id);
	return f.code;
}
