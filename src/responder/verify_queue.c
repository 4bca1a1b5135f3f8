/*
 * Owns the order of costly signature checks, and the names of the secrets that
 * matched last. Must not know what a signature is.
 *
 * Workers call verify_queue_enter(). A worker that may check goes on with
 * waiting checks by verify_queue_next(), until none is left. All state is
 * guarded by one lock.
 */
#include "responder/verify_queue.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/threads.h"

enum { RECENT_COUNT = 16 };

struct pending_check {
	TAILQ_ENTRY(pending_check) by_cost;
	struct exchange *exchange;
	uint64_t cost;
	int64_t deadline; /* ms, monotonic */
};

struct verify_queue {
	pthread_mutex_t lock;
	unsigned max_running;
	unsigned running;
	TAILQ_HEAD(waiting_list, pending_check)
	waiting; /* the cheapest first */
	int64_t stop_deadline; /* ms, monotonic */
	char *recent[RECENT_COUNT]; /* the last one first */
};

struct verify_queue *verify_queue_new(unsigned max_running)
{
	struct verify_queue *q = xcalloc(1, sizeof(*q));

	q->max_running = max_running;
	q->stop_deadline = INT64_MAX;
	mutex_init(&q->lock);
	TAILQ_INIT(&q->waiting);
	return q;
}

void verify_queue_free(struct verify_queue *q)
{
	if (!q)
		return;
	for (size_t i = 0; i < RECENT_COUNT; i++)
		free(q->recent[i]);
	mutex_destroy(&q->lock);
	free(q);
}

unsigned verify_queue_processors(void)
{
	long count = sysconf(_SC_NPROCESSORS_ONLN);

	return count > 1 ? (unsigned)count - 1 : 1;
}

/* Inserts a check behind those of the same cost. Call with q->lock held. */
static void add_waiting(struct verify_queue *q, struct pending_check *new)
{
	struct pending_check *before = TAILQ_LAST(&q->waiting, waiting_list);

	while (before && before->cost > new->cost)
		before = TAILQ_PREV(before, waiting_list, by_cost);
	if (before)
		TAILQ_INSERT_AFTER(&q->waiting, before, new, by_cost);
	else
		TAILQ_INSERT_HEAD(&q->waiting, new, by_cost);
}

bool verify_queue_enter(struct verify_queue *q, struct exchange *x,
			uint64_t cost, int64_t deadline)
{
	struct pending_check *new;
	bool now;

	mutex_lock(&q->lock);
	now = q->running < q->max_running;
	if (now) {
		q->running++;
	} else {
		new = xmalloc(sizeof(*new));
		*new = (struct pending_check){ .exchange = x,
					       .cost = cost,
					       .deadline = deadline };
		add_waiting(q, new);
	}
	mutex_unlock(&q->lock);
	return now;
}

/*
 * Returns one that has expired, because its reply is due, or the cheapest.
 * Call with q->lock held.
 */
static struct pending_check *choose(struct verify_queue *q, bool *expired)
{
	int64_t now = monotonic_ms();
	struct pending_check *w;

	*expired = true;
	TAILQ_FOREACH(w, &q->waiting, by_cost)
	{
		if (now >= min_i64(w->deadline, q->stop_deadline))
			return w;
	}
	*expired = false;
	return TAILQ_FIRST(&q->waiting);
}

struct exchange *verify_queue_next(struct verify_queue *q, bool *expired)
{
	struct exchange *x = NULL;
	struct pending_check *w;

	mutex_lock(&q->lock);
	w = choose(q, expired);
	if (w)
		TAILQ_REMOVE(&q->waiting, w, by_cost);
	else
		q->running--;
	mutex_unlock(&q->lock);
	if (w)
		x = w->exchange;
	free(w);
	return x;
}

void verify_queue_set_stop_deadline(struct verify_queue *q, int64_t deadline)
{
	mutex_lock(&q->lock);
	q->stop_deadline = deadline;
	mutex_unlock(&q->lock);
}

void verify_queue_remember(struct verify_queue *q, const char *secret)
{
	char *name;
	size_t i;

	mutex_lock(&q->lock);
	for (i = 0; i < RECENT_COUNT - 1 && q->recent[i]; i++) {
		if (strcmp(q->recent[i], secret) == 0)
			break;
	}
	/* The place of the same name, the first free one, or the last. */
	name = q->recent[i];
	if (!name || strcmp(name, secret) != 0) {
		free(name);
		name = xstrdup(secret);
	}
	memmove(&q->recent[1], &q->recent[0], i * sizeof(q->recent[0]));
	q->recent[0] = name;
	mutex_unlock(&q->lock);
}

char *verify_queue_recent(struct verify_queue *q, size_t i)
{
	char *name = NULL;

	mutex_lock(&q->lock);
	if (i < RECENT_COUNT && q->recent[i])
		name = xstrdup(q->recent[i]);
	mutex_unlock(&q->lock);
	return name;
}
