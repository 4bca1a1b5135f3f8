/*
 * The servers that a connection string names, one address after the other, in
 * the order of libpq. For the connector.
 */
#ifndef ADDRESSES_H
#define ADDRESSES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/macros.h"
#include "postgres/conninfo.h"

/* One server: NULL stands for libpq's default. */
struct address {
	char *host;
	char *hostaddr;
	char *port;
};

void address_free(struct address *a);
bool address_equal(const struct address *a, const struct address *b) MUST_CHECK;

struct addrinfo;

/* A walk along the addresses. Starts as { .info = ... }. */
struct addresses {
	const struct conninfo *info;
	size_t next_host; /* not looked up yet */
	struct addrinfo *looked_up; /* of the host before it */
	const struct addrinfo *next; /* NULL: none of it is left */
};

/*
 * Returns true with the next address in *a, which the caller frees; false if
 * there is none. A name is looked up when it is its turn, which blocks without
 * a limit; one that has no address is passed over, and failures says so.
 */
bool addresses_next(struct addresses *list, struct address *a,
		    struct buf *failures) MUST_CHECK;
/* Returns true if addresses_next() may find one. */
bool addresses_left(const struct addresses *list) MUST_CHECK;
void addresses_end(struct addresses *list);

#endif
