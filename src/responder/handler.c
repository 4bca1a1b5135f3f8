#include "responder/handler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "event/signature.h"

/* From accept to the answer at the latest; HumCLI allows 5 s. */
enum { ANSWER_MS = 4500, SPOOL_SHARE_MS = 500 };

/* What the log line of a request tells; NULL is left out. */
struct account {
	const char *outcome;
	const char *why;
	const struct delivery *delivery;
	const char *timestamp_differs;
};

static void log_account(const struct request *r, const struct reply *reply,
			const struct account *a)
{
	const struct delivery *d = a->delivery;
	char ms[24], status[12];

	snprintf(ms, sizeof(ms), "%lld", (long long)(clock_ms() - r->accepted));
	snprintf(status, sizeof(status), "%d", reply->status);
	log_pairs(reply->status >= 500	 ? LEVEL_ERROR
		  : reply->status >= 400 ? LEVEL_WARNING
					 : LEVEL_INFO,
		  "outcome", a->outcome, "http", status, "why", a->why,
		  "task_id", d ? d->event.task_id : NULL, "status",
		  d ? d->event.status : NULL, "secret",
		  d ? d->secret_name : NULL, "x_timestamp",
		  a->timestamp_differs, "client",
		  *r->remote_addr ? r->remote_addr : NULL, "ms", ms, NULL);
}

static bool is_json(const char *content_type)
{
	static const char json[] = "application/json";
	size_t length = sizeof(json) - 1;

	if (strncasecmp(content_type, json, length) != 0)
		return false;
	content_type += length;
	content_type += strspn(content_type, " \t");
	return *content_type == '\0' || *content_type == ';';
}

/* What can be said before the signature; false where the reply is made. */
static bool acceptable(const struct request *r, struct reply *reply,
		       struct account *a)
{
	static const struct {
		int status;
		const char *sentence;
	} bodies[] = {
		[BODY_TOO_LARGE] = { 413, "Body is too large" },
		[BODY_LATE] = { 408, "Body did not arrive in time" },
		[BODY_BROKEN] = { 400, "Body does not match its length" },
	};

	a->outcome = "refused";
	if (strcmp(r->method, "POST") != 0) {
		reply_error(reply, 405, "Method not allowed; use POST");
		reply->allow = true;
	} else if (r->state != BODY_COMPLETE) {
		reply_error(reply, bodies[r->state].status,
			    bodies[r->state].sentence);
	} else if (!is_json(r->content_type)) {
		reply_error(reply, 415,
			    "Content-Type must be application/json");
	} else {
		return true;
	}
	return false;
}

static void reply_outcome(struct reply *reply, struct account *a,
			  enum outcome outcome, enum event_verdict verdict)
{
	/* What is no event is kept like one, but its sender has to know. */
	if (verdict != EVENT_OK && outcome != OUTCOME_UNAVAILABLE) {
		a->outcome = "quarantined";
		reply_error(reply, verdict == EVENT_MALFORMED ? 400 : 422,
			    a->why);
		return;
	}
	switch (outcome) {
	case OUTCOME_RECORDED:
		a->outcome = "recorded";
		reply_json(reply, 200, "{\"received\":true}");
		return;
	case OUTCOME_DUPLICATE:
		a->outcome = "duplicate";
		reply_json(reply, 200,
			   "{\"received\":true,\"duplicate\":true}");
		return;
	case OUTCOME_SPOOLED:
		a->outcome = "spooled";
		reply_json(reply, 200, "{\"received\":true,\"spooled\":true}");
		return;
	case OUTCOME_MALFORMED:
		a->outcome = "quarantined";
		reply_error(reply, 400, "Body is not valid JSON");
		return;
	case OUTCOME_QUARANTINED:
	case OUTCOME_INVALID:
		a->outcome = "quarantined";
		reply_error(reply, 422, "Body can not be recorded");
		return;
	case OUTCOME_UNAVAILABLE:
		break;
	}
	a->outcome = "unavailable";
	reply_error(reply, 503, "Event can not be recorded now; send it again");
	reply->retry = true;
}

/* What the spool needs at the end of the time, for its two syncs. */
static int64_t spool_share(const struct handler *h)
{
	int64_t quarter = h->settings->deadline / 4;

	if (!h->spool)
		return 0;
	return quarter < SPOOL_SHARE_MS ? quarter : SPOOL_SHARE_MS;
}

