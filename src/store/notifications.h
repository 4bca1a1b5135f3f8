/*
 * The notifications that the writer still has to send: of committed events, and
 * an empty one (a resync) for lost ones.
 */
#ifndef NOTIFICATIONS_H
#define NOTIFICATIONS_H

#include "base/log.h"
#include "store/database.h"

/* Zeroes are an empty one. Times are ms, monotonic. */
struct notifications {
	struct text_list events; /* not sent yet */
	struct text_list gaps;
	bool in_flight;
	bool resync_due;
	int64_t resync_at; /* a resync is not sent earlier */
	struct log_limit failure_limit;
};

void notifications_free(struct notifications *n);

/* Adds the notification of a row that was committed, if it has one. */
void notifications_add(struct notifications *n, const struct database_row *row);
/* Returns when to send the next one; INT64_MAX if there is none to send. */
int64_t notifications_due_at(const struct notifications *n) MUST_CHECK;
/* Returns true until everything is sent and confirmed. */
bool notifications_pending(const struct notifications *n) MUST_CHECK;
/* Sends what is due. Returns false if the connection is gone. */
bool notifications_send(struct notifications *n, struct database *db,
			int64_t now) MUST_CHECK;
/* Notes the result of what was sent. A failure becomes a resync. */
void notifications_sent(struct notifications *n,
			const struct database_result *result);
/*
 * Notes that the connection is gone: what was not confirmed becomes a resync.
 */
void notifications_lost(struct notifications *n);

#endif
