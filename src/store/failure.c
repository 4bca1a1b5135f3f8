/*
 * Owns the rule that a fault of the server is not the event's. It must not
 * know batches or connections.
 *
 * An event is at fault only if it is alone in its transaction, its data can
 * cause the error, and PostgreSQL can't read the data without our tables
 * either, because a trigger of the site may raise any error. Every other error
 * is the server's.
 *
 * A larger batch is halved, because the error may concern one event or the size
 * of the transaction (a timeout, memory). An error that usually passes is
 * retried once as it is. An event that fails alone is refused: it waits in the
 * spool, and the other events of its batch are recorded.
 */
#include "store/failure.h"

#include <string.h>

#include "postgres/sqlstate.h"

/* So often an event fails with errors that usually pass. */
enum { FAILURES_MAX = 3 };

enum failure_action failure_choose(const char *sqlstate, size_t count,
				   unsigned failures, bool unreadable)
{
	if (count <= 1 && unreadable)
		return FAILURE_QUARANTINE;
	if (sqlstate_is_transient(sqlstate) &&
	    (failures <= 1 || (count <= 1 && failures < FAILURES_MAX)))
		return FAILURE_RETRY;
	return count > 1 ? FAILURE_SPLIT : FAILURE_REFUSE;
}

enum round_trip failure_round_trip(const char *sqlstate)
{
	/* The data, and locks of others, say nothing about the database. */
	if (sqlstate_is_data_error(sqlstate) ||
	    strncmp(sqlstate, "40", 2) == 0 || strncmp(sqlstate, "55", 2) == 0)
		return ROUND_TRIP_OK;
	if (sqlstate_is_transient(sqlstate))
		return ROUND_TRIP_FAILED;
	return ROUND_TRIP_REFUSED;
}
