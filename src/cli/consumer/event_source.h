/*
 * The event source of a consumer: a durable subscription, or a pool shared
 * with other workers. All SQL of the consumer is here.
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
	/* The worker's name in a pool; NULL: a subscription. */
	const char *worker;
	int64_t lease_ms;
	/* For a subscription that is created here; NULL: now, and all. */
	const char *from;
	const char *statuses; /* comma-separated */
	const char *secrets; /* comma-separated names */
};

enum { FETCH_MAX = 100 };

/* A fetched event, with what is needed to acknowledge it. */
struct claimed_event {
	struct recorded event;
	char *position; /* in the subscription; in a pool the claim number */
	uint64_t attempt; /* from 1 on */
	int64_t until; /* in a pool: end of the lease, boottime_ms() */
};

void claimed_event_free(struct claimed_event *e);

/* Creates the subscription if it is missing; *made is true if it was. */
enum query_status event_source_open(const struct event_source *source,
				    struct session *s, bool *made) MUST_CHECK;
/* Sets *has to true if pool.sql is installed. */
enum query_status event_source_has_pools(struct session *s,
					 bool *has) MUST_CHECK;
/* Fetches up to max events, at most FETCH_MAX; the caller frees each. */
enum query_status event_source_fetch(const struct event_source *source,
				     struct session *s, size_t max,
				     struct claimed_event *events,
				     size_t *count) MUST_CHECK;
/*
 * Acknowledges the event; in a subscription also all fetched before it.
 * *lost is true if another consumer had it, too.
 */
enum query_status event_source_ack(const struct event_source *source,
				   struct session *s,
				   const struct claimed_event *e,
				   bool *lost) MUST_CHECK;

/* For pools alone. */
enum fail_result { FAIL_RETRY, FAIL_DEAD, FAIL_LOST };

/* Returns the event to the pool, to be claimed in retry_ms (< 0: backoff). */
enum query_status event_source_fail(const struct event_source *source,
				    struct session *s,
				    const struct claimed_event *e,
				    const char *error, int64_t retry_ms,
				    enum fail_result *result) MUST_CHECK;
/* Extends the lease. *lost is true if another worker has the event. */
enum query_status event_source_extend(const struct event_source *source,
				      struct session *s,
				      struct claimed_event *e,
				      bool *lost) MUST_CHECK;
/* Sets *ms to the time until an event is due; INT64_MAX: none is. */
enum query_status event_source_next_due(const struct event_source *source,
					struct session *s,
					int64_t *ms) MUST_CHECK;

/*
 * Tries to get the consumer lock, an advisory lock that one connection holds
 * at a time: until that connection ends, or until the transaction that is
 * opened here ends, which also works through a pooler in transaction mode.
 */
enum lock_scope { LOCK_SESSION, LOCK_TRANSACTION };
enum query_status event_source_lock(const struct event_source *source,
				    struct session *s, enum lock_scope to,
				    bool *granted) MUST_CHECK;

#endif
