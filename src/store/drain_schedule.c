/*
 * Owns the pauses between tries. Must not know the spool, the queue or a clock:
 * the callers pass the time.
 */
#include "store/drain_schedule.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum {
	POLL_INTERVAL_MS = 5000, /* for files of other processes */
	MIN_INTERVAL_MS = 100,
	LIST_COST_FACTOR = 10, /* listing may take a tenth of the time */
	RETRY_MS = 500, /* while the database takes nothing */
	PAUSE_DOUBLINGS_MAX = 8
};

/* us: the first pause of a refused file; each one is twice as long. */
static const int64_t first_pause = 1000000;
/* us: so long a file waits for a process that has its secret. */
static const int64_t foreign_wait = INT64_C(3600) * 1000000;

int64_t drain_pause(unsigned attempts)
{
	return first_pause << (attempts < PAUSE_DOUBLINGS_MAX
				       ? attempts
				       : PAUSE_DOUBLINGS_MAX);
}

bool drain_is_expired(int64_t mtime, int64_t now)
{
	int64_t age = now - mtime;

	return age >= foreign_wait || age < -foreign_wait;
}

static int compare_turns(const void *a, const void *b)
{
	const struct spool_item *x = a, *y = b;
	int64_t first = x->retry_at ? x->retry_at : x->mtime;
	int64_t second = y->retry_at ? y->retry_at : y->mtime;

	if (!x->retry_at != !y->retry_at)
		return x->retry_at ? 1 : -1;
	if (first != second)
		return first < second ? -1 : 1;
	return strcmp(x->name, y->name);
}

void drain_order(struct spool_list *list)
{
	if (list->count)
		qsort(list->items, list->count, sizeof(list->items[0]),
		      compare_turns);
}

size_t drain_count_due(const struct spool_list *list, int64_t now)
{
	int64_t longest = first_pause << PAUSE_DOUBLINGS_MAX;
	size_t due = list->count;

	/* A time too far ahead is of a clock that was wrong. */
	while (due && list->items[due - 1].retry_at > now &&
	       list->items[due - 1].retry_at <= now + longest)
		due--;
	return due;
}

void drain_next(const struct drain_count *count, bool done, int64_t now,
		int64_t wall_now, int64_t *earliest, int64_t *latest)
{
	int64_t next = now + (done ? POLL_INTERVAL_MS : RETRY_MS);

	*earliest = now + max_i64(done ? MIN_INTERVAL_MS : RETRY_MS,
				  count->list_ms * LIST_COST_FACTOR);
	/* The first pause begins now, and ends before the next look. */
	if (count->refused)
		next = min_i64(next, now + first_pause / 1000);
	if (count->retry_at)
		next = min_i64(next, now + (count->retry_at - wall_now) / 1000);
	*latest = max_i64(*earliest, next);
}
