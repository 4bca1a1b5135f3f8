/*
 * The events that HumCLI would send, as a list of bodies in the order of
 * sending: one event, or the whole life of a task. They are neither signed nor
 * sent here.
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
	char *name; /* shown to people */
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
	bool duplicate; /* send each event twice, with the same bytes */
	bool restamp; /* send each event twice, the second stamped later */
};

/* Appends one event with the current time; previous_status NULL is null. */
void plan_event(struct plan *p, const struct simulation *s, const char *status,
		const char *previous_status);
/*
 * Appends all events of a task's life. Returns false if there is no life of
 * that name.
 */
bool plan_lifecycle(struct plan *p, const struct simulation *s,
		    const char *name) MUST_CHECK;
/* Appends the bytes of a file. The plan takes over the buffer. */
void plan_bytes(struct plan *p, const char *name, struct buf *body,
		bool duplicate);

/* Shuffles the plan. The same seed gives the same order. */
void plan_shuffle(struct plan *p, uint64_t seed);
void plan_free(struct plan *p);

#endif
