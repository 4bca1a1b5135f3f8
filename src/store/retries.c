/*
 * Owns what happens to a batch that failed, by the choice of failure.c, and the
 * list of batches that are recorded before the queue's. Must not know the
 * connection or when something is sent. Only the writer's thread calls it.
 */
#include "store/retries.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/macros.h"
#include "postgres/sqlstate.h"
#include "store/failure.h"

void retries_init(struct retries *r, struct queue *q)
{
	r->queue = q;
	STAILQ_INIT(&r->list);
}

void retries_push(struct retries *r, struct batch *b)
{
	b = queue_drop_abandoned(r->queue, b);
	if (b)
		STAILQ_INSERT_HEAD(&r->list, b, next);
}

void retries_add_busy(struct retries *r, struct batch *busy)
{
	if (!busy->count) {
		free(busy);
		return;
	}
	for (size_t i = 0; i < busy->count; i++)
		busy->jobs[i]->lock_retried = true;
	STAILQ_INSERT_TAIL(&r->list, busy, next);
}

/* Failed batches. */

static void split(struct retries *r, struct batch *b)
{
	size_t half = b->count / 2;
	struct batch *rest = batch_new(b->count - half);

	rest->from_spool = b->from_spool;
	rest->count = b->count - half;
	memcpy(rest->jobs, b->jobs + half, rest->count * sizeof(rest->jobs[0]));
	b->count = half;
	retries_push(r, rest);
	retries_push(r, b);
}

/*
 * Completes the one event of this batch as refused: it is not at fault, but the
 * server refuses it.
 */
static void refuse(struct retries *r, struct batch *b,
		   const struct database_result *result)
{
	struct job *j = b->jobs[0];

	if (log_limit_pass(&r->refusal_limit, result->sqlstate))
		log_message(LEVEL_ERROR,
			    "can't %s (%s): %s; the event waits in the "
			    "spool and is tried again: %s",
			    j->delivery->reason ? "write to humcli.quarantine"
						: "record an event",
			    result->sqlstate, result->message,
			    sqlstate_advice(result->sqlstate));
	if (!j->delivery->refusal)
		j->delivery->refusal =
			xasprintf("%s: %s", result->sqlstate, result->message);
	j->outcome = OUTCOME_REFUSED;
	queue_complete(r->queue, b);
}

/*
 * Retries the one event of this batch, which is at fault, so that the next
 * transaction quarantines it.
 */
static void quarantine(struct retries *r, struct batch *b,
		       const struct database_result *result)
{
	struct job *j = b->jobs[0];

	/* The type json reports what is no JSON as 22P02. */
	j->quarantine_outcome = strcmp(result->sqlstate, "22P02") == 0
					? OUTCOME_MALFORMED
					: OUTCOME_INVALID;
	j->delivery->reason = xasprintf("PostgreSQL: %s (%s)", result->message,
					result->sqlstate);
	retries_push(r, b);
}

static void retry(struct retries *r, struct batch *b,
		  const struct database_result *result)
{
	/* The loss of the connection has its own line. */
	if (*result->sqlstate &&
	    log_limit_pass(&r->failure_limit, result->sqlstate))
		log_message(LEVEL_ERROR,
			    "can't record %zu event%s (%s): %s; trying again",
			    b->count, PLURAL_S(b->count), result->sqlstate,
			    result->message);
	retries_push(r, b);
}

/* Returns how often an event of the batch has failed, this time included. */
static unsigned count_failure(struct batch *b)
{
	unsigned most = 1;

	for (size_t i = 0; i < b->count; i++) {
		if (++b->jobs[i]->failures > most)
			most = b->jobs[i]->failures;
	}
	return most;
}

bool retries_add_failed(struct retries *r, struct batch *b,
			const struct database_result *result)
{
	bool transient = sqlstate_is_transient(result->sqlstate);

	switch (failure_choose(result->sqlstate, b->count, count_failure(b),
			       result->unreadable)) {
	case FAILURE_RETRY:
		retry(r, b, result);
		return true;
	case FAILURE_SPLIT:
		split(r, b);
		return transient;
	case FAILURE_QUARANTINE:
		quarantine(r, b, result);
		return false;
	case FAILURE_REFUSE:
		break;
	}
	refuse(r, b, result);
	return false;
}

void retries_drop_probe(struct retries *r, struct batch *b,
			const struct database_result *result)
{
	if (log_limit_pass(&r->failure_limit, result->sqlstate))
		log_message(LEVEL_ERROR, "can't record (%s): %s; %s",
			    result->sqlstate, result->message,
			    sqlstate_advice(result->sqlstate));
	free(b);
}

/* Taking. */

struct batch *retries_take(struct retries *r)
{
	struct batch *b;

	while ((b = STAILQ_FIRST(&r->list))) {
		STAILQ_REMOVE_HEAD(&r->list, next);
		b = queue_drop_abandoned(r->queue, b);
		if (b)
			return b;
	}
	return NULL;
}

bool retries_empty(const struct retries *r)
{
	return STAILQ_EMPTY(&r->list);
}

void retries_give_up(struct retries *r)
{
	struct batch *b;

	while ((b = retries_take(r))) {
		for (size_t i = 0; i < b->count; i++)
			b->jobs[i]->outcome = OUTCOME_UNAVAILABLE;
		queue_complete(r->queue, b);
	}
}
