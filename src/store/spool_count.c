/*
 * Owns the sums of the files in the spool's new/. Must not know the folder,
 * which a callback counts.
 *
 * Any thread calls any function at any time. The lock is held for some
 * additions, never for a scan: a scan of 300,000 files takes a second, and all
 * requests of an outage would wait for it. Such a long scan is seldom, and left
 * to the drainer, which lists the folder anyway.
 *
 * A file that comes while a scan runs may have been seen by it or not. It is
 * added to what the scan found, so that the sum is never too small. Before an
 * event is refused because the spool is full, a scan corrects an uncertain sum.
 */
#include "store/spool_count.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/threads.h"

enum {
	CHARGE_MIN = 4096, /* each file counts as at least this much */
	INTERVAL_MS = 100, /* between two scans, at least */
	COST_FACTOR = 20, /* scans may take a twentieth of the time */
	QUICK_MS = 10 /* a scan that a request can wait for */
};

struct spool_count {
	spool_scan_fn *scan;
	void *context;
	pthread_mutex_t lock; /* over the rest */
	struct spool_sum all; /* in the folder, and reserved */
	struct spool_sum reserved; /* being written */
	struct spool_sum added; /* while the scan runs */
	bool known; /* a scan has ended */
	bool scanning;
	bool exact; /* nothing came or went during the last scan */
	int64_t began_at; /* ms, monotonic, as the next one */
	int64_t ended_at;
	int64_t scan_ms; /* the last one took so long */
};

struct spool_count *spool_count_new(spool_scan_fn *scan, void *context)
{
	struct spool_count *c = xcalloc(1, sizeof(*c));

	c->scan = scan;
	c->context = context;
	mutex_init(&c->lock);
	return c;
}

void spool_count_free(struct spool_count *c)
{
	mutex_destroy(&c->lock);
	free(c);
}

/* Sums. */

static uint64_t charge(uint64_t size)
{
	return size < CHARGE_MIN ? CHARGE_MIN : size;
}

void spool_sum_add(struct spool_sum *sum, uint64_t size)
{
	sum->bytes += charge(size);
	sum->files++;
}

static void sum_subtract(struct spool_sum *sum, uint64_t size)
{
	sum->bytes -= charge(size) < sum->bytes ? charge(size) : sum->bytes;
	sum->files -= sum->files ? 1 : 0;
}

/* Scanning. */

bool spool_count_begin(struct spool_count *c)
{
	bool begun;

	mutex_lock(&c->lock);
	begun = !c->scanning;
	if (begun) {
		c->scanning = true;
		c->exact = true;
		c->began_at = monotonic_ms();
		c->added = (struct spool_sum){ 0 };
	}
	mutex_unlock(&c->lock);
	return begun;
}

void spool_count_end(struct spool_count *c, const struct spool_sum *found)
{
	mutex_lock(&c->lock);
	c->scanning = false;
	c->known = true;
	c->ended_at = monotonic_ms();
	c->scan_ms = c->ended_at - c->began_at;
	if (found) {
		c->exact = c->exact && !c->added.files && !c->reserved.files;
		c->all.bytes =
			found->bytes + c->added.bytes + c->reserved.bytes;
		c->all.files =
			found->files + c->added.files + c->reserved.files;
	}
	mutex_unlock(&c->lock);
}

/* Scans, unless another thread does at this moment. */
static void scan(struct spool_count *c)
{
	struct spool_sum found = { 0 };

	if (spool_count_begin(c))
		spool_count_end(c, c->scan(c->context, &found) ? &found : NULL);
}

/* Returns true if the folder is to be counted. Call with c->lock held. */
static bool is_stale(const struct spool_count *c)
{
	return !c->known ||
	       monotonic_ms() - c->ended_at >=
		       max_i64(INTERVAL_MS, c->scan_ms * COST_FACTOR);
}

/* Scans if the sums are stale and the scan is quick, or the first one. */
static void scan_if_due(struct spool_count *c)
{
	bool due;

	mutex_lock(&c->lock);
	due = is_stale(c) && (!c->known || c->scan_ms <= QUICK_MS);
	mutex_unlock(&c->lock);
	if (due)
		scan(c);
}

/* Counting. */

/* Returns true if there was room; false, and whether a scan may find some. */
static bool try_to_reserve(struct spool_count *c, uint64_t size, uint64_t max,
			   bool *uncertain)
{
	bool room;

	mutex_lock(&c->lock);
	*uncertain = !c->exact || is_stale(c);
	room = c->all.bytes + charge(size) <= max;
	if (room) {
		spool_sum_add(&c->all, size);
		spool_sum_add(&c->reserved, size);
	}
	mutex_unlock(&c->lock);
	return room;
}

bool spool_count_reserve(struct spool_count *c, uint64_t size, uint64_t max)
{
	bool uncertain;

	scan_if_due(c);
	if (try_to_reserve(c, size, max, &uncertain))
		return true;
	if (!uncertain)
		return false;
	scan(c);
	return try_to_reserve(c, size, max, &uncertain);
}

void spool_count_settle(struct spool_count *c, uint64_t size, bool kept)
{
	mutex_lock(&c->lock);
	sum_subtract(&c->reserved, size);
	if (!kept)
		sum_subtract(&c->all, size);
	else if (c->scanning)
		spool_sum_add(&c->added, size);
	mutex_unlock(&c->lock);
}

void spool_count_remove(struct spool_count *c, uint64_t size)
{
	mutex_lock(&c->lock);
	sum_subtract(&c->all, size);
	/* The scan may have seen the file before. */
	if (c->scanning)
		c->exact = false;
	mutex_unlock(&c->lock);
}

struct spool_sum spool_count_sum(struct spool_count *c)
{
	struct spool_sum sum;

	scan_if_due(c);
	mutex_lock(&c->lock);
	sum = c->all;
	mutex_unlock(&c->lock);
	return sum;
}
