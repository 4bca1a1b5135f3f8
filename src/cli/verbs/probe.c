/*
 * probe: sends the test vectors to a receiver and prints how it answers each.
 * cli/probe/vectors.c knows the vectors and judges the status; this file sends,
 * counts and prints.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/macros.h"
#include "base/random.h"
#include "cli/cli.h"
#include "cli/http.h"
#include "cli/output.h"
#include "cli/probe/vectors.h"
#include "cli/program.h"
#include "cli/signing_keys.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADERS = 16, NOT_FOUND_ENOUGH = 5 };

struct probe {
	const struct verb *verb;
	struct http_target target;
	struct secret_choice secret;
	const char *folder; /* of the vectors */
	const char *plain; /* --http; NULL: http_url_without_tls() */
	bool json;
	char run[VECTOR_RUN + 1];
	const struct secret *key;
	size_t passed, failed, warned;
	size_t answers, not_found; /* how many of the answers were 404 */
};

/* The headers of one POST. */
struct headers {
	char *list[MAX_HEADERS];
	size_t count;
};

static void add_header(void *context, const char *name, const char *value)
{
	struct headers *h = context;

	if (h->count == MAX_HEADERS - 1)
		abort(); /* the files are our own */
	/* With a semicolon libcurl sends a header that is empty. */
	h->list[h->count++] = *value ? xasprintf("%s: %s", name, value)
				     : xasprintf("%s;", name);
}

static void free_headers(struct headers *h)
{
	while (h->count)
		free(h->list[--h->count]);
}

/*
 * POSTs a vector. Returns false if there is no answer. The caller frees the
 * answer after both.
 */
static bool post(const struct probe *p, struct http *h, const struct vector *v,
		 struct http_answer *answer)
{
	struct headers headers = { 0 };
	struct buf body = { 0 }, signature = { 0 };
	bool answered;

	vector_body(v, p->run, &body);
	vector_headers(v, add_header, &headers);
	if (vector_sign(v, p->key->key, p->key->length, &body, &signature))
		add_header(&headers, "X-Signature", signature.data);
	answered = http_post(h, (const char *const *)headers.list, body.data,
			     body.length, answer);
	free_headers(&headers);
	buf_free(&signature);
	buf_free(&body);
	return answered;
}

static void print_table_row(const struct check_result *r)
{
	struct buf line = { 0 };
	bool red = strcmp(r->result, "FAIL") == 0 && output_has_colours();
	char status[24] = "-";

	if (r->status)
		snprintf(status, sizeof(status), "%ld", r->status);
	buf_printf(&line, "%-10s  ", r->group);
	cli_escape(&line, r->name);
	printf("%s%-5s%s %-36s %4s %6" PRId64 " ms", red ? OUTPUT_RED : "",
	       r->result, red ? OUTPUT_PLAIN : "", line.data, status, r->ms);
	buf_free(&line);
	if (r->fault) {
		cli_escape(&line, r->fault);
		printf("  expected %s: %s", r->expected, line.data);
		buf_free(&line);
	}
	putchar('\n');
}

/* Counts a row and prints it. must: HumCLI's documentation demands it. */
static void report(struct probe *p, struct check_result *r, bool must)
{
	char *line;

	if (!r->fault) {
		r->result = "ok";
		p->passed++;
	} else if (must) {
		r->result = "FAIL";
		p->failed++;
	} else {
		r->result = "warn";
		p->warned++;
	}
	if (!p->json) {
		print_table_row(r);
		return;
	}
	line = check_result_json(r);
	puts(line);
	free(line);
}

static void judge(struct probe *p, const struct vector *v, bool answered,
		  const struct http_answer *a)
{
	struct buf expected = { 0 }, fault = { 0 };
	struct check_result row = { .group = v->group,
				    .name = v->name,
				    .why = v->why,
				    .status = answered ? a->status : 0,
				    .ms = a->ms };

	vector_answers(v, &expected);
	row.expected = expected.data;
	if (!answered)
		buf_printf(&fault, "no answer: %s", a->reason);
	else if (a->redirect)
		buf_printf(&fault,
			   "a redirect to %s, where a POST loses its "
			   "body",
			   a->redirect);
	else if (!vector_accepts(v, a->status))
		buf_printf(&fault, "%s", v->why);
	row.fault = fault.data;
	report(p, &row, v->must);
	buf_free(&expected);
	buf_free(&fault);
}

/*
 * Judges the answer without TLS: accepted is a failure, a redirect a warning.
 */
static void judge_plain(struct probe *p, bool answered,
			const struct http_answer *a)
{
	struct check_result row = { .group = "https",
				    .name = "plain-http",
				    .expected = "4xx or nobody",
				    .why = "HumCLI asks for HTTPS; without "
					   "it anybody in between could read "
					   "and replay deliveries",
				    .status = answered ? a->status : 0,
				    .ms = a->ms };
	bool refused = !answered || (a->status >= 400 && a->status < 500);

	if (answered && a->redirect)
		row.fault = "a redirect, where a POST loses its body";
	else if (!refused)
		row.fault = "it is not refused";
	report(p, &row, !a->redirect);
}

