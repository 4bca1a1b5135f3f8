/*
 * A delivery: one verified POST on its way into the database. The request and
 * the writer share it by a reference count.
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
	/* Why the body goes to humcli.quarantine; NULL: it is an event. The
	 * writer may set it; afterwards no other thread reads it. */
	char *reason;
	/*
	 * The reason why the server refused an event that is not at fault. The
	 * writer sets it before it reports OUTCOME_REFUSED.
	 */
	char *refusal;
	char *secret_name;
	char signature[HMAC_HEX + 1];
	char *payload; /* the exact signed bytes, and a NUL behind them */
	size_t length;
	int64_t received_at; /* us since 1970, wall clock */
	atomic_uint refcount;
};

/* The outcome of a delivery. */
enum outcome {
	OUTCOME_RECORDED,
	OUTCOME_DUPLICATE, /* a repeat is answered as one */
	OUTCOME_QUARANTINED, /* kept in humcli.quarantine, as asked */
	OUTCOME_MALFORMED, /* quarantined: PostgreSQL refused the JSON */
	OUTCOME_INVALID, /* quarantined: PostgreSQL refused a field */
	OUTCOME_SPOOLED, /* in the spool; the database is unavailable */
	OUTCOME_UNAVAILABLE, /* neither recorded nor spooled */
	OUTCOME_REFUSED, /* not recorded: the server refuses it alone */
	OUTCOME_UNANSWERED /* in flight for too long: nobody knows */
};
/* Receives the outcome, in a thread of the writer; it must not block. */
typedef void (*outcome_fn)(void *context, enum outcome outcome);

/* Returns an empty delivery with one reference. */
struct delivery *delivery_new(void) MUST_CHECK;
/* Adds a reference, which the caller gives back by delivery_unref(). */
struct delivery *delivery_ref(struct delivery *d) MUST_CHECK;
/* Gives a reference back; the last one frees the delivery. NULL is fine. */
void delivery_unref(struct delivery *d);

/*
 * Takes over a body, with a NUL at body[length], and finds the event in it.
 * Sets d->reason, a sentence that needs no JSON escapes, if there is none.
 */
enum event_verdict delivery_parse(struct delivery *d, char *body,
				  size_t length) MUST_CHECK;

#endif
