/*
 * From a request to a reply: the order of the checks, and the HTTP status,
 * which no other file chooses.
 */
#ifndef HANDLER_H
#define HANDLER_H

#include <stdbool.h>

#include "base/macros.h"
#include "config/secrets.h"
#include "responder/reply.h"
#include "responder/request.h"
#include "responder/verify_queue.h"
#include "store/queue.h"
#include "store/spool.h"

struct handler {
	const struct settings *settings; /* NULL: there are none (CGI) */
	struct secrets *secrets;
	struct queue *queue; /* NULL: all is spooled (CGI) */
	struct spool *spool; /* NULL: none */
	struct verify_queue *verify_queue; /* NULL: for one request */
};

/*
 * One request and its reply. It belongs to the gateway, which fills in the
 * request and sends the reply.
 */
struct exchange {
	struct request request;
	struct reply reply;
	/* Sends the reply. Must not block: the writer's thread calls it. */
	void (*on_reply)(struct exchange *x);
	/*
	 * Called before handler_handle() may wait for a disk, the database or
	 * its turn, or computes for long, perhaps several times; NULL: nobody
	 * has to know.
	 */
	void (*before_blocking)(struct exchange *x);

	/* The handler's own. */
	const struct handler *handler;
	struct delivery *delivery; /* NULL: the request was refused before */
	enum event_verdict verdict;
	const char *reason; /* what is wrong with the event, or NULL */
	const char *x_timestamp; /* X-Timestamp if it differs, or NULL */
};

/* Sets up an exchange. The gateway then fills in x->request. */
void exchange_init(struct exchange *x, const struct handler *h,
		   void (*on_reply)(struct exchange *x));
void exchange_free(struct exchange *x);

/*
 * Returns true if x->reply is ready. False if the queue has the delivery; then
 * exactly one of two happens, possibly before this returns: x->on_reply() is
 * called, or queue_overdue() returns x and the caller runs
 * handler_spool_overdue().
 */
bool handler_handle(struct exchange *x) MUST_CHECK;
/*
 * Spools the delivery, which takes two syncs. x->reply is ready then; it is a
 * refusal if the spool fails.
 */
void handler_spool_overdue(struct exchange *x);

/* Ends all waiting at the deadline (ms, monotonic), from now on. */
void handler_set_stop_deadline(const struct handler *h, int64_t deadline);

#endif