static int64_t database_until(const struct handler *h, const struct request *r)
{
	int64_t own = r->body_end + h->settings->deadline;
	int64_t latest = r->accepted + ANSWER_MS;

	return (own < latest ? own : latest) - spool_share(h);
}

/* X-Timestamp is not signed and decides nothing; a difference is shown. */
static const char *differing_timestamp(const struct request *r,
				       const struct event *e)
{
	int64_t us;

	if (!*r->x_timestamp)
		return NULL;
	return timestamp_parse(r->x_timestamp, &us) && us == e->occurred_at
		       ? NULL
		       : r->x_timestamp;
}

static void finish(struct exchange *x, enum outcome outcome)
{
	struct account a = { .why = x->why,
			     .delivery = x->delivery,
			     .timestamp_differs = x->timestamp_differs };

	reply_outcome(&x->reply, &a, outcome, x->verdict);
	log_account(&x->request, &x->reply, &a);
}

static void answer(void *context, enum outcome outcome)
{
	struct exchange *x = context;

	finish(x, outcome);
	x->answered(x);
}

void handle_overdue(struct exchange *x)
{
	struct spool *spool = x->handler->spool;
	const struct delivery *d = x->delivery;
	const struct spool_entry entry = { .signature = d->signature,
					   .secret_name = d->secret_name,
					   .body = d->payload,
					   .length = d->length,
					   .received_at = d->received_at };

	finish(x, spool && spool_put(spool, &entry) ? OUTCOME_SPOOLED
						    : OUTCOME_UNAVAILABLE);
}

/* A request whose signature passed: parse it, and into the database. */
static bool take_delivery(struct exchange *x)
{
	const struct handler *h = x->handler;
	const struct request *r = &x->request;
	struct delivery *d = x->delivery;

	x->verdict = delivery_parse(d, r->body, r->length);
	x->why = d->reason;
	d->received_at = r->received;
	if (x->verdict == EVENT_OK)
		x->timestamp_differs = differing_timestamp(r, &d->event);
	if (recorder_submit(h->recorder, delivery_share(d),
			    database_until(h, r), answer, x))
		return false;
	handle_overdue(x);
	return true;
}

static bool handle_post(struct exchange *x)
{
	const struct request *r = &x->request;
	struct account a = { 0 };
	enum verdict verdict;

	if (!acceptable(r, &x->reply, &a)) {
		log_account(r, &x->reply, &a);
		return true;
	}
	x->delivery = delivery_new();
	verdict = verify_request(x->handler->secrets, r, x->delivery->signature,
				 &x->delivery->secret_name);
	if (verdict != VERIFY_OK) {
		reply_error(&x->reply, 401, "Invalid signature");
		a.why = verdict_text(verdict);
		log_account(r, &x->reply, &a);
		return true;
	}
	return take_delivery(x);
}

/* Degraded still takes events, so a balancer may send us more. */
static void reply_health(const struct handler *h, struct reply *reply)
{
	bool healthy = recorder_healthy(h->recorder);

	if (!healthy && !h->spool)
		reply_json(reply, 503, "{\"status\":\"unavailable\"}");
	else if (!healthy || (h->spool && !spool_is_empty(h->spool)))
		reply_json(reply, 200, "{\"status\":\"degraded\"}");
	else
		reply_json(reply, 200, "{\"status\":\"ok\"}");
}

void exchange_init(struct exchange *x, const struct handler *h,
		   void (*answered)(struct exchange *x))
{
	*x = (struct exchange){ .handler = h, .answered = answered };
	request_init(&x->request);
}

void exchange_free(struct exchange *x)
{
	delivery_free(x->delivery);
	request_free(&x->request);
}

bool handle(struct exchange *x)
{
	const struct handler *h = x->handler;

	x->reply.head = strcmp(x->request.method, "HEAD") == 0;
	if (h->settings && !request_is_health(&x->request))
		return handle_post(x);
	if (h->settings) {
		reply_health(h, &x->reply);
	} else {
		reply_error(&x->reply, 503,
			    "Receiver is not configured; see its log");
		x->reply.retry = true;
	}
	return true;
}
