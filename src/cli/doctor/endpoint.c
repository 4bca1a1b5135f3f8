/*
 * Checks a receiver by its URL, from HumCLI's side: POSTs a signed event and a
 * forged one, and the forged one over plain HTTP. answer.c says in words what
 * came back and what fixes it.
 */
#include "cli/doctor/answer.h"
#include "cli/doctor/doctor.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "cli/http.h"
#include "cli/json.h"
#include "config/secrets.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SLOW_MS = 1000, CERTIFICATE_DAYS = 14 };

/*
 * Always the same to the byte: recorded once, and a duplicate from then on.
 * It has no previous status and a last status, so that it is neither a gap nor
 * an open task.
 */
static const struct event_fields test_event = {
	.event = "humcli-webhook.doctor",
	.task_id = "task_test_humcli_webhook_doctor",
	.status = "COMPLETED",
	.previous_status = NULL,
	.timestamp = "2026-01-01T00:00:00.000Z"
};

/* Returns false without an answer. The caller frees the answer both times. */
static bool post(struct http *h, const struct secret *secret, bool forged,
		 struct http_answer *answer)
{
	char *body = json_event_body(&test_event);
	bool answered = http_post_signed(
		h,
		&(const struct http_event){ .key = secret->key,
					    .key_length = secret->length,
					    .body = body,
					    .length = strlen(body),
					    .timestamp = test_event.timestamp,
					    .forged = forged },
		answer);

	free(body);
	return answered;
}

static void check_certificate(struct findings *f, const struct http_answer *a)
{
	int64_t days = (a->expires - wall_clock_us() / 1000000) / 86400;

	if (a->bad_certificate)
		report_finding(f, FINDING_FAILURE, "tls",
			       answer_certificate_remedy(a->reason), "%s",
			       a->reason);
	else if (!a->expires)
		report_finding(f, FINDING_FAILURE, "tls",
			       "HumCLI accepts no callback_url but https://",
			       "the URL is not https");
	else
		report_finding(
			f,
			days < CERTIFICATE_DAYS ? FINDING_WARNING : FINDING_OK,
			"tls", "renew the certificate",
			"the certificate is valid for %" PRId64 " more day%s",
			days, PLURAL_S(days));
}

static void check_response_time(struct findings *f, int64_t ms)
{
	report_finding(
		f, ms > SLOW_MS ? FINDING_WARNING : FINDING_OK, "time",
		"HumCLI waits 5 s: is PostgreSQL slow, or the web server "
		"short of processes?",
		"answered in %" PRId64 " ms", ms);
}

/* Returns false if nothing more can be checked. */
static bool check_signed(struct findings *f, struct http *h,
			 const struct secret *secret)
{
	struct http_answer answer;
	bool answered = post(h, secret, false, &answer);
	bool received = answered && answer.status == 200 &&
			json_is_received(answer.body.data);
	bool trusted = !answer.bad_certificate;
	char *text = answer_text(answered, &answer);

	if (answered || !trusted)
		check_certificate(f, &answer);
	report_finding(f,
		       received	 ? FINDING_OK
		       : trusted ? FINDING_FAILURE
				 : FINDING_SKIPPED,
		       "signed",
		       trusted ? answer_remedy(answered, &answer)
			       : "fix the certificate first",
		       "%s", trusted ? text : "not sent");
	if (received)
		check_response_time(f, answer.ms);
	free(text);
	http_answer_free(&answer);
	return trusted;
}

static void check_forged(struct findings *f, struct http *h,
			 const struct secret *secret)
{
	struct http_answer answer;
	bool answered = post(h, secret, true, &answer);
	bool refused = answered && answer.status == 401;
	char *text = answer_text(answered, &answer);

	report_finding(
		f, refused ? FINDING_OK : FINDING_FAILURE, "forged",
		answered && answer.status != 200
			? answer_remedy(answered, &answer)
			: "a signature that is wrong by one bit must be "
			  "answered 401: is it this receiver that answers?",
		"%s", text);
	free(text);
	http_answer_free(&answer);
}

static void check_plain_http(struct findings *f, const char *url,
			     const struct secret *secret)
{
	struct http_target target = { .url = url };
	struct http_answer answer = { 0 };
	char reason[256];
	struct http *h = http_open(&target, reason, sizeof(reason));
	bool answered = h && post(h, secret, true, &answer);
	bool refused = !answered || answer.status == 403;
	/* An answer of 401 has read the event: it would accept a signed one. */
	bool accepted = answer.status == 401 || answer.status == 200;
	char *text = answer_text(answered, &answer);

	report_finding(
		f,
		refused	   ? FINDING_OK
		: accepted ? FINDING_FAILURE
			   : FINDING_WARNING,
		"plain http",
		"refuse it with 403, as the shipped configurations do, and "
		"except this path from redirects: they lose the body",
		"%s", answered ? text : "no server answers there");
	free(text);
	http_answer_free(&answer);
	http_close(h);
}

void doctor_http(struct findings *f, const struct http_target *target,
		 const struct secret *secret, const char *plain)
{
	char reason[256];
	struct http *h = http_open(target, reason, sizeof(reason));
	char *elsewhere = plain ? xstrdup(plain)
				: http_url_without_tls(target->url);

	if (!h) {
		report_finding(f, FINDING_FAILURE, "url",
			       "give the callback_url", "%s: %s", target->url,
			       reason);
	} else {
		if (check_signed(f, h, secret))
			check_forged(f, h, secret);
		else
			report_finding(f, FINDING_SKIPPED, "forged",
				       "fix the certificate first", "not sent");
		if (elsewhere)
			check_plain_http(f, elsewhere, secret);
	}
	http_close(h);
	free(elsewhere);
}
