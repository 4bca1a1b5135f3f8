/*
 * Where a consumer's events come from: a durable subscription, or a pool
 * shared with others. All SQL of the consumer is here.
 */
#ifndef FEED_H
#define FEED_H

#include "json.h"
#include "session.h"

struct feed {
	const char *name;
	/* For a subscription that is made here; NULL: now, and all. */
	const char *from;
	const char *statuses; /* with commas between */
};

enum { FEED_MAX = 100 };

/* An event handed to us. */
struct item {
	struct recorded event;
	char *position; /* in the subscription */
	uint64_t attempt; /* from 1 on */
};

void item_free(struct item *i);

/* Makes the subscription if it is missing; *made: it was. */
enum answer feed_open(const struct feed *f, struct session *s,
		      bool *made) MUST_CHECK;
/* The next events, at most FEED_MAX; none where *count is 0. */
enum answer feed_take(const struct feed *f, struct session *s,
		      struct item *items, size_t *count) MUST_CHECK;
/*
 * This one is done, and all that were taken before it. Refused with 40001:
 * somebody else had it, too.
 */
enum answer feed_done(const struct feed *f, struct session *s,
		      const struct item *i) MUST_CHECK;

/*
 * The right to consume, which one connection holds at a time: until the
 * connection ends, or until the transaction that it opens here ends (for
 * connections that may lead through a pooler).
 */
enum claim_to { CLAIM_SESSION, CLAIM_TRANSACTION };
enum answer feed_claim(const struct feed *f, struct session *s,
		       enum claim_to to, bool *granted) MUST_CHECK;

#endif
