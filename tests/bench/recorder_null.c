/*
 * In the place of recorder.c: takes every delivery and records none. With it
 * the responder shows what web server, FastCGI, verifying and parsing cost.
 */
#include <stdlib.h>

#include "recorder.h"

struct recorder {
	const struct settings *settings;
};

struct recorder *recorder_start(const struct settings *s,
				enum recorder_mode mode, bool breaker)
{
	struct recorder *r = xcalloc(1, sizeof(*r));

	(void)mode;
	(void)breaker;
	r->settings = s;
	return r;
}

enum outcome recorder_submit(struct recorder *r, struct delivery *d,
			     int64_t deadline)
{
	(void)r;
	(void)deadline;
	delivery_free(d);
	return OUTCOME_RECORDED;
}

bool recorder_drain(struct recorder *r, struct delivery **deliveries,
		    size_t count, int64_t until, enum outcome *outcomes)
{
	for (size_t i = 0; i < count; i++)
		outcomes[i] = recorder_submit(r, deliveries[i], until);
	return true;
}

bool recorder_healthy(struct recorder *r)
{
	(void)r;
	return true;
}

void recorder_hurry(struct recorder *r, int64_t deadline)
{
	(void)r;
	(void)deadline;
}

bool recorder_stop(struct recorder *r, int64_t deadline)
{
	(void)deadline;
	free(r);
	return true;
}
