/*
 * Owns the lives of tasks as HumCLI documents them, and the order of sending.
 * Must not know secrets or HTTP. A plan is a list of bodies; plan_event(),
 * plan_lifecycle() and plan_bytes() append to it, plan_shuffle() changes the
 * order.
 */
#include "cli/probe/lifecycle.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "cli/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The time between two events of a life, and between an event and its re-
 * stamped copy.
 */
enum { STEP_MS = 1000, RESTAMP_MS = 250 };

/* By HumCLI's documentation, "Event Types". Each task begins as PENDING. */
static const struct lifecycle {
	const char *name;
	const char *statuses[9];
} lifecycles[] = {
	{ "main",
	  { "ESTIMATE_PENDING", "ACCEPTED", "IN_PROGRESS", "SUBMITTED",
	    "VERIFIED", "COMPLETED" } },
	{ "rejected-estimate",
	  { "ESTIMATE_PENDING", "PENDING", "ESTIMATE_PENDING", "ACCEPTED",
	    "IN_PROGRESS", "SUBMITTED", "VERIFIED", "COMPLETED" } },
	{ "disputed",
	  { "ESTIMATE_PENDING", "ACCEPTED", "IN_PROGRESS", "SUBMITTED",
	    "MANUAL_REVIEW", "DISPUTED" } },
	{ "cancelled", { "ESTIMATE_PENDING", "ACCEPTED", "CANCELLED" } },
};

static struct post *add(struct plan *p)
{
	p->list = array_grow(p->list, p->count, sizeof(*p->list));
	p->list[p->count] = (struct post){ 0 };
	return &p->list[p->count++];
}

static void add_sample(struct plan *p, const struct event_fields *s, int64_t ms,
		       const char *remark)
{
	struct post *post = add(p);
	struct event_fields stamped = *s;

	format_time(ms * 1000, post->timestamp);
	stamped.timestamp = post->timestamp;
	post->name = xasprintf("%s%s", s->status, remark);
	post->body = json_event_body(&stamped);
	post->length = strlen(post->body);
}

static void add_event(struct plan *p, const struct simulation *s,
		      const char *status, const char *previous_status,
		      int64_t ms)
{
	struct event_fields sample = { .event = s->event,
				       .task_id = s->task_id,
				       .status = status,
				       .previous_status = previous_status };

	add_sample(p, &sample, ms, "");
	if (s->duplicate)
		add_sample(p, &sample, ms, " again");
	if (s->restamp)
		add_sample(p, &sample, ms + RESTAMP_MS, " re-stamped");
}

void plan_event(struct plan *p, const struct simulation *s, const char *status,
		const char *previous_status)
{
	add_event(p, s, status, previous_status, wall_clock_us() / 1000);
}

bool plan_lifecycle(struct plan *p, const struct simulation *s,
		    const char *name)
{
	const struct lifecycle *life = lifecycles;
	const struct lifecycle *end = life + ARRAY_SIZE(lifecycles);
	const char *previous = "PENDING";
	int64_t ms = wall_clock_us() / 1000;
	size_t steps = 0;

	while (life < end && strcmp(life->name, name) != 0)
		life++;
	if (life == end)
		return false;
	while (life->statuses[steps])
		steps++;
	/* The last event happens now. */
	ms -= (int64_t)(steps - 1) * STEP_MS;
	for (size_t i = 0; i < steps; i++, ms += STEP_MS) {
		add_event(p, s, life->statuses[i], previous, ms);
		previous = life->statuses[i];
	}
	return true;
}

void plan_bytes(struct plan *p, const char *name, struct buf *body,
		bool duplicate)
{
	struct post *post = add(p);

	post->name = xstrdup(name);
	post->body = body->data;
	post->length = body->length;
	format_time(wall_clock_us(), post->timestamp);
	*body = (struct buf){ 0 };
	if (duplicate) {
		struct post *again = add(p);

		*again = p->list[p->count - 2];
		again->name = xasprintf("%s again", name);
		again->body = xstrndup(again->body, again->length);
	}
}

/*
 * Returns the next number of SplitMix64 (Sebastiano Vigna). A seed must give
 * the same order on every system, which nrand48() does not promise.
 */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

void plan_shuffle(struct plan *p, uint64_t seed)
{
	for (size_t i = p->count; i > 1; i--) {
		size_t j = (size_t)(next_random(&seed) % i);
		struct post other = p->list[j];

		p->list[j] = p->list[i - 1];
		p->list[i - 1] = other;
	}
}

void plan_free(struct plan *p)
{
	for (size_t i = 0; i < p->count; i++) {
		free(p->list[i].name);
		free(p->list[i].body);
	}
	free(p->list);
	*p = (struct plan){ 0 };
}
