/*
 * What HumCLI would send, as a list of bodies in the order of sending:
 * one event, or the whole life of a task. Neither signed nor sent here.
 */
#ifndef LIFECYCLE_H
#define LIFECYCLE_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct post {
	char *name; /* for the terminal */
	char *body;
	size_t length;
	char timestamp[TIME_TEXT_SIZE];
};

struct plan {
	struct post *list;
	size_t count;
};

struct simulation {
	const char *event;
	const char *task_id;
	bool duplicate; /* each a second time, to the letter */
	bool restamp; /* each a second time, stamped some ms later */
};

/* One event of now; previous_status NULL is null. */
void plan_event(struct plan *p, const struct simulation *s, const char *status,
		const char *previous_status);
/* All events of a task's life; false: there is no life of that name. */
bool plan_lifecycle(struct plan *p, const struct simulation *s,
		    const char *name) MUST_CHECK;
/* Bytes as they are, which the plan takes over. */
void plan_bytes(struct plan *p, const char *name, struct buf *body,
		bool duplicate);

/* The same seed gives the same order. */
void plan_shuffle(struct plan *p, uint64_t seed);
void plan_free(struct plan *p);

#endif
