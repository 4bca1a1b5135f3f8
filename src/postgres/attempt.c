/*
 * Owns the steps of one attempt: PQconnectPoll(), and then the question whether
 * the server accepts writes, because a pooler greets with what another server
 * said once. Knows no other attempt and no clock but its own start. No function
 * of libpq that is called here waits.
 */
#include "postgres/attempt.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "postgres/limits.h"
#include "postgres/query.h"

/*
 * Logs a notice of the server. Those of our own SQL functions tell of a fault
 * that they repaired.
 */
static void log_notice(void *context, const PGresult *notice)
{
	const char *message =
		PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);
	const char *hint = PQresultErrorField(notice, PG_DIAG_MESSAGE_HINT);
	bool ours = message && strncmp(message, "humcli: ", 8) == 0;
	char text[512], *whole;

	(void)context;
	if (!message)
		return;
	whole = xasprintf("%s%s%s", message, hint ? "; " : "",
			  hint ? hint : "");
	pq_one_line(text, sizeof(text), whole);
	free(whole);
	log_message(ours ? LEVEL_WARNING : LEVEL_DEBUG, "postgresql: %s", text);
}

/* Failures. */

void attempt_add_failure(const struct attempt *a, const char *what,
			 struct buf *failures)
{
	const char *address = PQhostaddr(a->conn);
	char *text = xasprintf("server at \"%s\"%s%s%s, port %s: %s",
			       PQhost(a->conn), *address ? " (" : "", address,
			       *address ? ")" : "", PQport(a->conn), what);

	pq_add_line(failures, text);
	free(text);
}

/* Ends an attempt whose failure was added. */
static void end(struct attempt *a)
{
	PQfinish(a->conn);
	a->conn = NULL;
}

void attempt_fail(struct attempt *a, const char *what, struct buf *failures)
{
	attempt_add_failure(a, what, failures);
	end(a);
}

/* Ends an attempt for libpq's reason. */
static void fail_by_libpq(struct attempt *a, struct buf *failures)
{
	pq_add_line(failures,
		    a->conn ? PQerrorMessage(a->conn) : "out of memory");
	end(a);
}

void attempt_free(struct attempt *a)
{
	end(a);
	address_free(&a->address);
}

/* Connecting. */

/* Starts to connect; the keywords are libpq's, and the last of two counts. */
static PGconn *start_connect(const struct conninfo *info, const char *text,
			     const struct address *a)
{
	static const char *const defaults[][2] = {
		{ "keepalives_idle", "10" },
		{ "keepalives_interval", "5" },
		{ "keepalives_count", "3" },
		{ "tcp_user_timeout", "3000" },
	};
	const char *const ours[][2] = {
		{ "dbname", text },
		{ "host", a->host },
		{ "hostaddr", a->hostaddr },
		{ "port", a->port },
		{ "target_session_attrs", "any" },
		{ "client_encoding", "UTF8" },
		{ "fallback_application_name", "humcli-webhook" },
	};
	const char *keywords[ARRAY_SIZE(defaults) + ARRAY_SIZE(ours) + 1];
	const char *values[ARRAY_SIZE(keywords)];
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
		/* A service file may set it, too. */
		if (conninfo_option(info, defaults[i][0]))
			continue;
		keywords[n] = defaults[i][0];
		values[n++] = defaults[i][1];
	}
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
		if (!ours[i][1])
			continue;
		keywords[n] = ours[i][0];
		values[n++] = ours[i][1];
	}
	keywords[n] = values[n] = NULL;
	return PQconnectStartParams(keywords, values, 1);
}

void attempt_start(struct attempt *a, const struct conninfo *info,
		   const char *text, struct buf *failures)
{
	a->polling = PGRES_POLLING_WRITING;
	a->started_at = monotonic_ms();
	a->conn = start_connect(info, text, &a->address);
	if (!a->conn || PQstatus(a->conn) == CONNECTION_BAD)
		fail_by_libpq(a, failures);
	else
		PQsetNoticeReceiver(a->conn, log_notice, NULL);
}

short attempt_events(const struct attempt *a)
{
	bool reads = a->asking || a->polling == PGRES_POLLING_READING;

	return reads ? POLLIN : POLLOUT;
}

/*
 * Asks whether the server accepts writes, in a transaction in which no time
 * limit of a role or database counts. A default of role or database does not
 * bind our transactions, which ask for READ WRITE; one of the server does.
 */
static bool ask(PGconn *conn)
{
	static const char question[] =
		"BEGIN ISOLATION LEVEL READ COMMITTED;" SQL_SET_LIMITS(
			"0", "0",
			"0") ";SET LOCAL search_path = pg_catalog, pg_temp;"
			     "SELECT pg_catalog.pg_is_in_recovery(), CASE"
			     " pg_catalog.current_setting('transaction_read_only')"
			     " WHEN 'off' THEN 'off' ELSE (SELECT CASE WHEN source"
			     " OPERATOR(pg_catalog.=) ANY (ARRAY['database', 'user',"
			     " 'database user']) THEN 'off' ELSE 'on' END"
			     " FROM pg_catalog.pg_settings WHERE name"
			     " OPERATOR(pg_catalog.=) 'default_transaction_read_only') END;"
			     "COMMIT";

	return PQsetnonblocking(conn, 1) == 0 &&
	       PQsendQuery(conn, question) == 1 && PQflush(conn) >= 0;
}

static void read_answer(struct attempt *a, const PGresult *result)
{
	if (PQresultStatus(result) != PGRES_TUPLES_OK ||
	    PQntuples(result) != 1 || PQnfields(result) != 2)
		return;
	a->answered = true;
	a->standby = *PQgetvalue(result, 0, 0) == 't';
	a->read_only = strcmp(PQgetvalue(result, 0, 1), "off") != 0;
}

/* Returns why an answered server is not accepted; NULL if it is. */
static const char *find_objection(const struct attempt *a,
				  enum connect_server server)
{
	if (a->standby)
		return "the server is read-only: it is a standby";
	if (server == CONNECT_WRITABLE && a->read_only)
		return "the server is read-only: "
		       "default_transaction_read_only is on";
	return NULL;
}

/* Returns true if the answer on writes is complete and accepted. */
static bool receive_answer(struct attempt *a, enum connect_server server,
			   struct buf *failures)
{
	const char *objection;
	PGresult *result;

	if (PQflush(a->conn) < 0 || !PQconsumeInput(a->conn)) {
		fail_by_libpq(a, failures);
		return false;
	}
	do {
		if (PQisBusy(a->conn))
			return false;
		result = PQgetResult(a->conn);
		read_answer(a, result);
		PQclear(result);
	} while (result);
	if (!a->answered) {
		fail_by_libpq(a, failures);
		return false;
	}
	objection = find_objection(a, server);
	if (objection)
		attempt_fail(a, objection, failures);
	return !objection;
}

bool attempt_advance(struct attempt *a, enum connect_server server,
		     struct buf *failures)
{
	if (a->asking)
		return receive_answer(a, server, failures);
	a->polling = PQconnectPoll(a->conn);
	if (a->polling == PGRES_POLLING_FAILED)
		fail_by_libpq(a, failures);
	if (a->polling != PGRES_POLLING_OK)
		return false;
	if (server == CONNECT_ANY)
		return PQsetnonblocking(a->conn, 1) == 0;
	a->asking = ask(a->conn);
	if (!a->asking)
		fail_by_libpq(a, failures);
	return false;
}
