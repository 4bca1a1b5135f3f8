/*
 * The circuit breaker, and the round trip to the database on which it depends.
 * If the database overruns a deadline, the breaker opens. Deliveries are then
 * spooled at once until a recording commits again.
 */
#ifndef BREAKER_H
#define BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

/* The end of a round trip (question and answer of the database). */
enum round_trip {
	ROUND_TRIP_OK,
	ROUND_TRIP_REFUSED, /* answered, but the recording was refused */
	ROUND_TRIP_FAILED /* no answer, or one that says "not now" */
};

/* Times are ms, monotonic. */
struct breaker {
	bool enabled; /* false: it never opens */
	bool open;
	bool half_open; /* the next delivery tries for all processes */
	bool known; /* the two below are those of the last round trip */
	enum round_trip last;
	int64_t last_at;
};

/*
 * Notes the end of a round trip, which alone neither opens nor closes the
 * breaker.
 */
void breaker_round_trip(struct breaker *b, enum round_trip result, int64_t now);
/* Forgets the last round trip: the database must be asked again. */
void breaker_forget(struct breaker *b);
/*
 * Takes over the last round trip of another process, age ms ago. A failed one
 * opens the breaker if it is fresh, and half-opens it otherwise.
 */
void breaker_restore(struct breaker *b, enum round_trip result, int64_t age,
		     int64_t now);
/*
 * Opens the breaker. Returns true if it opened now; false if it was open or is
 * not enabled.
 */
bool breaker_open(struct breaker *b) MUST_CHECK;
/* Closes the breaker. Returns true if it closed now; false if it was closed. */
bool breaker_close(struct breaker *b) MUST_CHECK;
/* Returns true once, to the delivery that tries for all processes. */
bool breaker_try_half_open(struct breaker *b) MUST_CHECK;

/* Returns true if breaker_is_healthy() can be told without a round trip. */
bool breaker_is_current(const struct breaker *b, int64_t now) MUST_CHECK;
bool breaker_is_healthy(const struct breaker *b) MUST_CHECK;

#endif
