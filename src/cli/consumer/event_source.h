/*
 * Where a consumer's events come from: a durable subscription, or a pool
 * shared with others. All SQL of the consumer is here.
 */
#ifndef EVENT_SOURCE_H
#define EVENT_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "cli/json.h"
#include "cli/session.h"

struct event_source {
	const char *name;
	/* NULL: a subscription of our own; else a pool, and who we are there. */
	const char *worker;
	int64_t lease_ms;
	/* For a subscription that is made here; NULL: now, and all. */
	const char *from;
	const char *statuses; /* with commas between */
};

enum { FETCH_MAX = 100 };

/* An event handed to us. */
struct claimed_event {
	struct recorded event;
	char *position; /* in the subscription; of a pool the claim's number */
	uint64_t attempt; /* from 1 on */
	int64_t until; /* monotonic_ms(): how long it is ours, of a pool */
};

void claimed_event_free(struct claimed_event *i);

/* Makes the subscription if it is missing; *made: it was. */
enum query_status event_source_open(const struct event_source *f,
				    struct session *s, bool *made) MUST_CHECK;
/* Whether pool.sql is installed. */
enum query_status event_source_has_pools(struct session *s,
					 bool *has) MUST_CHECK;
/* The next events, at most max of FETCH_MAX; none where *count is 0. */
enum query_status event_source_fetch(const struct event_source *f,
				     struct session *s, size_t max,
				     struct claimed_event *items,
				     size_t *count) MUST_CHECK;
/*
 * This one is done; of a subscription also all that were taken before it.
 * *lost: somebody else had it, too.
 */
enum query_status event_source_ack(const struct event_source *f,
				   struct session *s,
				   const struct claimed_event *i,
				   bool *lost) MUST_CHECK;

/* The rest is for pools alone. */
enum fail_result { FAIL_RETRY, FAIL_DEAD, FAIL_LOST };

/* This one comes again, in so many ms (negative: as the pool has it). */
enum query_status event_source_fail(const struct event_source *f,
				    struct session *s,
				    const struct claimed_event *i,
				    const char *error, int64_t retry_ms,
				    enum fail_result *fate) MUST_CHECK;
/* Keeps it for another lease. *lost: it is not ours any more. */
enum query_status event_source_extend(const struct event_source *f,
				      struct session *s,
				      struct claimed_event *i,
				      bool *lost) MUST_CHECK;
/* In how many ms there may be something to take; INT64_MAX: no idea. */
enum query_status event_source_next_due(const struct event_source *f,
					struct session *s,
					int64_t *ms) MUST_CHECK;

/*
 * The right to consume, which one connection holds at a time: until the
 * connection ends, or until the transaction that it opens here ends (for
 * connections that may lead through a pooler).
 */
enum lock_scope { LOCK_SESSION, LOCK_TRANSACTION };
enum query_status event_source_lock(const struct event_source *f,
				    struct session *s, enum lock_scope to,
				    bool *granted) MUST_CHECK;

#endif
