/*
 * One attempt to connect to one address, without ever waiting. For the
 * connector.
 */
#ifndef ATTEMPT_H
#define ATTEMPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/macros.h"
#include "postgres/addresses.h"
#include "postgres/connector.h"

#include <libpq-fe.h>

struct attempt {
	struct address address;
	PGconn *conn; /* NULL: failed */
	PostgresPollingStatusType polling; /* of PQconnectPoll() */
	bool asking; /* connected; the answer on writes is due */
	bool answered;
	bool standby;
	bool read_only;
	int64_t started_at; /* ms, monotonic */
};

/*
 * Starts to connect to an address, which the attempt owns from now on. text is
 * the connection string that info was read from. If that fails at once,
 * a->conn is NULL and failures says why, here as below.
 */
void attempt_start(struct attempt *a, const struct conninfo *info,
		   const char *text, struct buf *failures);
/*
 * Goes on once the socket is ready for attempt_events(). Returns true if the
 * connection is made and the server accepted; false if it is under way or has
 * failed.
 */
bool attempt_advance(struct attempt *a, enum connect_server server,
		     struct buf *failures) MUST_CHECK;
/* Returns the poll() events that the attempt waits for. */
short attempt_events(const struct attempt *a) MUST_CHECK;
/* Ends the attempt because of something that happened to us. */
void attempt_fail(struct attempt *a, const char *what, struct buf *failures);
/* Adds what the server's name and address are, and a text. */
void attempt_add_failure(const struct attempt *a, const char *what,
			 struct buf *failures);
void attempt_free(struct attempt *a);

#endif
