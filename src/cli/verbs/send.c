/*
 * send: signs and POSTs an event, the life of a task, or a file, as HumCLI
 * would. cli/probe/lifecycle.c plans the bodies; cli/http.c signs and sends
 * them.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/macros.h"
#include "base/parse.h"
#include "base/random.h"
#include "cli/cli.h"
#include "cli/doctor/answer.h"
#include "cli/http.h"
#include "cli/json.h"
#include "cli/new_secret.h"
#include "cli/probe/lifecycle.h"
#include "cli/signing_keys.h"

#include <stdio.h>
#include <stdlib.h>

struct send {
	struct http_target target;
	struct simulation simulation;
	struct secret_choice secret;
	const char *lifecycle;
	const char *status;
	const char *previous_status;
	const char *body;
	const char *seed_text;
	uint64_t seed;
	bool json;
	bool shuffle;
	bool bad_signature;
	char task_id[32]; /* if none is given */
};

/* Returns the answer's body without the newlines at its end. */
static char *trimmed_body(const struct http_answer *a)
{
	size_t length = a->body.length;

	while (length && a->body.data[length - 1] == '\n')
		length--;
	return xstrndup(length ? a->body.data : "", length);
}

static void print_line(const struct post *p, const struct http_answer *a,
		       const char *body)
{
	struct buf line = { 0 };
	char *page = answer_page(a);

	cli_escape(&line, p->name);
	buf_printf(&line, ": %ld in %lld ms", a->status, (long long)a->ms);
	if (page)
		buf_add(&line, ",", 1);
	if (*body)
		buf_add(&line, " ", 1);
	cli_escape(&line, page ? page : body);
	puts(line.data);
	buf_free(&line);
	free(page);
}

static void print_answer(const struct send *o, const struct post *p,
			 const struct http_answer *a)
{
	char *body = trimmed_body(a);

	if (o->json) {
		const struct sent_event sent = { .name = p->name,
						 .task_id =
							 o->simulation.task_id,
						 .timestamp = p->timestamp,
						 .status = a->status,
						 .ms = a->ms,
						 .body = body,
						 .fault = a->reason };
		char *line = json_sent_line(&sent);

		puts(line);
		free(line);
	} else if (a->status) {
		print_line(p, a, body);
	}
	free(body);
}

static void print_redirect(const struct verb *v, const char *where)
{
	struct buf plain = { 0 };

	cli_escape(&plain, where);
	cli_error(v,
		  "the answer is a redirect to %s, which is not followed: a "
		  "redirected POST loses its body; give HumCLI that URL as "
		  "callback_url if it is yours",
		  plain.data);
	buf_free(&plain);
}

static int judge(const struct verb *v, const struct send *o,
		 const struct http_answer *a)
{
	long expected = o->bad_signature ? 401 : 200;

	if (a->redirect)
		print_redirect(v, a->redirect);
	if (a->status == expected)
		return EX_OK;
	if (o->bad_signature)
		cli_error(v, "a bad signature should be answered 401");
	return EXIT_NEGATIVE;
}

static int post_one(const struct verb *v, const struct send *o, struct http *h,
		    const struct secret *key, const struct post *p,
		    long *status)
{
	const struct http_event event = { .key = key->key,
					  .key_length = key->length,
					  .body = p->body,
					  .length = p->length,
					  .timestamp = p->timestamp,
					  .forged = o->bad_signature };
	struct http_answer answer;
	int code = EX_UNAVAILABLE;
	bool answered = http_post_signed(h, &event, &answer);

	print_answer(o, p, &answer);
	if (answered)
		code = judge(v, o, &answer);
	else
		cli_error(v, "%s: no answer in %lld ms: %s", p->name,
			  (long long)answer.ms, answer.reason);
	*status = answered ? answer.status : 0;
	http_answer_free(&answer);
	return code;
}

/*
 * Returns true if the next event would meet the same fault: nobody answers,
 * the path is wrong, or the secret is.
 */
static bool will_repeat(const struct send *o, long status)
{
	return status == 0 || status == 404 || status == 405 ||
	       (status >= 300 && status < 400) ||
	       ((status == 401 || status == 403) && !o->bad_signature);
}

/*
 * Sends all of them, unless the first fault is one that will repeat; the worst
 * code counts.
 */
static int post_all(const struct verb *v, const struct send *o,
		    const struct plan *plan)
{
	struct signing_keys keys;
	struct http *h = NULL;
	char reason[256];
	int code = signing_keys_open_one(&keys, v, &o->secret);

	if (code != EX_OK)
		goto out;
	h = http_open(&o->target, reason, sizeof(reason));
	if (!h) {
		code = cli_usage_error(v, "can't use '%s': %s", o->target.url,
				       reason);
		goto out;
	}
	for (size_t i = 0; i < plan->count; i++) {
		long status = 0;
		int one = post_one(v, o, h, keys.list, &plan->list[i], &status);

		code = one > code ? one : code;
		if (will_repeat(o, status) && i + 1 < plan->count) {
			cli_error(v,
				  "stopped: %zu more would meet the same fault",
				  plan->count - i - 1);
			break;
		}
	}
out:
	http_close(h);
	signing_keys_close(&keys);
	return code;
}

/* Draws a random number. Returns false if that failed and was reported. */
static bool draw(const struct verb *v, uint64_t *value)
{
	if (random_bytes(value, sizeof(*value)))
		return true;
	cli_error(v, "can't draw random bytes: %m");
	return false;
}

