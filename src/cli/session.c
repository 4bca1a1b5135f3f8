#include "cli/session.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "postgres/connector.h"
#include "postgres/query.h"
#include "postgres/sqlstate.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Between two attempts to connect, doubled each time; half of it is drawn,
 * so that many do not come back at once.
 */
enum {
	BACKOFF_MIN_MS = 250,
	BACKOFF_MAX_MS = 30000,
	CONNECT_MS = 5000,
	STOP_MS = 2000
};

struct session {
	struct connector *connector;
	bool primary;
	int stop;
	PGconn *conn;
	int64_t backoff;
	int64_t retry_at;
	char sqlstate[6];
	char message[512];
};

/* Not more than a name for what libpq has. */
struct rows {
	PGresult *result;
};

struct session *session_new(const char *conninfo, bool primary, int stop)
{
	struct session *s = xcalloc(1, sizeof(*s));

	s->connector = connector_new(conninfo);
	s->primary = primary;
	s->stop = stop;
	s->backoff = BACKOFF_MIN_MS;
	return s;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	session_close(s);
	connector_free(s->connector);
	free(s);
}

bool session_open(struct session *s)
{
	int64_t now = monotonic_ms();

	if (s->conn)
		return true;
	if (now < s->retry_at)
		return false;
	s->conn = connector_open(s->connector,
				 s->primary ? CONNECT_PRIMARY : CONNECT_ANY,
				 now + CONNECT_MS, s->stop);
	s->retry_at = monotonic_ms() + s->backoff / 2 +
		      wall_clock_us() % (s->backoff / 2);
	s->backoff = s->backoff < BACKOFF_MAX_MS / 2 ? s->backoff * 2
						     : BACKOFF_MAX_MS;
	return s->conn != NULL;
}

bool session_is_open(const struct session *s)
{
	return s->conn != NULL;
}

int64_t session_retry_at(const struct session *s)
{
	return s->retry_at;
}

void session_reset_backoff(struct session *s)
{
	s->backoff = BACKOFF_MIN_MS;
}

void session_close(struct session *s)
{
	PQfinish(s->conn);
	s->conn = NULL;
}

bool session_stop_requested(const struct session *s)
{
	return pq_stop_requested(s->stop);
}

int session_socket(const struct session *s)
{
	return s->conn ? PQsocket(s->conn) : -1;
}

const char *session_sqlstate(const struct session *s)
{
	return s->sqlstate;
}

int session_exit_code(const struct session *s)
{
	return sqlstate_exit_code(s->sqlstate);
}

const char *session_message(const struct session *s)
{
	return s->message;
}

static void set_message(struct session *s, const char *message)
{
	pq_one_line(s->message, sizeof(s->message),
		    *message ? message : "no answer in time");
}

/* What the server says, and what it advises. */
static void set_error(struct session *s, const PGresult *r)
{
	const char *sqlstate = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	const char *hint = PQresultErrorField(r, PG_DIAG_MESSAGE_HINT);
	char *whole;

	if (!sqlstate || !text) {
		set_message(s, PQresultErrorMessage(r));
		return;
	}
	whole = xasprintf("%s%s%s", text, hint ? "; " : "", hint ? hint : "");
	set_message(s, whole);
	free(whole);
	snprintf(s->sqlstate, sizeof(s->sqlstate), "%s", sqlstate);
}

/* Whoever is told to stop still gets the answer, if it comes soon. */
static bool await_result(struct session *s, int64_t limit)
{
	int64_t deadline = limit < INT64_MAX - monotonic_ms()
				   ? monotonic_ms() + limit
				   : INT64_MAX;
	int stop = s->stop;

	while (PQisBusy(s->conn)) {
		if (!pq_wait(PQsocket(s->conn), POLLIN, deadline, stop)) {
			if (stop < 0 || monotonic_ms() >= deadline)
				return false;
			stop = -1;
			if (deadline - monotonic_ms() > STOP_MS)
				deadline = monotonic_ms() + STOP_MS;
			continue;
		}
		if (!PQconsumeInput(s->conn))
			return false;
	}
	return true;
}

/* The last result with rows, or the first that failed. */
static PGresult *collect_results(struct session *s, int64_t limit)
{
	PGresult *kept = NULL, *next;

	while (await_result(s, limit)) {
		next = PQgetResult(s->conn);
		if (!next)
			return kept;
		if (kept && PQresultStatus(kept) != PGRES_TUPLES_OK &&
		    PQresultStatus(kept) != PGRES_COMMAND_OK) {
			PQclear(next);
			continue;
		}
		PQclear(kept);
		kept = next;
	}
	set_message(s, PQerrorMessage(s->conn));
	PQclear(kept);
	return NULL;
}

static enum query_status classify_result(struct session *s,
					 const PGresult *result)
{
	switch (PQresultStatus(result)) {
	case PGRES_TUPLES_OK:
	case PGRES_COMMAND_OK:
		return QUERY_OK;
	default:
		set_error(s, result);
	}
	return PQstatus(s->conn) == CONNECTION_OK ? QUERY_REFUSED : QUERY_LOST;
}

enum query_status session_query(struct session *s, const char *query,
				const char *const *values, size_t count,
				int64_t limit, struct rows **rows)
{
	enum query_status answer = QUERY_LOST;
	PGresult *result = NULL;

	s->sqlstate[0] = s->message[0] = '\0';
	if (!s->conn) {
		set_message(s, "no connection");
		return QUERY_LOST;
	}
	if (PQsendQueryParams(s->conn, query, (int)count, NULL, values, NULL,
			      NULL, 0) != 1)
		set_message(s, PQerrorMessage(s->conn));
	else
		result = collect_results(s, limit);
	if (result)
		answer = classify_result(s, result);
	if (answer == QUERY_LOST)
		session_close(s);
	if (answer == QUERY_OK && rows) {
		*rows = xmalloc(sizeof(**rows));
		(*rows)->result = result;
		return answer;
	}
	PQclear(result);
	return answer;
}

size_t rows_count(const struct rows *r)
{
	return (size_t)PQntuples(r->result);
}

size_t rows_columns(const struct rows *r)
{
	return (size_t)PQnfields(r->result);
}

const char *rows_title(const struct rows *r, size_t column)
{
	return PQfname(r->result, (int)column);
}

const char *rows_get(const struct rows *r, size_t row, size_t column)
{
	if (PQgetisnull(r->result, (int)row, (int)column))
		return NULL;
	return PQgetvalue(r->result, (int)row, (int)column);
}

bool rows_bytes(const struct rows *r, size_t row, size_t column,
		struct buf *bytes)
{
	const char *text = rows_get(r, row, column);
	size_t length = 0;
	unsigned char *raw =
		text ? PQunescapeBytea((const unsigned char *)text, &length)
		     : NULL;

	if (!raw)
		return false;
	buf_add(bytes, raw, length);
	PQfreemem(raw);
	return true;
}

void rows_free(struct rows *r)
{
	if (!r)
		return;
	PQclear(r->result);
	free(r);
}

bool session_receive(struct session *s)
{
	if (s->conn && PQconsumeInput(s->conn) &&
	    PQstatus(s->conn) == CONNECTION_OK)
		return true;
	session_close(s);
	return false;
}

bool session_notification(struct session *s, struct notification *n)
{
	PGnotify *next = s->conn ? PQnotifies(s->conn) : NULL;

	if (!next)
		return false;
	n->channel = xstrdup(next->relname);
	n->payload = xstrdup(next->extra);
	PQfreemem(next);
	return true;
}

void notification_free(struct notification *n)
{
	free(n->channel);
	free(n->payload);
	*n = (struct notification){ 0 };
}
