/*
 * The policy: from a request to a reply. The only place that picks an HTTP
 * status. Knows neither FastCGI nor OpenSSL nor cJSON nor libpq.
 */
#ifndef HANDLER_H
#define HANDLER_H

#include <stdbool.h>

#include "base/macros.h"
#include "config/secrets.h"
#include "responder/reply.h"
#include "responder/request.h"
#include "store/queue.h"
#include "store/spool.h"

struct handler {
	const struct settings *settings; /* NULL: not configured (CGI) */
	struct secrets *secrets;
	struct queue *queue;
	struct spool *spool; /* NULL: none */
};

/*
 * One request and its reply; the gateway's, which fills in the request and
 * takes the reply to whoever asked.
 */
struct exchange {
	struct request request;
	struct reply reply;
	/* The reply is there; from a thread that it must not hold up. */
	void (*on_reply)(struct exchange *x);

	/* The handler's own. */
	const struct handler *handler;
	struct delivery *delivery; /* NULL: it did not come to one */
	enum event_verdict verdict;
	const char *reason; /* what is wrong with it, or NULL */
	const char *x_timestamp; /* what X-Timestamp says, or NULL */
};

/* request is for the gateway to fill in. */
void exchange_init(struct exchange *x, const struct handler *h,
		   void (*answered)(struct exchange *x));
void exchange_free(struct exchange *x);

/*
 * True: the reply is there. False: the queue has it. Then x->answered is
 * called, once and perhaps before this returns, or queue_overdue() gives
 * x out: for handler_spool_overdue(), after which the reply is there as well.
 */
bool handler_handle(struct exchange *x) MUST_CHECK;
/* To the spool, which takes two syncs; else it is refused. */
void handler_spool_overdue(struct exchange *x);

#endif
