/*
 * Events as lines of JSON on stdout: waits for room in a pipe, writes, and
 * acknowledges only what was written. Keeps the leases while it waits, because
 * a reader that sleeps must not cost them.
 */
#include "cli/consumer/consumer_state.h"

#include "base/buf.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Writes all bytes to stdout. Waits for room and then writes at most what a
 * pipe accepts without waiting, because a reader that sleeps must not delay
 * the stop. Returns true if all was written; false with errno set, EINTR if
 * told to stop.
 */
static bool write_out(struct consumer *c, const char *data, size_t length)
{
	while (length) {
		ssize_t n;

		claims_keep_leases(c);
		n = output_write_some(data, length, claims_next_due(c),
				      c->stop);
		if (n < 0)
			return false;
		data += n;
		length -= (size_t)n;
	}
	return true;
}

static bool print_queue(struct consumer *c)
{
	struct buf lines = { 0 };
	bool written;

	for (size_t i = c->first; i < c->count; i++) {
		char *line = json_event_line(&c->queue[i].event);

		buf_printf(&lines, "%s\n", line);
		free(line);
	}
	written = write_out(c, lines.data, lines.length);
	buf_free(&lines);
	return written;
}

/*
 * Acknowledges the printed queue. In a subscription the last event stands for
 * all before it; in a pool each is acknowledged.
 */
static void acknowledge_lines(struct consumer *c)
{
	if (!consumer_is_pool(c)) {
		if (claim_acknowledge(c, &c->queue[c->count - 1],
				      c->count - c->first))
			consumer_drop_queue(c);
		return;
	}
	while (c->first < c->count &&
	       claim_acknowledge(c, &c->queue[c->first], 1))
		claimed_event_free(&c->queue[c->first++]);
	if (c->first == c->count)
		consumer_drop_queue(c);
}

void consumer_print_lines(struct consumer *c)
{
	if (c->first == c->count)
		return;
	if (!c->printed && !c->stopping) {
		c->printed = print_queue(c);
		if (!c->printed && errno == EINTR)
			consumer_begin_stop(c, EX_OK);
		else if (!c->printed) {
			log_message(LEVEL_ERROR, "can't write to stdout: %s",
				    strerror(errno));
			consumer_begin_stop(c, EX_IOERR);
		}
	}
	if (c->printed)
		acknowledge_lines(c);
}
