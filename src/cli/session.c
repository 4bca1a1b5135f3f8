#include "cli/session.h"

#include "postgres/connector.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/*
 * Between two attempts to connect, doubled each time; half of it is drawn,
 * so that many do not come back at once.
 */
enum {
	FIRST_PAUSE_MS = 250,
	LONGEST_PAUSE_MS = 30000,
	CONNECT_MS = 5000,
	STOP_MS = 2000
};

struct session {
	struct connector *connector;
	bool primary;
	int stop;
	PGconn *conn;
	int64_t pause;
	int64_t due;
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
	s->pause = FIRST_PAUSE_MS;
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
	int64_t now = clock_ms();

	if (s->conn)
		return true;
	if (now < s->due)
		return false;
	s->conn = connector_open(s->connector,
				 s->primary ? CONNECT_PRIMARY : CONNECT_ANY,
				 now + CONNECT_MS, s->stop);
	s->due = clock_ms() + s->pause / 2 + now_us() % (s->pause / 2);
	s->pause = s->pause < LONGEST_PAUSE_MS / 2 ? s->pause * 2
						   : LONGEST_PAUSE_MS;
	return s->conn != NULL;
}

bool session_is_open(const struct session *s)
{
	return s->conn != NULL;
}

int64_t session_due(const struct session *s)
{
	return s->due;
}

void session_proven(struct session *s)
{
	s->pause = FIRST_PAUSE_MS;
}

void session_close(struct session *s)
{
	PQfinish(s->conn);
	s->conn = NULL;
}

bool session_told(const struct session *s)
{
	return connect_told(s->stop);
}

int session_socket(const struct session *s)
{
	return s->conn ? PQsocket(s->conn) : -1;
}

const char *session_sqlstate(const struct session *s)
{
	return s->sqlstate;
}

int session_verdict(const struct session *s)
{
	static const struct {
		const char *prefix;
		int code;
	} lasting[] = {
		{ "42501", EX_NOPERM }, /* insufficient_privilege */
		{ "42", EX_CONFIG }, /* no such function or table */
		{ "3F", EX_CONFIG }, /* no such schema */
		{ "55000", EX_DATAERR }, /* humcli.rebase() is due */
		{ "P0002", EX_DATAERR }, /* no such subscription */
		{ "22", EX_DATAERR }, /* a value that is none */
	};

	for (size_t i = 0; i < ARRAY_SIZE(lasting); i++) {
		if (strncmp(s->sqlstate, lasting[i].prefix,
			    strlen(lasting[i].prefix)) == 0)
			return lasting[i].code;
	}
	return EX_OK;
}

const char *session_message(const struct session *s)
{
	return s->message;
}

static void keep_fault(struct session *s, const char *message)
{
	connect_flatten(s->message, sizeof(s->message),
			*message ? message : "no answer in time");
}

/* What the server says, and what it advises. */
static void keep_error(struct session *s, const PGresult *r)
{
	const char *sqlstate = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	const char *hint = PQresultErrorField(r, PG_DIAG_MESSAGE_HINT);
	char *whole;

	if (!sqlstate || !text) {
		keep_fault(s, PQresultErrorMessage(r));
		return;
	}
	whole = xasprintf("%s%s%s", text, hint ? "; " : "", hint ? hint : "");
	keep_fault(s, whole);
	free(whole);
	snprintf(s->sqlstate, sizeof(s->sqlstate), "%s", sqlstate);
}

/* Whoever is told to stop still gets the answer, if it comes soon. */
static bool await_result(struct session *s, int64_t limit)
{
	int64_t deadline = limit < INT64_MAX - clock_ms() ? clock_ms() + limit
							  : INT64_MAX;
	int stop = s->stop;

	while (PQisBusy(s->conn)) {
		if (!connect_wait(PQsocket(s->conn), POLLIN, deadline, stop)) {
			if (stop < 0 || clock_ms() >= deadline)
				return false;
			stop = -1;
			if (deadline - clock_ms() > STOP_MS)
				deadline = clock_ms() + STOP_MS;
			continue;
		}
		if (!PQconsumeInput(s->conn))
			return false;
	}
	return true;
}

/* The last result with rows, or the first that failed. */
static PGresult *gather(struct session *s, int64_t limit)
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
	keep_fault(s, PQerrorMessage(s->conn));
	PQclear(kept);
	return NULL;
}

static enum answer judge(struct session *s, const PGresult *result)
{
	switch (PQresultStatus(result)) {
	case PGRES_TUPLES_OK:
	case PGRES_COMMAND_OK:
		return ANSWER_OK;
	default:
		keep_error(s, result);
	}
	return PQstatus(s->conn) == CONNECTION_OK ? ANSWER_REFUSED
						  : ANSWER_LOST;
}

enum answer session_ask(struct session *s, const char *query,
			const char *const *values, size_t count, int64_t limit,
			struct rows **rows)
{
	enum answer answer = ANSWER_LOST;
	PGresult *result = NULL;

	s->sqlstate[0] = s->message[0] = '\0';
	if (!s->conn) {
		keep_fault(s, "no connection");
		return ANSWER_LOST;
	}
	if (PQsendQueryParams(s->conn, query, (int)count, NULL, values, NULL,
			      NULL, 0) != 1)
		keep_fault(s, PQerrorMessage(s->conn));
	else
		result = gather(s, limit);
	if (result)
		answer = judge(s, result);
	if (answer == ANSWER_LOST)
		session_close(s);
	if (answer == ANSWER_OK && rows) {
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
