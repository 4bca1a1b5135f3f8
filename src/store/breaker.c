/*
 * Owns the states closed, open and half-open, and how long a round trip
 * counts. Must not know the queue, the database or a file: it has no lock,
 * no clock and no log of its own. The queue embeds one struct breaker and
 * calls these functions with its lock held, from any thread; it logs and
 * tells others by what they return.
 */
#include "store/breaker.h"

enum {
	CURRENT_MS = 5000, /* how old a round trip may be for /health */
	RESTORE_OPEN_MS = 750 /* another's failed one opens us for so long */
};

void breaker_round_trip(struct breaker *b, enum round_trip result, int64_t now)
{
	b->known = true;
	b->last = result;
	b->last_at = now;
}

void breaker_forget(struct breaker *b)
{
	b->known = false;
}

void breaker_restore(struct breaker *b, enum round_trip result, int64_t age,
		     int64_t now)
{
	bool failed = result == ROUND_TRIP_FAILED;

	breaker_round_trip(b, result, now - age);
	b->open = b->enabled && failed && age < RESTORE_OPEN_MS;
	b->half_open = failed && !b->open;
}

bool breaker_open(struct breaker *b)
{
	if (!b->enabled || b->open)
		return false;
	b->open = true;
	return true;
}

bool breaker_close(struct breaker *b)
{
	bool was_open = b->open;

	b->open = false;
	b->half_open = false;
	return was_open;
}

bool breaker_try_half_open(struct breaker *b)
{
	bool tries = b->half_open;

	b->half_open = false;
	return tries;
}

bool breaker_is_current(const struct breaker *b, int64_t now)
{
	return b->open || (b->known && now - b->last_at <= CURRENT_MS);
}

bool breaker_is_healthy(const struct breaker *b)
{
	return !b->open && b->known && b->last == ROUND_TRIP_OK;
}
