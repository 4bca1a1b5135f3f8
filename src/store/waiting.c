/*
 * Owns the order of live entries by deadline and by age, and the effective
 * deadline. Must not know the breaker, the writer or a lock. The first entry
 * by deadline or the oldest one is overdue first, because a limit by age
 * applies to all.
 */
#include "store/waiting.h"

#include "base/clock.h"

enum {
	PRESSURE_TIMEOUT_MS = 500,
	PRESSURE_MIN = 8 /* a smaller threshold is never pressure */
};

void waiting_init(struct waiting *w, size_t pressure_threshold,
		  bool may_shorten)
{
	TAILQ_INIT(&w->by_deadline);
	TAILQ_INIT(&w->by_age);
	w->pressure_threshold = pressure_threshold;
	w->may_shorten = may_shorten;
	w->stop_deadline = INT64_MAX;
}

/* Keeps the order, in which nearly all entries come. */
static void insert_by_deadline(struct waiting *w, struct entry *e)
{
	struct entry *before = TAILQ_LAST(&w->by_deadline, waiting_list);

	while (before && before->deadline > e->deadline)
		before = TAILQ_PREV(before, waiting_list, by_deadline);
	if (before)
		TAILQ_INSERT_AFTER(&w->by_deadline, before, e, by_deadline);
	else
		TAILQ_INSERT_HEAD(&w->by_deadline, e, by_deadline);
}

void waiting_add(struct waiting *w, struct entry *e)
{
	insert_by_deadline(w, e);
	TAILQ_INSERT_TAIL(&w->by_age, e, by_age);
	w->count++;
}

void waiting_remove(struct waiting *w, struct entry *e)
{
	TAILQ_REMOVE(&w->by_deadline, e, by_deadline);
	TAILQ_REMOVE(&w->by_age, e, by_age);
	w->count--;
}

void waiting_expire(struct waiting *w, struct entry *e)
{
	TAILQ_REMOVE(&w->by_deadline, e, by_deadline);
	e->deadline = INT64_MIN;
	insert_by_deadline(w, e);
}

static bool under_pressure(const struct waiting *w)
{
	return w->pressure_threshold >= PRESSURE_MIN &&
	       w->count >= w->pressure_threshold;
}

/* Returns when an entry is overdue by its age; INT64_MAX if never. */
static int64_t age_limit(const struct waiting *w, const struct entry *e)
{
	if (!w->may_shorten)
		return INT64_MAX;
	if (under_pressure(w))
		return e->submitted_at + PRESSURE_TIMEOUT_MS;
	if (w->stop_requested_at)
		return max_i64(e->submitted_at, w->stop_requested_at) +
		       PRESSURE_TIMEOUT_MS;
	return INT64_MAX;
}

struct entry *waiting_first(const struct waiting *w, int64_t *when)
{
	struct entry *first = TAILQ_FIRST(&w->by_deadline);
	struct entry *oldest = TAILQ_FIRST(&w->by_age);
	int64_t limit;

	if (!first)
		return NULL;
	*when = min_i64(first->deadline, w->stop_deadline);
	limit = age_limit(w, oldest);
	if (limit >= *when)
		return first;
	*when = limit;
	return oldest;
}
