/*
 * Owns the notifications that are still to be sent, as humcli.record_batch()
 * gave their texts, and the resync that makes up for lost ones. It must not
 * know batches or the queue. Only the writer's thread calls these functions.
 *
 * notifications_send() sends all of them in a transaction of its own, one at a
 * time. If that fails or its end is never seen, one resync is due, because
 * any notification means "look now". A resync goes at most once a second.
 */
#include "store/notifications.h"

#include "base/log.h"
#include "postgres/sqlstate.h"

enum { RESYNC_INTERVAL_MS = 1000 };

void notifications_free(struct notifications *n)
{
	text_list_free(&n->events);
	text_list_free(&n->gaps);
}

void notifications_add(struct notifications *n, const struct database_row *row)
{
	if (*row->notification)
		text_list_add(row->outcome == ROW_GAP ? &n->gaps : &n->events,
			      row->notification);
}

static bool any_to_send(const struct notifications *n)
{
	return n->events.count || n->gaps.count;
}

int64_t notifications_due_at(const struct notifications *n)
{
	if (n->in_flight || !(any_to_send(n) || n->resync_due))
		return INT64_MAX;
	return any_to_send(n) ? INT64_MIN : n->resync_at;
}

bool notifications_pending(const struct notifications *n)
{
	return n->in_flight || any_to_send(n) || n->resync_due;
}

bool notifications_send(struct notifications *n, struct database *db,
			int64_t now)
{
	bool ok;

	if (notifications_due_at(n) > now)
		return true;
	if (!any_to_send(n))
		n->resync_at = now + RESYNC_INTERVAL_MS;
	/* Any notification makes up for a lost one. */
	n->resync_due = false;
	n->in_flight = true;
	ok = database_send_notify(db, &n->events, &n->gaps);
	text_list_clear(&n->events);
	text_list_clear(&n->gaps);
	return ok;
}

void notifications_sent(struct notifications *n,
			const struct database_result *result)
{
	bool again = !sqlstate_is_setup_error(result->sqlstate);

	n->in_flight = false;
	if (result->committed)
		return;
	n->resync_due = n->resync_due || again;
	if (log_limit_pass(&n->failure_limit, result->sqlstate))
		log_message(LEVEL_WARNING, "NOTIFY failed (%s): %s; %s",
			    result->sqlstate, result->message,
			    again ? "a resync follows"
				  : sqlstate_advice(result->sqlstate));
}

void notifications_lost(struct notifications *n)
{
	if (n->in_flight || any_to_send(n))
		n->resync_due = true;
	n->in_flight = false;
	text_list_clear(&n->events);
	text_list_clear(&n->gaps);
}