/* Sets the values of HumCLI's documented event where none were given. */
static bool fill_in(const struct verb *v, struct send *o)
{
	struct simulation *s = &o->simulation;
	uint64_t id;

	if (!s->event)
		s->event = "task.status_changed";
	if (!s->task_id) {
		if (!draw(v, &id))
			return false;
		snprintf(o->task_id, sizeof(o->task_id), "task_test_%012llx",
			 (unsigned long long)(id >> 16));
		s->task_id = o->task_id;
	}
	if (!o->status)
		o->status = "SUBMITTED";
	if (!o->previous_status)
		o->previous_status = "IN_PROGRESS";
	else if (!*o->previous_status)
		o->previous_status = NULL;
	return true;
}

static int plan_all(const struct verb *v, struct send *o, struct plan *plan)
{
	struct buf body = { 0 };

	if (o->body) {
		if (!cli_read(v, o->body, &body)) {
			buf_free(&body);
			return EX_NOINPUT;
		}
		plan_bytes(plan, o->body, &body, o->simulation.duplicate);
		return EX_OK;
	}
	if (!fill_in(v, o))
		return EX_OSERR;
	if (!o->lifecycle)
		plan_event(plan, &o->simulation, o->status, o->previous_status);
	else if (!plan_lifecycle(plan, &o->simulation, o->lifecycle))
		return cli_usage_error(
			v,
			"unknown lifecycle '%s': main, rejected-estimate, "
			"disputed or cancelled",
			o->lifecycle);
	return EX_OK;
}

/* Shuffles the plan and prints the seed, so that the order can be repeated. */
static int shuffle(const struct verb *v, struct send *o, struct plan *plan)
{
	if (!o->seed_text && !draw(v, &o->seed))
		return EX_OSERR;
	cli_error(v, "shuffled by --seed %llu", (unsigned long long)o->seed);
	plan_shuffle(plan, o->seed);
	return EX_OK;
}

/* Refuses options that do not go together. Returns EX_OK or EX_USAGE. */
static int check(const struct verb *v, struct send *o)
{
	const struct simulation *s = &o->simulation;

	if (o->body && (o->lifecycle || o->status || o->previous_status ||
			s->event || s->task_id || s->restamp))
		return cli_usage_error(
			v, "--body sends a file as it is; that goes "
			   "with neither an event's values nor "
			   "--lifecycle nor --restamp");
	if (o->lifecycle && (o->status || o->previous_status))
		return cli_usage_error(v,
				       "--lifecycle has its own --status and "
				       "--previous-status");
	if (o->target.cacert && o->target.insecure)
		return cli_usage_error(v,
				       "give --cacert or --insecure, not both");
	if (o->seed_text && !o->shuffle)
		return cli_usage_error(v, "--seed is for --shuffle");
	if (o->seed_text && !parse_u64(o->seed_text, 0, UINT64_MAX, &o->seed))
		return cli_usage_error(v, "--seed '%s' is not a number",
				       o->seed_text);
	return EX_OK;
}

int cmd_send(const struct verb *v, int argc, char **argv)
{
	struct send o = { 0 };
	const struct cli_option options[] = {
		{ "lifecycle", &o.lifecycle, NULL,
		  "main|rejected-estimate|disputed|cancelled",
		  "send all events of a task's life (default: one event)" },
		{ "task-id", &o.simulation.task_id, NULL, "ID",
		  "send an event of this task (default: a new one, task_test_...)" },
		{ "status", &o.status, NULL, "STATUS",
		  "send this status (default: SUBMITTED)" },
		{ "previous-status", &o.previous_status, NULL, "STATUS",
		  "send this previous status; \"\" sends null (default: IN_PROGRESS)" },
		{ "event", &o.simulation.event, NULL, "EVENT",
		  "send this type of event (default: task.status_changed)" },
		{ "body", &o.body, NULL, "FILE",
		  "send the bytes of this file as they are; - is stdin" },
		{ "duplicate", NULL, &o.simulation.duplicate, NULL,
		  "send each event a second time, unchanged" },
		{ "restamp", NULL, &o.simulation.restamp, NULL,
		  "send each event again, stamped 250 ms later" },
		{ "shuffle", NULL, &o.shuffle, NULL,
		  "send in random order, and print the seed" },
		{ "seed", &o.seed_text, NULL, "N",
		  "shuffle in the order of this number (default: a random one)" },
		{ "bad-signature", NULL, &o.bad_signature, NULL,
		  "make every signature wrong by one bit" },
		{ "json", NULL, &o.json, NULL,
		  "print one JSON object per line" },
		{ "cacert", &o.target.cacert, NULL, "FILE",
		  "trust only the certificates in this PEM file" },
		{ "insecure", NULL, &o.target.insecure, NULL,
		  "trust any certificate" },
		{ "secret-file", &o.secret.file, NULL, "FILE",
		  "use the secret in this file, and read no settings" },
		{ "secret-name", &o.secret.name, NULL, "NAME",
		  "use the active secret of this name, and the URL that names it (default: the only one)" },
	};
	struct plan plan = { 0 };
	char *url;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 1,
			 &code))
		return code;
	if (argc < 1)
		return cli_usage_error(v, "the URL is missing");
	url = secret_url(argv[0], o.secret.name ? o.secret.name : "");
	o.target.url = url;
	code = check(v, &o);
	if (code == EX_OK)
		code = plan_all(v, &o, &plan);
	if (code == EX_OK && o.shuffle)
		code = shuffle(v, &o, &plan);
	if (code == EX_OK)
		code = post_all(v, &o, &plan);
	plan_free(&plan);
	free(url);
	return code;
}
