/*
 * Owns one connection of the command line: connects with growing pauses, asks,
 * and hands over notifications. Must not know what is asked. Every question
 * runs in a guarded transaction (pq_query_guarded()), because a role's or
 * database's search_path may lead to objects of others.
 */
#include "cli/session.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/remedies.h"
#include "postgres/connector.h"
#include "postgres/conninfo.h"
#include "postgres/limits.h"
#include "postgres/query.h"
#include "postgres/sqlstate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The pause between two attempts to connect doubles each time. Half of it is
 * random, so that many clients do not return at once. SETTING_MS is for one
 * statement.
 */
enum { BACKOFF_MIN_MS = 250, BACKOFF_MAX_MS = 30000, SETTING_MS = 5000 };

/* The OID of boolean in pg_type. */
enum { TYPE_BOOLEAN = 16 };

struct session {
	struct connector *connector;
	bool primary;
	int stop;
	PGconn *conn;
	bool advised; /* advice is for a first connection, once */
	int64_t backoff;
	int64_t retry_at;
	char sqlstate[6];
	char message[512];
};

/* A name for libpq's result, so that the header needs no libpq. */
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
				 INT64_MAX, s->stop);
	s->retry_at = monotonic_ms() + s->backoff / 2 +
		      wall_clock_us() % (s->backoff / 2);
	s->backoff = s->backoff < BACKOFF_MAX_MS / 2 ? s->backoff * 2
						     : BACKOFF_MAX_MS;
	s->advised |= s->conn != NULL;
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

const char *session_connect_failure(const struct session *s)
{
	return connector_failure(s->connector);
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

enum query_status session_reject(struct session *s, const char *what)
{
	snprintf(s->message, sizeof(s->message),
		 "unexpected answer to %s: the schema is of another version; "
		 "see humcli-webhook doctor",
		 what);
	/* undefined_function: asking again does not help */
	snprintf(s->sqlstate, sizeof(s->sqlstate), "42883");
	return QUERY_REFUSED;
}

/* Keeps the server's message, and our advice or else the server's. */
static void set_error(struct session *s, const PGresult *r)
{
	const char *sqlstate = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	const char *hint;
	char *whole;

	if (!sqlstate || !text) {
		pq_error(s->conn, r, s->message, sizeof(s->message));
		return;
	}
	hint = remedy_for_sqlstate(sqlstate);
	if (!hint)
		hint = PQresultErrorField(r, PG_DIAG_MESSAGE_HINT);
	whole = xasprintf("%s%s%s", text, hint ? "; " : "", hint ? hint : "");
	pq_one_line(s->message, sizeof(s->message), whole);
	free(whole);
	snprintf(s->sqlstate, sizeof(s->sqlstate), "%s", sqlstate);
}

static enum query_status classify_result(struct session *s,
					 const PGresult *result)
{
	if (pq_succeeded(result))
		return QUERY_OK;
	set_error(s, result);
	return result && PQstatus(s->conn) == CONNECTION_OK ? QUERY_REFUSED
							    : QUERY_LOST;
}

enum query_status session_begin(struct session *s, int64_t limit)
{
	PGresult *result;
	enum query_status answer;

	s->sqlstate[0] = s->message[0] = '\0';
	/* In one message: the server sees no idle transaction in between. */
	result = pq_script(
		s->conn,
		"BEGIN ISOLATION LEVEL READ COMMITTED;" SQL_SET_LIMITS("0", "0",
								       "0"),
		monotonic_ms() + limit, s->stop);
	answer = classify_result(s, result);
	PQclear(result);
	if (answer == QUERY_LOST)
		session_close(s);
	return answer;
}

/* Returns true unless the option leads away from this machine's sockets. */
static bool is_local(const char *keyword, const char *value)
{
	if (strcmp(keyword, "host") == 0)
		return *value == '/' || *value == '\0';
	return strcmp(keyword, "hostaddr") != 0 &&
	       strcmp(keyword, "service") != 0;
}

char *session_conninfo_as(const char *conninfo, const char *role)
{
	PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
	const char *host = getenv("PGHOST");
	bool local = options && (!host || *host == '/') &&
		     !getenv("PGHOSTADDR") && !getenv("PGSERVICE");
	struct buf text = { 0 };

	for (const PQconninfoOption *o = options; o && o->keyword; o++) {
		if (!o->val || strcmp(o->keyword, "user") == 0 ||
		    strcmp(o->keyword, "password") == 0)
			continue;
		local = local && is_local(o->keyword, o->val);
		conninfo_add(&text, o->keyword, o->val);
	}
	PQconninfoFree(options);
	conninfo_add(&text, "user", role);
	if (local)
		return text.data;
	buf_free(&text);
	return NULL;
}

enum query_status session_query(struct session *s, const char *query,
				const char *const *values, size_t count,
				int64_t limit, struct rows **rows)
{
	int64_t now = monotonic_ms();
	int64_t deadline = limit < INT64_MAX - now ? now + limit : INT64_MAX;
	enum query_status answer;
	PGresult *result;

	s->sqlstate[0] = s->message[0] = '\0';
	if (!s->conn) {
		snprintf(s->message, sizeof(s->message), "no connection");
		return QUERY_LOST;
	}
	result = pq_query_guarded(s->conn, s->primary, query, values, count,
				  deadline, s->stop);
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

/* Logs what helps, because the caller goes on trying. */
static void advise(struct session *s)
{
	if (s->advised || session_stop_requested(s))
		return;
	log_message(LEVEL_INFO, "%s",
		    remedy_for_connection(session_connect_failure(s)));
	s->advised = true;
}

/*
 * Sets the limit for the session rather than a transaction. Behind a pooler the
 * setting stays with the server's connection, where it is harmless, because the
 * pooler closes idle ones itself. Servers before 14 do not have it.
 */
bool session_open_lasting(struct session *s)
{
	static const char query[] =
		"SELECT pg_catalog.set_config(name, '0', false) "
		"FROM pg_catalog.pg_settings "
		"WHERE name = 'idle_session_timeout' AND setting <> '0'";

	if (s->conn)
		return true;
	if (monotonic_ms() < s->retry_at)
		return false;
	if (!session_open(s)) {
		advise(s);
		return false;
	}
	if (session_query(s, query, NULL, 0, SETTING_MS, NULL) == QUERY_REFUSED)
		log_message(LEVEL_WARNING,
			    "can't switch off idle_session_timeout: %s",
			    s->message);
	return s->conn != NULL;
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

bool rows_is_boolean(const struct rows *r, size_t column)
{
	return PQftype(r->result, (int)column) == TYPE_BOOLEAN;
}

const char *rows_get(const struct rows *r, size_t row, size_t column)
{
	if (PQgetisnull(r->result, (int)row, (int)column))
		return NULL;
	return PQgetvalue(r->result, (int)row, (int)column);
}

const char *rows_text(const struct rows *r, size_t row, size_t column)
{
	const char *text = row < rows_count(r) && column < rows_columns(r)
				   ? rows_get(r, row, column)
				   : NULL;

	return text ? text : "";
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
