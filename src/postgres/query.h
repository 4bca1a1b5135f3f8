/*
 * Waiting for a PostgreSQL server, always with a deadline and a descriptor
 * that ends the wait. No other file calls a function of libpq that waits
 * without a limit.
 */
#ifndef POSTGRES_QUERY_H
#define POSTGRES_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/macros.h"

#include <libpq-fe.h>

/*
 * Sends one statement with n values for $1 and on (NULL is NULL), and waits
 * for its end until the deadline (ms, monotonic). Once the descriptor stop is
 * readable (-1: there is none) it waits 2 s more at most. Returns the last
 * result with rows, or the first that failed; the caller clears the result.
 * Returns NULL if the connection was lost or no answer came in time; the
 * caller then closes the connection, because the answer may still come. The
 * connection is nonblocking afterwards, so that PQfinish() never waits.
 */
PGresult *pq_query(PGconn *conn, const char *sql, const char *const *values,
		   size_t n, int64_t deadline, int stop) MUST_CHECK;

/*
 * Does the same with a script: statements without values, separated by
 * semicolons, which are one transaction unless they say otherwise.
 */
PGresult *pq_script(PGconn *conn, const char *sql, int64_t deadline,
		    int stop) MUST_CHECK;

/*
 * Does the same as pq_query(), in a READ COMMITTED transaction of its own, with
 * write also READ WRITE. No setting of a role or database counts in it: neither
 * a search_path to objects of others, nor a time limit, nor a form of times.
 * Nothing of it outlives the transaction, because a pooler may give the session
 * to others. Within a transaction it is pq_query() alone.
 */
PGresult *pq_query_guarded(PGconn *conn, bool write, const char *sql,
			   const char *const *values, size_t n,
			   int64_t deadline, int stop) MUST_CHECK;

/* Returns true if the statement of this result succeeded; false for NULL. */
bool pq_succeeded(const PGresult *result) MUST_CHECK;

/*
 * Says in one line why pq_query() failed: by the result, by the connection,
 * or "no answer in time".
 */
void pq_error(const PGconn *conn, const PGresult *result, char *to,
	      size_t size);

/*
 * Waits until the socket is ready for these poll() events. Returns true if it
 * is; false if the deadline (ms, monotonic) passed or stop is readable.
 */
bool pq_wait(int socket, short events, int64_t deadline, int stop) MUST_CHECK;

/* Returns true if stop is readable; -1 never is. */
bool pq_stop_requested(int stop) MUST_CHECK;

/* Copies a message of libpq as one line: libpq's end in a newline. */
void pq_one_line(char *to, size_t size, const char *message);

/* Appends a message of libpq to others as one line, behind a "; ". */
void pq_add_line(struct buf *to, const char *message);

#endif
