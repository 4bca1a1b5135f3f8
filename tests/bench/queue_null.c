/*
 * Replaces queue.c and writer.c: accepts each delivery and records none. The
 * responder linked with it shows the cost of web server, FastCGI, verifying
 * and parsing.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/threads.h"
#include "store/writer.h"

struct queue {
	int overdue_wakeup; /* never readable */
};

/* NULL would say that no thread could be started. */
struct writer {
	char unused;
};

struct queue *queue_new(bool breaker, size_t pressure_threshold)
{
	struct queue *q = xcalloc(1, sizeof(*q));

	(void)breaker;
	(void)pressure_threshold;
	q->overdue_wakeup = wakeup_new();
	return q;
}

void queue_free(struct queue *q)
{
	close(q->overdue_wakeup);
	free(q);
}

void queue_on_round_trip(struct queue *q,
			 void (*round_trip)(void *context, enum round_trip),
			 void *context)
{
	(void)q;
	(void)round_trip;
	(void)context;
}

void queue_restore_round_trip(struct queue *q, enum round_trip result,
			      int64_t age)
{
	(void)q;
	(void)result;
	(void)age;
}

bool queue_submit(struct queue *q, struct delivery *d, int64_t deadline,
		  outcome_fn on_outcome, void *context)
{
	(void)q;
	(void)deadline;
	delivery_unref(d);
	on_outcome(context, OUTCOME_RECORDED);
	return true;
}

void *queue_overdue(struct queue *q, int64_t *next)
{
	(void)q;
	*next = INT64_MAX;
	return NULL;
}

int queue_overdue_fd(const struct queue *q)
{
	return q->overdue_wakeup;
}

bool queue_submit_and_wait(struct queue *q, struct delivery **deliveries,
			   size_t count, int64_t deadline,
			   enum outcome *outcomes)
{
	(void)q;
	(void)deadline;
	for (size_t i = 0; i < count; i++) {
		delivery_unref(deliveries[i]);
		outcomes[i] = OUTCOME_RECORDED;
	}
	return true;
}

bool queue_healthy(struct queue *q)
{
	(void)q;
	return true;
}

void queue_set_stop_deadline(struct queue *q, int64_t deadline)
{
	(void)q;
	(void)deadline;
}

struct writer *writer_start(const struct settings *s, struct queue *q,
			    const struct writer_options *options)
{
	(void)s;
	(void)q;
	(void)options;
	return xcalloc(1, sizeof(struct writer));
}

bool writer_stop(struct writer *w, int64_t deadline)
{
	(void)deadline;
	free(w);
	return true;
}
