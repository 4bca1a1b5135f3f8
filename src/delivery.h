/*
 * A delivery: one verified POST on its way into the database. The recorder
 * takes it over, since it can outlive the request that brought it.
 */
#ifndef DELIVERY_H
#define DELIVERY_H

#include "event.h"
#include "hmac.h"

struct delivery {
	struct event event; /* empty where reason is set */
	char *reason; /* why it goes to humcli.quarantine; NULL: an event */
	char *secret_name;
	char signature[HMAC_HEX + 1];
	char *payload; /* the exact signed bytes, NUL-terminated beyond them */
	size_t length;
	int64_t received_at; /* us since 1970 */
};

/* What became of it. */
enum outcome {
	OUTCOME_RECORDED,
	OUTCOME_DUPLICATE, /* a repeat is answered as one */
	OUTCOME_QUARANTINED, /* kept in humcli.quarantine, as asked */
	OUTCOME_MALFORMED, /* quarantined: PostgreSQL refused the JSON */
	OUTCOME_INVALID, /* quarantined: PostgreSQL refused a field */
	OUTCOME_SPOOLED, /* the database is away, the spool has it */
	OUTCOME_UNAVAILABLE /* neither recorded nor spooled */
};

struct delivery *delivery_new(void) MUST_CHECK;
/*
 * Takes a copy of a body and finds the event in it; what is none gets a
 * reason, a sentence that needs no JSON escapes.
 */
enum event_verdict delivery_parse(struct delivery *d, const char *body,
				  size_t length) MUST_CHECK;
void delivery_free(struct delivery *d);

#endif
