/*
 * Connections to PostgreSQL: tries one address after the other, as psql does,
 * all by our clock.
 */
#ifndef CONNECTOR_H
#define CONNECTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

#include <libpq-fe.h>

struct connector;

/*
 * Returns a connector without a connection. conninfo is as libpq accepts it:
 * keywords, a URI, or "" for the environment. One that libpq refuses fails in
 * connector_open(). Never returns NULL.
 */
struct connector *connector_new(const char *conninfo) MUST_CHECK;
void connector_free(struct connector *c);

/* The servers that are accepted. */
enum connect_server {
	CONNECT_ANY, /* also a standby */
	CONNECT_PRIMARY, /* LISTEN works there alone */
	CONNECT_WRITABLE /* a primary that is not made read-only as a whole */
};

/*
 * Connects to the first server that is accepted. Each address of each host has
 * connect_timeout, or 5 s if that is not set. A host that does not answer for
 * 1 s does not hold up the next address: both are tried side by side. Returns
 * a connection that does not block, which the caller owns; NULL if all failed,
 * the deadline (ms, monotonic) passed, or the descriptor stop is readable (-1:
 * there is none). The failure is logged, once a minute while it is the same.
 * Attempts that were under way at the deadline go on at the next call. Name
 * look-ups block without a limit.
 */
PGconn *connector_open(struct connector *c, enum connect_server to,
		       int64_t deadline, int stop) MUST_CHECK;

/*
 * Does the same, but returns NULL as soon as each address has had 1 s, so that
 * the caller can tell that the database is slow. Call it again to go on.
 */
PGconn *connector_try(struct connector *c, enum connect_server to,
		      int64_t deadline) MUST_CHECK;

/*
 * Does the same as connector_open() without a stop, but logs nothing.
 * connector_failure() has the reason.
 */
PGconn *connector_open_quietly(struct connector *c, enum connect_server to,
			       int64_t deadline) MUST_CHECK;

/* Returns why the last call returned NULL, in one line. */
const char *connector_failure(const struct connector *c);

#endif
