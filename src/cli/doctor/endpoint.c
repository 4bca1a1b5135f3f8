#include "cli/doctor/doctor.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "cli/http.h"
#include "cli/json.h"
#include "config/secrets.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SLOW_MS = 1000, CERTIFICATE_DAYS = 14 };

/*
 * Always the same to the byte: recorded once, and a duplicate from then on.
 * Without a previous status, and with a last one, it is neither a gap nor an
 * open task.
 */
static const struct event_fields test_event = {
	.event = "humcli-webhook.doctor",
	.task_id = "task_humcli_webhook_doctor",
	.status = "COMPLETED",
	.previous_status = NULL,
	.timestamp = "2026-01-01T00:00:00.000Z"
};

/* False: no answer. Both times the answer is to be freed. */
static bool post(struct http *h, const struct secret *secret, bool rightly,
		 struct http_answer *answer)
{
	char *body = json_event_body(&test_event);
	const struct http_event event = { .key = secret->key,
					  .key_length = secret->length,
					  .body = body,
					  .length = strlen(body),
					  .timestamp = test_event.timestamp,
					  .forged = !rightly };
	bool answered = http_post_signed(h, &event, answer);

	free(body);
	return answered;
}

static void check_certificate(struct findings *f, const struct http_answer *a)
{
	int64_t days = (a->expires - wall_clock_us() / 1000000) / 86400;

	if (!a->expires)
		report_finding(f, FINDING_FAILURE, "tls",
			       "HumCLI takes no callback_url but https://",
			       "the URL is not https");
	else
		report_finding(
			f,
			days < CERTIFICATE_DAYS ? FINDING_WARNING : FINDING_OK,
			"tls", "renew the certificate",
			"the certificate holds, for %" PRId64 " days", days);
}

static void check_response_time(struct findings *f, int64_t ms)
{
	report_finding(
		f, ms > SLOW_MS ? FINDING_WARNING : FINDING_OK, "time",
		"HumCLI gives up after 5 s: is PostgreSQL slow, or the web "
		"server short of processes?",
		"answered in %" PRId64 " ms", ms);
}

/* The answer as one short text. */
static void put_answer(struct buf *text, bool answered,
		       const struct http_answer *a)
{
	buf_printf(text, "%s", "");
	if (!answered)
		buf_printf(text, "no answer: %s", a->reason);
	else if (a->redirect)
		buf_printf(text, "%ld, to %s", a->status, a->redirect);
	else
		buf_printf(text, "%ld %.200s", a->status,
			   a->body.data ? a->body.data : "");
	while (text->length && text->data[text->length - 1] == '\n')
		text->data[--text->length] = '\0';
}

static void check_signed(struct findings *f, struct http *h,
			 const struct secret *secret)
{
	struct http_answer answer;
	struct buf text = { 0 };
	bool answered = post(h, secret, true, &answer);

	put_answer(&text, answered, &answer);
	if (answered)
		check_certificate(f, &answer);
	report_finding(f,
		       answered && answer.status == 200 ? FINDING_OK
							: FINDING_FAILURE,
		       "signed",
		       "README's \"Trouble\" says what each answer means; the "
		       "receiver's log and the web server's say why",
		       "%s", text.data);
	if (answered && answer.status == 200)
		check_response_time(f, answer.ms);
	http_answer_free(&answer);
	buf_free(&text);
}

static void check_forged(struct findings *f, struct http *h,
			 const struct secret *secret)
{
	struct http_answer answer;
	struct buf text = { 0 };
	bool answered = post(h, secret, false, &answer);

	put_answer(&text, answered, &answer);
	report_finding(
		f,
		answered && answer.status == 401 ? FINDING_OK : FINDING_FAILURE,
		"forged",
		"a signature that is wrong by one bit must be answered 401: is "
		"it this receiver that answers?",
		"%s", text.data);
	http_answer_free(&answer);
	buf_free(&text);
}

static void check_plain_http(struct findings *f, const char *url,
			     const struct secret *secret)
{
	struct http_target target = { .url = url };
	struct http_answer answer = { 0 };
	struct buf text = { 0 };
	char reason[256];
	struct http *h = http_open(&target, reason, sizeof(reason));
	bool answered = h && post(h, secret, false, &answer);
	bool refused = !answered || answer.status == 403;
	bool taken = answer.status == 401 || answer.status == 200;

	put_answer(&text, answered, &answer);
	/* Who answers 401 read it all: it would have taken a right one. */
	report_finding(
		f,
		refused ? FINDING_OK
		: taken ? FINDING_FAILURE
			: FINDING_WARNING,
		"plain http",
		"refuse it with 403, as the shipped configurations do, and "
		"except this path from redirects: they lose the body",
		"%s", answered ? text.data : "nobody answers there");
	http_answer_free(&answer);
	http_close(h);
	buf_free(&text);
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
		check_signed(f, h, secret);
		check_forged(f, h, secret);
		if (elsewhere)
			check_plain_http(f, elsewhere, secret);
	}
	http_close(h);
	free(elsewhere);
}