static int probe_plain(struct probe *p, const struct vector *v)
{
	char *url = p->plain ? xstrdup(p->plain)
			     : http_url_without_tls(p->target.url);
	char reason[256];
	struct http_target target = { .url = url };
	struct http_answer answer;
	struct http *h;

	if (!url)
		return EX_OK;
	h = http_open(&target, reason, sizeof(reason));
	if (h) {
		judge_plain(p, post(p, h, v, &answer), &answer);
		http_answer_free(&answer);
		http_close(h);
	}
	free(url);
	return h ? EX_OK
		 : cli_usage_error(p->verb, "can't use --http: %s", reason);
}

static void probe_scheme(struct probe *p)
{
	bool plain = strncmp(p->target.url, "https://", 8) != 0;
	struct check_result row = {
		.group = "https",
		.name = "url",
		.expected = "https://",
		.why = "HumCLI takes no other callback_url",
		.fault = plain ? "HumCLI takes no other callback_url" : NULL
	};

	report(p, &row, true);
}

static int probe_all(struct probe *p, struct http *h, const struct vectors *all)
{
	struct http_answer answer;
	bool answered = false;

	for (size_t i = 0; i < all->count; i++) {
		const struct vector *v = &all->list[i];
		bool now = post(p, h, v, &answer);

		p->answers += now;
		p->not_found += now && answer.status == 404;
		/*
		 * If nobody answers the first one, nobody answers the others.
		 */
		if (i == 0 && !now)
			cli_error(p->verb, "no answer in %" PRId64 " ms: %s",
				  answer.ms, answer.reason);
		else
			judge(p, v, now, &answer);
		answered = answered || now;
		http_answer_free(&answer);
		if (!answered)
			return EX_UNAVAILABLE;
		if (p->answers == NOT_FOUND_ENOUGH &&
		    p->not_found == p->answers) {
			cli_error(p->verb,
				  "the first %d deliveries were all answered "
				  "404: is the path in the URL right?",
				  NOT_FOUND_ENOUGH);
			return EXIT_NEGATIVE;
		}
	}
	probe_scheme(p);
	return probe_plain(p, &all->list[0]);
}

static int probe_with(struct probe *p, const struct vectors *all)
{
	struct signing_keys keys;
	struct http *h = NULL;
	char reason[256];
	int code = signing_keys_open_one(&keys, p->verb, &p->secret);

	if (code != EX_OK)
		goto out;
	p->key = keys.list;
	h = http_open(&p->target, reason, sizeof(reason));
	if (!h) {
		code = cli_usage_error(p->verb, "can't use '%s': %s",
				       p->target.url, reason);
		goto out;
	}
	code = probe_all(p, h, all);
	if (code != EX_OK)
		goto out;
	if (!p->json)
		printf("\n%zu passed, %zu failed, %zu warnings\n", p->passed,
		       p->failed, p->warned);
	code = p->failed ? EXIT_NEGATIVE : EX_OK;
out:
	http_close(h);
	signing_keys_close(&keys);
	return code;
}

static int load_and_probe(struct probe *p)
{
	char *folder = p->folder ? xstrdup(p->folder)
				 : cli_data_path("vectors");
	struct buf errors = { 0 };
	struct vectors all;
	uint64_t drawn;
	int code;

	if (!random_bytes(&drawn, sizeof(drawn))) {
		cli_error(p->verb, "can't draw random bytes: %s",
			  strerror(errno));
		code = EX_OSERR;
		goto out;
	}
	/*
	 * Exactly VECTOR_RUN characters; purge --tests finds the task by
	 * "test_".
	 */
	snprintf(p->run, sizeof(p->run), "test_%07" PRIx64, drawn >> 36);
	if (vectors_load(&all, folder, &errors)) {
		code = probe_with(p, &all);
	} else {
		(void)cli_config_errors(p->verb, &errors);
		code = EX_NOINPUT;
	}
	vectors_free(&all);
	buf_free(&errors);
out:
	free(folder);
	return code;
}

int cmd_probe(const struct verb *v, int argc, char **argv)
{
	struct probe p = { .verb = v };
	const struct cli_option options[] = {
		{ "json", NULL, &p.json, NULL,
		  "print one JSON object per line" },
		{ "vectors", &p.folder, NULL, "FOLDER",
		  "send the vectors of this folder (default: those installed)" },
		{ "http", &p.plain, NULL, "URL",
		  "try this URL without TLS (default: the same URL with http://)" },
		{ "cacert", &p.target.cacert, NULL, "FILE",
		  "trust only the certificates in this PEM file" },
		{ "insecure", NULL, &p.target.insecure, NULL,
		  "trust any certificate" },
		{ "secret-file", &p.secret.file, NULL, "FILE",
		  "use the secret in this file, and read no settings" },
		{ "secret-name", &p.secret.name, NULL, "NAME",
		  "use the active secret of this name (default: the only one)" },
	};
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 1,
			 &code))
		return code;
	if (argc < 1)
		return cli_usage_error(v, "the URL is missing");
	if (p.target.cacert && p.target.insecure)
		return cli_usage_error(v,
				       "give --cacert or --insecure, not both");
	p.target.url = argv[0];
	return load_and_probe(&p);
}
