/*
 * Owns the waits for an answer to one statement. Knows neither the connection's
 * address nor what statements mean. Each function sends without blocking; the
 * loops that send and receive wait in pq_wait(). The writer and the connector
 * have loops of their own, because they wait for more than one answer.
 */
#include "postgres/query.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/macros.h"
#include "postgres/limits.h"

/* The server ends a statement by so much sooner, so that we hear of it. */
enum { STOP_GRACE_MS = 2000, SERVER_FIRST_MS = 200 };

bool pq_wait(int socket, short events, int64_t deadline, int stop)
{
	struct pollfd fds[2] = { { .fd = socket, .events = events },
				 { .fd = stop, .events = POLLIN } };
	int64_t left;
	int n;

	do {
		left = deadline - monotonic_ms();
		if (left <= 0)
			return false;
		n = poll(fds, 2, left < INT_MAX ? (int)left : INT_MAX);
	} while (n < 0 && errno == EINTR);
	return n > 0 && fds[0].revents && !fds[1].revents;
}

bool pq_stop_requested(int stop)
{
	struct pollfd p = { .fd = stop, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

void pq_one_line(char *to, size_t size, const char *message)
{
	/* libpq's question after a refused connection tells nothing new. */
	const char *question = strstr(message, "\n\tIs the server running");
	size_t length = question ? (size_t)(question - message)
				 : strlen(message);

	snprintf(to, size, "%.*s", (int)length, message);
	length = strlen(to);
	while (length && to[length - 1] == '\n')
		to[--length] = '\0';
	for (char *p = to; *p; p++) {
		if (*p == '\n' || *p == '\t')
			*p = ' ';
	}
}

void pq_add_line(struct buf *to, const char *message)
{
	char text[256];

	pq_one_line(text, sizeof(text), message);
	buf_printf(to, "%s%s", to->length ? "; " : "", text);
}

bool pq_succeeded(const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
}

void pq_error(const PGconn *conn, const PGresult *result, char *to, size_t size)
{
	const char *message = PQresultErrorMessage(result);

	if (!*message)
		message = PQerrorMessage(conn);
	pq_one_line(to, size, *message ? message : "no answer in time");
}

/* Waits like pq_wait(), but lets a stop shorten the deadline only. */
static bool wait_through_stop(PGconn *conn, short events, int64_t *deadline,
			      int *stop)
{
	while (!pq_wait(PQsocket(conn), events, *deadline, *stop)) {
		if (*stop < 0 || monotonic_ms() >= *deadline)
			return false;
		*stop = -1;
		*deadline = min_i64(*deadline, monotonic_ms() + STOP_GRACE_MS);
	}
	return true;
}

/* Hands all of the statement to the kernel. */
static bool send_all(PGconn *conn, int64_t *deadline, int *stop)
{
	int left;

	while ((left = PQflush(conn)) > 0) {
		/* A server that answers early waits for us to read. */
		if (!wait_through_stop(conn, POLLIN | POLLOUT, deadline,
				       stop) ||
		    !PQconsumeInput(conn))
			return false;
	}
	return left == 0;
}

static bool await_result(PGconn *conn, int64_t *deadline, int *stop)
{
	while (PQisBusy(conn)) {
		if (!wait_through_stop(conn, POLLIN, deadline, stop) ||
		    !PQconsumeInput(conn))
			return false;
	}
	return true;
}

/* Reads the results of what was sent, as pq_query() does. */
static PGresult *read_results(PGconn *conn, int64_t deadline, int stop)
{
	PGresult *kept = NULL, *next;

	if (!send_all(conn, &deadline, &stop))
		return NULL;
	while (await_result(conn, &deadline, &stop)) {
		next = PQgetResult(conn);
		if (!next)
			return kept;
		if (kept && !pq_succeeded(kept)) {
			PQclear(next);
			continue;
		}
		PQclear(kept);
		kept = next;
	}
	/* A server that ends the session says why before it closes. */
	if (kept && !pq_succeeded(kept) && PQstatus(conn) == CONNECTION_BAD)
		return kept;
	PQclear(kept);
	return NULL;
}

static bool send_one(PGconn *conn, const char *sql, const char *const *values,
		     size_t n)
{
	return PQsendQueryParams(conn, sql, (int)n, NULL, values, NULL, NULL,
				 0) == 1;
}

PGresult *pq_query(PGconn *conn, const char *sql, const char *const *values,
		   size_t n, int64_t deadline, int stop)
{
	if (PQsetnonblocking(conn, 1) != 0 || !send_one(conn, sql, values, n))
		return NULL;
	return read_results(conn, deadline, stop);
}

PGresult *pq_script(PGconn *conn, const char *sql, int64_t deadline, int stop)
{
	if (PQsetnonblocking(conn, 1) != 0 || PQsendQuery(conn, sql) != 1)
		return NULL;
	return read_results(conn, deadline, stop);
}

/* The statement's place among those of send_guarded(). */
enum { GUARDED_STATEMENT = 2 };

/*
 * Sends the statement in its transaction. The server ends it just before the
 * deadline. Otherwise a statement that waits for a lock would keep its backend
 * after we have left, and each further attempt would add one.
 */
static bool send_guarded(PGconn *conn, bool write, const char *sql,
			 const char *const *values, size_t n, int64_t deadline)
{
	static const char settings[] = SQL_SET_LIMITS(
		"0", "0",
		"0") ", pg_catalog.set_config('search_path', "
		     "'pg_catalog, pg_temp', true), "
		     "pg_catalog.set_config('DateStyle', 'ISO', true), "
		     "pg_catalog.set_config('IntervalStyle', 'postgres', true), "
		     "pg_catalog.set_config('TimeZone', 'UTC', true), "
		     "pg_catalog.set_config('bytea_output', 'hex', true), "
		     "pg_catalog.set_config('statement_timeout', $1, true)";
	char limit[24];
	const char *const limits[] = { limit };
	int64_t left = deadline - monotonic_ms();

	left -= min_i64(left / 10, SERVER_FIRST_MS);
	/* 0 and more than an int have no limit for PostgreSQL. */
	snprintf(limit, sizeof(limit), "%d",
		 left > INT_MAX ? 0
		 : left < 1	? 1
				: (int)left);
	return PQsetnonblocking(conn, 1) == 0 &&
	       PQenterPipelineMode(conn) == 1 &&
	       send_one(conn,
			write ? "BEGIN ISOLATION LEVEL READ COMMITTED, "
				"READ WRITE"
			      : "BEGIN ISOLATION LEVEL READ COMMITTED",
			NULL, 0) &&
	       send_one(conn, settings, limits, ARRAY_SIZE(limits)) &&
	       send_one(conn, sql, values, n) &&
	       send_one(conn, "COMMIT", NULL, 0) && PQpipelineSync(conn) == 1;
}

/*
 * Reads all results up to the Sync into *kept: the statement's, or the first
 * that failed. Returns false if the connection was lost or no answer came.
 */
static bool read_guarded(PGconn *conn, PGresult **kept, int64_t *deadline,
			 int *stop)
{
	size_t statement = 0;

	while (await_result(conn, deadline, stop)) {
		PGresult *next = PQgetResult(conn);
		ExecStatusType status = PQresultStatus(next);

		if (!next && PQstatus(conn) == CONNECTION_BAD)
			return false;
		if (!next) {
			statement++;
		} else if (status == PGRES_PIPELINE_SYNC) {
			PQclear(next);
			return PQexitPipelineMode(conn) == 1;
		} else if (status != PGRES_PIPELINE_ABORTED &&
			   (statement == GUARDED_STATEMENT ||
			    !pq_succeeded(next)) &&
			   (!*kept || pq_succeeded(*kept))) {
			PQclear(*kept);
			*kept = next;
		} else {
			PQclear(next);
		}
	}
	return false;
}

PGresult *pq_query_guarded(PGconn *conn, bool write, const char *sql,
			   const char *const *values, size_t n,
			   int64_t deadline, int stop)
{
	PGresult *kept = NULL;

	if (PQtransactionStatus(conn) != PQTRANS_IDLE)
		return pq_query(conn, sql, values, n, deadline, stop);
	if (!send_guarded(conn, write, sql, values, n, deadline) ||
	    !send_all(conn, &deadline, &stop))
		return NULL;
	if (!read_guarded(conn, &kept, &deadline, &stop)) {
		/* A server that ends the session says why before it closes. */
		if (kept && !pq_succeeded(kept) &&
		    PQstatus(conn) == CONNECTION_BAD)
			return kept;
		PQclear(kept);
		return NULL;
	}
	/* What failed did so before COMMIT, and the transaction is open. */
	if (PQtransactionStatus(conn) != PQTRANS_IDLE)
		PQclear(pq_query(conn, "ROLLBACK", NULL, 0, deadline, stop));
	return kept;
}
