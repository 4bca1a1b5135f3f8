/*
 * Owns the changes of struct consumer that several of its parts make: the begin
 * of the stop, the queue of fetched events, and a lost connection. Calls none
 * of these parts.
 */
#include "cli/consumer/consumer_state.h"

#include "base/clock.h"
#include "base/log.h"

#include <sysexits.h>

enum {
	POLL_MAX_MS = 24000,
	GRACE_MS = 10000 /* for running commands at the stop */
};

size_t consumer_count_slots(const struct consumer *c, enum slot_state state)
{
	size_t count = 0;

	for (size_t i = 0; i < c->options->concurrency; i++)
		count += c->slots[i].state == state;
	return count;
}

int consumer_poll_timeout(int64_t due)
{
	int64_t left = due - monotonic_ms();

	return left < 0 ? 0 : (int)min_i64(left, POLL_MAX_MS);
}

void consumer_begin_stop(struct consumer *c, int code)
{
	if (c->stopping)
		return;
	c->stopping = true;
	c->stop_deadline = monotonic_ms() + GRACE_MS;
	c->exit_code = code;
}

void consumer_drop_queue(struct consumer *c)
{
	for (; c->first < c->count; c->first++)
		claimed_event_free(&c->queue[c->first]);
	c->first = c->count = 0;
	c->printed = false;
}

void consumer_query_failed(struct consumer *c, enum query_status status)
{
	int code = EX_OK;

	if (status == QUERY_REFUSED)
		code = session_exit_code(c->session);
	log_message(code == EX_OK ? LEVEL_WARNING : LEVEL_ERROR,
		    status == QUERY_LOST ? "connection lost: %s"
					 : "the database refused a query: %s",
		    session_message(c->session));
	session_close(c->session);
	if (code != EX_OK)
		consumer_begin_stop(c, code);
	else if (c->options->once)
		consumer_begin_stop(c, EX_UNAVAILABLE);
}
