/*
 * The batches that are to be recorded again: those whose transaction failed,
 * and events whose task was locked. For the writer's thread alone.
 */
#ifndef RETRIES_H
#define RETRIES_H

#include "base/log.h"
#include "store/batch.h"
#include "store/database.h"

struct retries {
	struct queue *queue;
	STAILQ_HEAD(, batch) list; /* the first one is the next */
	struct log_limit failure_limit;
	struct log_limit refusal_limit;
};

void retries_init(struct retries *r, struct queue *q);

/* Puts a batch first, without the jobs that nobody waits for any more. */
void retries_push(struct retries *r, struct batch *b);
/*
 * Takes over the events of a batch whose task was locked; all of them are
 * retried together, once, so that their lock waits overlap.
 */
void retries_add_busy(struct retries *r, struct batch *busy);
/*
 * Takes over a batch whose transaction failed: retries it, halves it,
 * quarantines its event, or completes that as refused. Returns true if the
 * database needs a pause first.
 */
bool retries_add_failed(struct retries *r, struct batch *b,
			const struct database_result *result) MUST_CHECK;
/* Logs the failure of an empty batch, a probe, and frees it. */
void retries_drop_probe(struct retries *r, struct batch *b,
			const struct database_result *result);

/* Returns the next batch; NULL if there is none. */
struct batch *retries_take(struct retries *r) MUST_CHECK;
bool retries_empty(const struct retries *r) MUST_CHECK;
/* Completes all jobs as unavailable: nobody will record them. */
void retries_give_up(struct retries *r);

#endif
