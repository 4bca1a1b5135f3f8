/*
 * A delivery: one verified POST on its way into the database. Shared by the
 * request that brought it and the writer, either of which can be the last
 * to need it.
 */
#ifndef DELIVERY_H
#define DELIVERY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hmac.h"
#include "base/macros.h"
#include "event/event.h"

struct delivery {
	struct event event; /* empty where reason is set */
	/* Why it goes to humcli.quarantine; NULL: an event. The writer may
	 * set it; from then on nobody else reads it. */
	char *reason;
	/* Why the server refused it though it is not at fault; the writer
	 * sets it before it reports OUTCOME_REFUSED. */
	char *refusal;
	char *secret_name;
	char signature[HMAC_HEX + 1];
	char *payload; /* the exact signed bytes, NUL-terminated beyond them */
	size_t length;
	int64_t received_at; /* us since 1970 */
	atomic_uint refcount;
};

/* What became of it. */
enum outcome {
	OUTCOME_RECORDED,
	OUTCOME_DUPLICATE, /* a repeat is answered as one */
	OUTCOME_QUARANTINED, /* kept in humcli.quarantine, as asked */
	OUTCOME_MALFORMED, /* quarantined: PostgreSQL refused the JSON */
	OUTCOME_INVALID, /* quarantined: PostgreSQL refused a field */
	OUTCOME_SPOOLED, /* the database is away, the spool has it */
	OUTCOME_UNAVAILABLE, /* neither recorded nor spooled */
	OUTCOME_REFUSED /* not recorded: the server refuses it alone */
};
/* Told of it, from a thread that it must not hold up. */
typedef void (*outcome_fn)(void *context, enum outcome outcome);

struct delivery *delivery_new(void) MUST_CHECK;
/* The same one, for one more holder to free. */
struct delivery *delivery_ref(struct delivery *d) MUST_CHECK;
/* NULL is fine. */
void delivery_unref(struct delivery *d);
/*
 * Takes over a body, with a NUL at body[length], and finds the event in it.
 * Sets d->reason, a sentence that needs no JSON escapes, if there is none.
 */
enum event_verdict delivery_parse(struct delivery *d, char *body,
				  size_t length) MUST_CHECK;

#endif
