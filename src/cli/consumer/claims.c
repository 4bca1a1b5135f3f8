/*
 * Claimed events: extends their leases, acknowledges them, returns them to
 * their pool. The database's answer decides what happens to the event; a
 * lost connection leaves it as it is, for a later round of the loop.
 *
 * Leases are measured by CLOCK_BOOTTIME, because the database goes on while a
 * laptop is suspended; otherwise a command would run on under a lease that
 * another worker has by now. The loop notices at its next wake-up.
 */
#include "cli/consumer/consumer_state.h"

#include "base/clock.h"
#include "base/log.h"

#include <signal.h>
#include <sysexits.h>

/*
 * Returns when to act on a lease, boottime_ms(): at half of it, to extend it;
 * without a connection at its end.
 */
static int64_t lease_due(const struct consumer *c,
			 const struct claimed_event *e)
{
	return session_is_open(c->session)
		       ? e->until - c->options->source.lease_ms / 2
		       : e->until;
}

/* Returns when the first lease is due, boottime_ms(). */
static int64_t first_due(const struct consumer *c)
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

int64_t claims_next_due(const struct consumer *c)
{
	int64_t due = first_due(c);

	return due == INT64_MAX ? due : monotonic_ms() + (due - boottime_ms());
}

/* Returns true if the lease still holds; false if it is lost or over. */
static bool keep_lease(struct consumer *c, struct claimed_event *e)
{
	bool lost = false;
	enum query_status status;

	if (boottime_ms() < lease_due(c, e))
		return true;
	if (session_is_open(c->session)) {
		status = event_source_extend(&c->options->source, c->session, e,
					     &lost);
		if (status != QUERY_OK)
			consumer_query_failed(c, status);
	}
	if (!lost && boottime_ms() < e->until)
		return true;
	log_message(LEVEL_WARNING,
		    "event %s (task %s, %s), attempt %llu: lease lost; "
		    "another worker of pool %s may have it",
		    e->event.id, e->event.task_id, e->event.status,
		    (unsigned long long)e->attempt, c->options->source.name);
	return false;
}

/*
 * Removes events from the queue whose leases are lost, because another worker
 * has them. Printed ones may be among them; nobody acknowledges those here.
 */
static void keep_queue(struct consumer *c)
{
	size_t kept = c->first;

	for (size_t i = c->first; i < c->count; i++) {
		if (keep_lease(c, &c->queue[i]))
			c->queue[kept++] = c->queue[i];
		else
			claimed_event_free(&c->queue[i]);
	}
	c->count = kept;
	if (c->first == c->count)
		consumer_drop_queue(c);
}

void claims_keep_leases(struct consumer *c)
{
	if (boottime_ms() < first_due(c))
		return;
	for (size_t i = 0; i < c->options->concurrency; i++) {
		struct slot *s = &c->slots[i];

		if (s->state != RUNNING || keep_lease(c, &s->event))
			continue;
		command_signal(s->pid, SIGKILL);
		s->state = KILLED;
	}
	keep_queue(c);
}

static void log_lost(const struct consumer *c, const struct claimed_event *e)
{
	log_message(LEVEL_WARNING,
		    consumer_is_pool(c)
			    ? "event %s was done, but another worker of "
			      "pool %s has it too"
			    : "event %s was acknowledged by another "
			      "consumer of subscription %s",
		    e->event.id, c->options->source.name);
}

static void count_delivered(struct consumer *c, size_t count)
{
	c->delivered += count;
	if (c->options->count && c->delivered >= c->options->count)
		consumer_begin_stop(c, EX_OK);
}

bool claim_acknowledge(struct consumer *c, const struct claimed_event *e,
		       size_t count)
{
	bool lost;
	enum query_status status;

	if (!session_is_open(c->session))
		return false;
	status = event_source_ack(&c->options->source, c->session, e, &lost);
	if (status != QUERY_OK) {
		consumer_query_failed(c, status);
	} else if (lost) {
		log_lost(c, e);
		if (!consumer_is_pool(c))
			consumer_drop_queue(c);
	} else {
		count_delivered(c, count);
	}
	return status != QUERY_LOST;
}

bool claim_return(struct consumer *c, const struct claimed_event *e,
		  const char *why, int64_t retry_ms)
{
	enum fail_result result;
	enum query_status status;

	if (!session_is_open(c->session))
		return false;
	status = event_source_fail(&c->options->source, c->session, e, why,
				   retry_ms, &result);
	if (status != QUERY_OK)
		consumer_query_failed(c, status);
	else if (result == FAIL_LOST)
		log_message(LEVEL_WARNING,
			    "event %s: another worker of pool %s has it",
			    e->event.id, c->options->source.name);
	else if (result == FAIL_DEAD)
		log_message(
			LEVEL_ERROR,
			"event %s (task %s, %s) is a dead letter after %llu "
			"attempts; see humcli-webhook dead list",
			e->event.id, e->event.task_id, e->event.status,
			(unsigned long long)e->attempt);
	return status != QUERY_LOST;
}

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
