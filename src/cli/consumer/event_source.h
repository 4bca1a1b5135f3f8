/*
 * Where a consumer's events come from: a durable subscription, or a pool
 * shared with others. All SQL of the consumer is here.
 */
#ifndef EVENT_SOURCE_H
#define EVENT_SOURCE_H

#include "cli/json.h"
#include "cli/session.h"

struct feed {
	const char *name;
	/* NULL: a subscription of our own; else a pool, and who we are there. */
	const char *worker;
	int64_t lease_ms;
	/* For a subscription that is made here; NULL: now, and all. */
	const char *from;
	const char *statuses; /* with commas between */
};

enum { FEED_MAX = 100 };

/* An event handed to us. */
struct item {
	struct recorded event;
	char *position; /* in the subscription; of a pool the claim's number */
	uint64_t attempt; /* from 1 on */
	int64_t until; /* clock_ms(): how long it is ours, of a pool */
};

void item_free(struct item *i);

/* Makes the subscription if it is missing; *made: it was. */
enum answer feed_open(const struct feed *f, struct session *s,
		      bool *made) MUST_CHECK;
/* Whether pool.sql is installed. */
enum answer feed_has_pools(struct session *s, bool *has) MUST_CHECK;
/* The next events, at most max of FEED_MAX; none where *count is 0. */
enum answer feed_take(const struct feed *f, struct session *s, size_t max,
		      struct item *items, size_t *count) MUST_CHECK;
/*
 * This one is done; of a subscription also all that were taken before it.
 * *lost: somebody else had it, too.
 */
enum answer feed_done(const struct feed *f, struct session *s,
		      const struct item *i, bool *lost) MUST_CHECK;

/* The rest is for pools alone. */
enum fate { FATE_RETRY, FATE_DEAD, FATE_LOST };

/* This one comes again, in so many ms (negative: as the pool has it). */
enum answer feed_failed(const struct feed *f, struct session *s,
			const struct item *i, const char *error,
			int64_t retry_ms, enum fate *fate) MUST_CHECK;
/* Keeps it for another lease. *lost: it is not ours any more. */
enum answer feed_extend(const struct feed *f, struct session *s, struct item *i,
			bool *lost) MUST_CHECK;
/* In how many ms there may be something to take; INT64_MAX: no idea. */
enum answer feed_pause(const struct feed *f, struct session *s,
		       int64_t *ms) MUST_CHECK;

/*
 * The right to consume, which one connection holds at a time: until the
 * connection ends, or until the transaction that it opens here ends (for
 * connections that may lead through a pooler).
 */
enum claim_to { CLAIM_SESSION, CLAIM_TRANSACTION };
enum answer feed_claim(const struct feed *f, struct session *s,
		       enum claim_to to, bool *granted) MUST_CHECK;

#endif
