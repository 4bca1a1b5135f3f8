/*
 * Owns the order of the checks of a request, its reply and its log line. Must
 * not know FastCGI, OpenSSL, cJSON or libpq.
 *
 * A worker calls handler_handle(), which ends with the delivery in the queue.
 * From then on the exchange belongs to one of two: the writer's thread, which
 * calls on_outcome() after the commit, or the worker that finds it overdue and
 * calls handler_spool_overdue().
 */
#include "responder/handler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "event/signature.h"
#include "event/timestamp.h"

/* From accept to the reply; HumCLI allows 5 s. */
enum { REPLY_LIMIT_MS = 4500, SPOOL_RESERVE_MS = 500 };

/* A signature check that has to hash so much, about 1 ms, waits its turn. */
enum { COSTLY_BYTES = 1024 * 1024 };

/* One that hashes so much takes as long as all the rest of a usual request. */
enum { NOTICEABLE_BYTES = 32 * 1024 };

/* Fields of a request's log line. NULL fields are left out. */
struct request_log {
	const char *outcome;
	const char *reason;
	const struct delivery *delivery;
	const char *x_timestamp;
};

static void log_request(const struct request *r, const struct reply *reply,
			const struct request_log *fields)
{
	const struct delivery *d = fields->delivery;
	char ms[24], status[12], id[REQUEST_ID_SIZE];

	snprintf(ms, sizeof(ms), "%lld",
		 (long long)(monotonic_ms() - r->accepted_at));
	snprintf(status, sizeof(status), "%d", reply->status);
	log_fields(reply->status >= 500	  ? LEVEL_ERROR
		   : reply->status >= 400 ? LEVEL_WARNING
					  : LEVEL_INFO,
		   "outcome", fields->outcome, "http", status, "why",
		   fields->reason, "task_id", d ? d->event.task_id : NULL,
		   "status", d ? d->event.status : NULL, "secret",
		   d ? d->secret_name : NULL, "x_timestamp",
		   fields->x_timestamp, "client",
		   *r->remote_addr ? r->remote_addr : NULL, "ms", ms,
		   "request_id", request_id(r, id), NULL);
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

/* Checks all but the signature. Returns false with the reply made. */
static bool check_request(const struct request *r, struct reply *reply,
			  struct request_log *fields)
{
	static const struct {
		int status;
		const char *message;
	} bodies[] = {
		[BODY_TOO_LARGE] = { 413, "Body is too large" },
		[BODY_TIMEOUT] = { 408, "Body did not arrive in time" },
		[BODY_BROKEN] = { 400, "Body does not match its length" },
	};

	fields->outcome = "refused";
	if (strcmp(r->method, "POST") != 0) {
		reply_error(reply, 405, "Method not allowed; use POST");
		reply->allow = true;
	} else if (r->state != BODY_COMPLETE) {
		reply_error(reply, bodies[r->state].status,
			    bodies[r->state].message);
	} else if (!is_json(r->content_type)) {
		reply_error(reply, 415,
			    "Content-Type must be application/json");
	} else if (!request_is_identity(r)) {
		reply_error(reply, 415, "Content-Encoding must be identity");
	} else {
		return true;
	}
	return false;
}

static void reply_outcome(struct reply *reply, struct request_log *fields,
			  enum outcome outcome, enum event_verdict verdict)
{
	/* The body is kept in the quarantine, but its sender has to know. */
	if (verdict != EVENT_OK && outcome != OUTCOME_UNAVAILABLE) {
		fields->outcome = "quarantined";
		reply_error(reply, verdict == EVENT_MALFORMED ? 400 : 422,
			    fields->reason);
		return;
	}
	switch (outcome) {
	case OUTCOME_RECORDED:
		fields->outcome = "recorded";
		reply_json(reply, 200, "{\"received\":true}");
		return;
	case OUTCOME_DUPLICATE:
		fields->outcome = "duplicate";
		reply_json(reply, 200,
			   "{\"received\":true,\"duplicate\":true}");
		return;
	case OUTCOME_SPOOLED:
		fields->outcome = "spooled";
		reply_json(reply, 200, "{\"received\":true,\"spooled\":true}");
		return;
	case OUTCOME_MALFORMED:
		fields->outcome = "quarantined";
		reply_error(reply, 400, "Body is not valid JSON");
		return;
	case OUTCOME_QUARANTINED:
	case OUTCOME_INVALID:
		fields->outcome = "quarantined";
		reply_error(reply, 422, "Body can not be recorded");
		return;
	case OUTCOME_UNAVAILABLE:
	case OUTCOME_REFUSED:
	case OUTCOME_UNANSWERED:
		break;
	}
	fields->outcome = "unavailable";
	reply_error(reply, 503, "Event can not be recorded now; send it again");
	reply->retry = true;
}

/* Returns the time that the spool needs for its two syncs (ms). */
static int64_t spool_reserve(const struct handler *h)
{
	int64_t quarter = h->settings->deadline / 4;

	if (!h->spool)
		return 0;
	return quarter < SPOOL_RESERVE_MS ? quarter : SPOOL_RESERVE_MS;
}

static int64_t database_deadline(const struct handler *h,
				 const struct request *r)
{
	int64_t own = r->body_read_at + h->settings->deadline;
	int64_t latest = r->accepted_at + REPLY_LIMIT_MS;

	return (own < latest ? own : latest) - spool_reserve(h);
}

/*
 * Returns X-Timestamp if it differs from the event's time, for the log; else
 * NULL. It decides nothing, because it is not signed.
 */
static const char *timestamp_mismatch(const struct request *r,
				      const struct event *e)
{
	int64_t us;

	if (!*r->x_timestamp)
		return NULL;
	return timestamp_parse(r->x_timestamp, &us) && us == e->occurred_at
		       ? NULL
		       : r->x_timestamp;
}

static void make_reply(struct exchange *x, enum outcome outcome)
{
	struct request_log fields = { .reason = x->reason,
				      .delivery = x->delivery,
				      .x_timestamp = x->x_timestamp };

	reply_outcome(&x->reply, &fields, outcome, x->verdict);
	log_request(&x->request, &x->reply, &fields);
}

static void on_outcome(void *context, enum outcome outcome)
{
	struct exchange *x = context;

	make_reply(x, outcome);
	x->on_reply(x);
}

void handler_spool_overdue(struct exchange *x)
{
	struct spool *spool = x->handler->spool;
	const struct delivery *d = x->delivery;
	const struct spool_entry entry = { .signature = d->signature,
					   .secret_name = d->secret_name,
					   .body = d->payload,
					   .length = d->length,
					   .received_at = d->received_at };

	make_reply(x, spool && spool_put(spool, &entry) ? OUTCOME_SPOOLED
							: OUTCOME_UNAVAILABLE);
}

static void before_blocking(struct exchange *x)
{
	if (x->before_blocking)
		x->before_blocking(x);
}

/* Hands a request whose signature passed to the queue, or spools it. */
static bool submit_delivery(struct exchange *x)
{
	const struct handler *h = x->handler;
	struct request *r = &x->request;
	struct delivery *d = x->delivery;

	x->verdict = delivery_parse(d, r->body, r->length);
	r->body = NULL;
	x->reason = d->reason;
	d->received_at = r->received;
	if (x->verdict == EVENT_OK)
		x->x_timestamp = timestamp_mismatch(r, &d->event);
	if (h->queue && queue_submit(h->queue, delivery_ref(d),
				     database_deadline(h, r), on_outcome, x))
		return false;
	before_blocking(x);
	handler_spool_overdue(x);
	return true;
}

static void make_signature_input(const struct request *r,
				 struct signature_input *input,
				 char named[SECRET_NAME_SIZE])
{
	enum path_kind path = request_secret_name(r, named);

	*input = (struct signature_input){
		.value = r->x_signature,
		.count = r->signature_count,
		.body = r->body,
		.length = r->length,
		.secret = path == PATH_MOUNT ? NULL : named,
		.secret_optional = path == PATH_PERHAPS_SECRET,
	};
}

/* Makes the reply to a request whose signature could not be checked in time. */
static void refuse_unchecked(struct exchange *x)
{
	struct request_log fields = {
		.outcome = "unavailable",
		.reason = signature_verdict_text(SIGNATURE_TIMEOUT),
	};

	reply_error(&x->reply, 503,
		    "Signature can not be checked now; send it again");
	x->reply.retry = true;
	log_request(&x->request, &x->reply, &fields);
}

static void refuse_signature(struct exchange *x, enum signature_verdict verdict)
{
	struct request_log fields = {
		.outcome = "refused",
		.reason = signature_verdict_text(verdict),
	};

	reply_error(&x->reply, 401, "Invalid signature");
	log_request(&x->request, &x->reply, &fields);
}

/* Returns true if x->reply is ready, as handler_handle(). */
static bool check_signature(struct exchange *x,
			    const struct signature_input *input)
{
	enum signature_verdict verdict = signature_verify(
		x->handler->secrets, input, x->delivery->signature,
		&x->delivery->secret_name);

	if (verdict == SIGNATURE_OK) {
		if (x->handler->verify_queue)
			verify_queue_remember(x->handler->verify_queue,
					      x->delivery->secret_name);
		return submit_delivery(x);
	}
	if (verdict == SIGNATURE_TIMEOUT)
		refuse_unchecked(x);
	else
		refuse_signature(x, verdict);
	return true;
}

/* Returns true if a secret matches that matched lately. */
static bool matches_recent_secret(struct exchange *x,
				  const struct signature_input *input)
{
	struct signature_input one = *input;
	bool matches = false;
	char *name;

	for (size_t i = 0; !matches; i++) {
		name = verify_queue_recent(x->handler->verify_queue, i);
		if (!name)
			break;
		one.secret = name;
		one.secret_optional = false;
		matches = signature_verify(x->handler->secrets, &one,
					   x->delivery->signature,
					   &x->delivery->secret_name) ==
			  SIGNATURE_OK;
		free(name);
	}
	return matches;
}

/*
 * Checks a costly signature, and those that wait, when it is their turn. Their
 * replies are sent from here.
 */
static void check_in_turn(struct exchange *x, uint64_t cost)
{
	struct verify_queue *q = x->handler->verify_queue;
	int64_t deadline = database_deadline(x->handler, &x->request);
	struct signature_input input;
	char named[SECRET_NAME_SIZE];
	bool expired = false;

	if (!verify_queue_enter(q, x, cost, deadline))
		return;
	for (; x; x = verify_queue_next(q, &expired)) {
		make_signature_input(&x->request, &input, named);
		input.deadline = database_deadline(x->handler, &x->request);
		if (expired) {
			refuse_unchecked(x);
			x->on_reply(x);
		} else if (check_signature(x, &input)) {
			x->on_reply(x);
		}
	}
}

static bool handle_post(struct exchange *x)
{
	const struct request *r = &x->request;
	struct request_log fields = { 0 };
	struct signature_input input;
	char named[SECRET_NAME_SIZE];
	uint64_t cost;

	if (!check_request(r, &x->reply, &fields)) {
		log_request(r, &x->reply, &fields);
		return true;
	}
	x->delivery = delivery_new();
	make_signature_input(r, &input, named);
	if (secrets_check_is_due(x->handler->secrets))
		before_blocking(x);
	if (!x->handler->verify_queue)
		return check_signature(x, &input);
	cost = signature_cost(x->handler->secrets, &input);
	if (cost >= NOTICEABLE_BYTES)
		before_blocking(x);
	if (cost < COSTLY_BYTES)
		return check_signature(x, &input);
	if (matches_recent_secret(x, &input))
		return submit_delivery(x);
	check_in_turn(x, cost);
	return false;
}

void handler_set_stop_deadline(const struct handler *h, int64_t deadline)
{
	queue_set_stop_deadline(h->queue, deadline);
	if (h->verify_queue)
		verify_queue_set_stop_deadline(h->verify_queue, deadline);
}

/*
 * Judges the receiver. "degraded" is 200, because events are still accepted, by
 * the spool.
 */
static void reply_health(const struct handler *h, struct reply *reply)
{
	bool healthy = h->queue && queue_healthy(h->queue);

	if (!healthy && !(h->spool && spool_accepts(h->spool)))
		reply_json(reply, 503, "{\"status\":\"unavailable\"}");
	else if (!healthy || (h->spool && !spool_is_empty(h->spool)))
		reply_json(reply, 200, "{\"status\":\"degraded\"}");
	else
		reply_json(reply, 200, "{\"status\":\"ok\"}");
}

void exchange_init(struct exchange *x, const struct handler *h,
		   void (*on_reply)(struct exchange *x))
{
	*x = (struct exchange){ .handler = h, .on_reply = on_reply };
	request_init(&x->request);
}

void exchange_free(struct exchange *x)
{
	delivery_unref(x->delivery);
	request_free(&x->request);
}

bool handler_handle(struct exchange *x)
{
	const struct handler *h = x->handler;

	x->reply.head = strcmp(x->request.method, "HEAD") == 0;
	if (h->settings && !request_is_health(&x->request))
		return handle_post(x);
	if (h->settings) {
		before_blocking(x);
		reply_health(h, &x->reply);
	} else {
		reply_error(&x->reply, 503,
			    "Receiver is not configured; see its log");
		x->reply.retry = true;
	}
	return true;
}
