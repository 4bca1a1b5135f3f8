/*
 * How a connection to PostgreSQL is made: one host after the other, each
 * with a limit of its own, all by our clock. For the files that know libpq.
 */
#ifndef CONNECTOR_H
#define CONNECTOR_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct connector;

/*
 * conninfo as libpq takes it: keywords, URI, or "" for its environment.
 * Never NULL; a conninfo that can't be parsed fails in connector_open().
 */
struct connector *connector_new(const char *conninfo) MUST_CHECK;
void connector_free(struct connector *c);

/* Which server will do. */
enum connect_server {
	CONNECT_ANY, /* a standby, too */
	CONNECT_PRIMARY, /* there alone is LISTEN */
	CONNECT_WRITABLE /* and sessions may write unless told otherwise */
};

/*
 * Connects to the first host that will do, each tried for 1 s at most, all
 * until deadline (monotonic_ms()), or until the descriptor stop is readable
 * (-1: there is none). Name look-ups block beyond any clock. NULL: the
 * reason is in the log, at most once a minute while it stays the same.
 */
PGconn *connector_open(struct connector *c, enum connect_server to,
		       int64_t deadline, int stop) MUST_CHECK;

#endif
