#include "handler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "log.h"
#include "verify.h"

/* From accept to the answer at the latest; HumCLI allows 5 s. */
enum { ANSWER_MS = 4500, SPOOL_SHARE_MS = 500 };

/* What the log line of a request tells; NULL is left out. */
struct account {
	const char *outcome;
	const char *why;
	const struct event *event;
	const char *secret_name;
	const char *timestamp_differs;
};

static void log_account(const struct request *r, const struct reply *reply,
			const struct account *a)
{
	char ms[24], status[12];

	snprintf(ms, sizeof(ms), "%lld", (long long)(clock_ms() - r->accepted));
	snprintf(status, sizeof(status), "%d", reply->status);
	log_pairs(reply->status >= 500	 ? LEVEL_ERROR
		  : reply->status >= 400 ? LEVEL_WARNING
					 : LEVEL_INFO,
		  "outcome", a->outcome, "http", status, "why", a->why,
		  "task_id", a->event ? a->event->task_id : NULL, "status",
		  a->event ? a->event->status : NULL, "secret", a->secret_name,
		  "x_timestamp", a->timestamp_differs, "client",
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

static bool copy_event(const struct event *from, struct event *to)
{
	if (!from->task_id)
		return false;
	to->task_id = xstrdup(from->task_id);
	to->status = xstrdup(from->status);
	return true;
}

/* Into the database, else into the spool. Takes d over. */
static enum outcome keep(const struct handler *h, const struct request *r,
			 struct delivery *d)
{
	char signature[HMAC_HEX + 1];
	char *secret_name = xstrdup(d->secret_name);
	const struct spool_entry entry = { .signature = signature,
					   .secret_name = secret_name,
					   .body = r->body,
					   .length = r->length,
					   .received_at = r->received };
	enum outcome outcome;

	memcpy(signature, d->signature, sizeof(signature));
	outcome = recorder_submit(h->recorder, d, database_until(h, r));
	if (outcome == OUTCOME_UNAVAILABLE && h->spool &&
	    spool_put(h->spool, &entry))
		outcome = OUTCOME_SPOOLED;
	free(secret_name);
	return outcome;
}

/* A request whose signature passed: parse it, keep it, say how it went. */
static void take_delivery(const struct handler *h, const struct request *r,
			  struct delivery *d, struct reply *reply)
{
	struct account a = { 0 };
	enum event_verdict verdict = delivery_parse(d, r->body, r->length);
	char *reason = d->reason ? xstrdup(d->reason) : NULL;
	char *secret_name = xstrdup(d->secret_name);
	struct event shown = { 0 };

	d->received_at = r->received;
	if (verdict == EVENT_OK)
		a.timestamp_differs = differing_timestamp(r, &d->event);
	a.event = copy_event(&d->event, &shown) ? &shown : NULL;
	a.why = reason;
	a.secret_name = secret_name;
	reply_outcome(reply, &a, keep(h, r, d), verdict);
	log_account(r, reply, &a);
	event_free(&shown);
	free(secret_name);
	free(reason);
}

static void handle_post(const struct handler *h, const struct request *r,
			struct reply *reply)
{
	struct account a = { 0 };
	struct delivery *d;
	enum verdict verdict;

	if (!acceptable(r, reply, &a)) {
		log_account(r, reply, &a);
		return;
	}
	d = delivery_new();
	verdict = verify_request(h->secrets, r, d->signature, &d->secret_name);
	if (verdict != VERIFY_OK) {
		delivery_free(d);
		reply_error(reply, 401, "Invalid signature");
		a.why = verdict_text(verdict);
		log_account(r, reply, &a);
		return;
	}
	take_delivery(h, r, d, reply);
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

void handle(const struct handler *h, const struct request *r,
	    struct reply *reply)
{
	*reply = (struct reply){ .head = strcmp(r->method, "HEAD") == 0 };
	if (!h->settings) {
		reply_error(reply, 503,
			    "Receiver is not configured; see its log");
		reply->retry = true;
	} else if (!request_is_health(r)) {
		handle_post(h, r, reply);
	} else {
		reply_health(h, reply);
	}
}
