/*
 * FastCGI connections. Each brings one request, which is read by the caller's
 * thread and answered by that thread or by the writer's.
 */
#ifndef FCGI_CONNECTION_H
#define FCGI_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "responder/handler.h"

/*
 * Initialises libfcgi. Call it once, before any thread is started. Returns
 * false if that fails, with the reason in the log.
 */
bool fcgi_library_start(void) MUST_CHECK;

/* The connections of one server. */
struct fcgi_connections;

struct fcgi_connection_calls {
	/* Called as each connection ends, from any thread. */
	void (*on_end)(void *context);
	/*
	 * Called before fcgi_connections_serve() may wait for the peer, a disk
	 * or the database, at most once, by its thread.
	 */
	void (*before_blocking)(void *context, void *item);
};

/* Returns an empty set. calls must outlive it. */
struct fcgi_connections *
fcgi_connections_new(const struct handler *h,
		     const struct fcgi_connection_calls *calls,
		     void *context) MUST_CHECK;
/* Frees the set, when all its connections have ended. */
void fcgi_connections_free(struct fcgi_connections *all);

/*
 * Reads the request of an accepted connection, which does not block, and
 * handles it. Takes fd over.
 * The reply may be sent after this returns. item is for before_blocking().
 */
void fcgi_connections_serve(struct fcgi_connections *all, int fd, void *item);

/* Spools the delivery of an exchange that queue_overdue() gave, and replies. */
void fcgi_connection_spool_overdue(struct exchange *x);

/*
 * Ends the reading of requests that are past their read deadline. Call it
 * every 200 ms. stopping_since is when the shutdown began (ms, monotonic), or
 * 0; the read deadlines are shorter then.
 */
void fcgi_connections_end_late_reads(struct fcgi_connections *all,
				     int64_t stopping_since);

#endif
