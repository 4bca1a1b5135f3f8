/* A connection string of libpq, and which servers it names. */
#ifndef CONNINFO_H
#define CONNINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/macros.h"

#include <libpq-fe.h>

enum { CONNINFO_FAULT_SIZE = 256 };

struct conninfo {
	PQconninfoOption *options; /* with those of a service file and PG* */
	const char *host; /* lists as in libpq, or NULL */
	const char *hostaddr;
	const char *port;
	size_t hosts; /* how many servers the lists name, at least one */
	int64_t connect_timeout; /* ms for one address */
};

/*
 * Reads a connection string (keywords, URI, or "" for libpq's environment) as
 * libpq reads it: its options, then the service file's, then the PG*
 * variables. Connects to nothing. Returns true; false if libpq refuses the
 * string or the service file, with the reason in fault. The reason names a
 * parameter that libpq does not know, and never quotes a value of the string,
 * because a value can be the password.
 */
bool conninfo_read(const char *text, struct conninfo *c,
		   char fault[CONNINFO_FAULT_SIZE]) MUST_CHECK;
void conninfo_free(struct conninfo *c);

/* Returns true if conninfo_read() would; false with the reason in fault. */
bool conninfo_check(const char *text,
		    char fault[CONNINFO_FAULT_SIZE]) MUST_CHECK;

/* Returns the value of an option, or NULL. */
const char *conninfo_option(const struct conninfo *c,
			    const char *keyword) MUST_CHECK;

/*
 * Returns item n of a list as libpq cuts it, where one item stands for all
 * servers. NULL if the item is empty; otherwise the caller frees it.
 */
char *conninfo_item(const char *list, size_t n) MUST_CHECK;

/*
 * Appends keyword='value' and a space, escaped as libpq reads it; nothing if
 * value is NULL. Of a keyword that is there twice, the last value counts.
 */
void conninfo_add(struct buf *to, const char *keyword, const char *value);

#endif
