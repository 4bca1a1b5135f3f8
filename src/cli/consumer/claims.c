#include "cli/consumer/consumer_state.h"

#include "base/clock.h"
#include "base/log.h"

#include <signal.h>

/* At half of a lease it is made longer; without a connection it runs out. */
static int64_t lease_due(const struct consumer *c,
			 const struct claimed_event *i)
{
	return session_is_open(c->session)
		       ? i->until - c->options->source.lease_ms / 2
		       : i->until;
}

/* When the next of the leases wants something. */
int64_t claims_next_due(const struct consumer *c)
{
	int64_t due = INT64_MAX;

	if (!consumer_is_pool(c))
		return due;
	for (size_t i = 0; i < c->options->concurrency; i++) {
		if (c->slots[i].state == RUNNING)
			due = min_i64(due, lease_due(c, &c->slots[i].event));
	}
	for (size_t i = c->first; i < c->count; i++)
		due = min_i64(due, lease_due(c, &c->queue[i]));
	return due;
}

/* Whether the event is still ours, as far as we can know. */
static bool keep_lease(struct consumer *c, struct claimed_event *i)
{
	bool lost = false;
	enum query_status a;

	if (monotonic_ms() < lease_due(c, i))
		return true;
	if (session_is_open(c->session)) {
		a = event_source_extend(&c->options->source, c->session, i,
					&lost);
		if (a != QUERY_OK)
			consumer_query_failed(c, a);
	}
	if (!lost && monotonic_ms() < i->until)
		return true;
	log_message(LEVEL_WARNING,
		    "event %s (task %s, %s), attempt %llu: the lease is lost, "
		    "another worker of pool %s may have it",
		    i->event.id, i->event.task_id, i->event.status,
		    (unsigned long long)i->attempt, c->options->source.name);
	return false;
}

/*
 * What is no longer ours is not to be worked on: the command is killed. A
 * line can't be taken back.
 */
void claims_keep_leases(struct consumer *c)
{
	if (monotonic_ms() < claims_next_due(c))
		return;
	for (size_t i = 0; i < c->options->concurrency; i++) {
		struct slot *s = &c->slots[i];

		if (s->state != RUNNING || keep_lease(c, &s->event))
			continue;
		command_signal(s->pid, SIGKILL);
		s->state = KILLED;
	}
	for (size_t i = c->first; i < c->count; i++) {
		if (!keep_lease(c, &c->queue[i]))
			c->queue[i].until = INT64_MAX;
	}
}

static void log_lost(const struct consumer *c, const struct claimed_event *i)
{
	log_message(LEVEL_WARNING,
		    consumer_is_pool(c)
			    ? "event %s was done, but another worker of "
			      "pool %s has it too"
			    : "event %s was acknowledged by another "
			      "consumer of subscription %s",
		    i->event.id, c->options->source.name);
}

/* Acknowledges; false where that has to wait for a connection. */
bool claim_acknowledge(struct consumer *c, const struct claimed_event *i)
{
	bool lost;
	enum query_status a;

	if (!session_is_open(c->session))
		return false;
	a = event_source_ack(&c->options->source, c->session, i, &lost);
	if (a != QUERY_OK) {
		consumer_query_failed(c, a);
	} else if (lost) {
		log_lost(c, i);
		if (!consumer_is_pool(c))
			consumer_drop_queue(c);
	}
	return a != QUERY_LOST;
}

/*
 * To the pool, for another attempt; false where that has to wait for a
 * connection.
 */
bool claim_return(struct consumer *c, const struct claimed_event *i,
		  const char *why, int64_t retry_ms)
{
	enum fail_result fate;
	enum query_status a;

	if (!session_is_open(c->session))
		return false;
	a = event_source_fail(&c->options->source, c->session, i, why, retry_ms,
			      &fate);
	if (a != QUERY_OK)
		consumer_query_failed(c, a);
	else if (fate == FAIL_LOST)
		log_message(LEVEL_WARNING,
			    "event %s: another worker of pool %s has it",
			    i->event.id, c->options->source.name);
	else if (fate == FAIL_DEAD)
		log_message(LEVEL_ERROR,
			    "event %s (task %s, %s) is given up after %llu "
			    "attempts: see humcli-webhook dead list",
			    i->event.id, i->event.task_id, i->event.status,
			    (unsigned long long)i->attempt);
	return a != QUERY_LOST;
}

/* What a pool gave us and is not done goes to the next at once. */
void claims_return_all(struct consumer *c)
{
	static const char why[] = "the worker ended";

	for (size_t i = 0; i < c->options->concurrency; i++) {
		const struct slot *s = &c->slots[i];

		if (s->event.position && s->state != ENDED &&
		    s->state != KILLED && !claim_return(c, &s->event, why, 0))
			return;
	}
	for (size_t i = c->first; i < c->count && !c->printed; i++) {
		if (!claim_return(c, &c->queue[i], why, 0))
			return;
	}
}
