/*
 * A whole request: parameters, and a body in pieces as a gateway reads it. The
 * reply is held against what reached the queue and the spool.
 *
 * Input: a byte each for the queue's outcome, the spool, the size of the
 * pieces and how the stream ends; lines NAME=value; an empty line; the body.
 * The value "@" stands for the right signature.
 */
#include "fuzz.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "responder/handler.h"

enum { MAX_BODY = 2048, MAX_PARAMETERS = 64 };

struct spool {
	bool works;
	bool empty;
	const struct request *request;
	const char *body; /* as it was sent */
	unsigned kept;
};

bool spool_put(struct spool *s, const struct spool_entry *e)
{
	char hex[HMAC_HEX + 1];

	fuzz_sign(e->body, e->length, hex);
	CHECK(strcmp(hex, e->signature) == 0);
	CHECK(strcmp(e->secret_name, "main") == 0);
	CHECK(e->length == s->request->length &&
	      memcmp(e->body, s->body, e->length) == 0);
	s->kept += s->works;
	return s->works;
}

bool spool_accepts(struct spool *s)
{
	return s->works;
}

bool spool_is_empty(struct spool *s)
{
	return s->empty;
}

struct stream {
	const char *data;
	size_t left;
	size_t piece;
	long end; /* 0, -1 or -2 */
};

static long read_some(void *context, char *data, size_t size)
{
	struct stream *s = context;
	size_t n = s->left < s->piece ? s->left : s->piece;

	if (n > size)
		n = size;
	if (n == 0)
		return s->end;
	memcpy(data, s->data, n);
	s->data += n;
	s->left -= n;
	return (long)n;
}

struct world {
	struct settings settings;
	struct queue queue;
	struct spool spool;
	struct handler handler;
	char *names[MAX_PARAMETERS];
	char *values[MAX_PARAMETERS];
	size_t count;
	struct stream stream;
	char *body;
	char signature[HMAC_HEX + 1];
};

static void take_parameters(struct world *w, struct input *in)
{
	char *line;

	while (w->count < MAX_PARAMETERS && (line = input_line(in, '\n'))) {
		char *equals = strchr(line, '=');

		if (*line == '\0') {
			free(line);
			return;
		}
		/* Copies, so that reading a byte too far is a finding. */
		w->names[w->count] = xstrndup(
			line, equals ? (size_t)(equals - line) : strlen(line));
		w->values[w->count++] = xstrdup(equals ? equals + 1 : "");
		free(line);
	}
}

static void world_init(struct world *w, struct input *in)
{
	uint8_t outcome = input_byte(in), spool = input_byte(in);
	uint8_t piece = input_byte(in), end = input_byte(in);

	*w = (struct world){ 0 };
	w->settings.deadline = 3000;
	w->settings.max_body = MAX_BODY;
	w->queue.outcome = (enum outcome)(outcome % 7);
	/* The handler alone reports that an event was spooled. */
	if (w->queue.outcome == OUTCOME_SPOOLED)
		w->queue.outcome = OUTCOME_UNAVAILABLE;
	w->spool.works = spool & 1;
	w->spool.empty = spool & 2;
	w->handler = (struct handler){
		.settings = spool & 8 ? NULL : &w->settings,
		.secrets = fuzz_secrets(),
		.queue = &w->queue,
		.spool = spool & 4 ? &w->spool : NULL,
	};
	take_parameters(w, in);
	w->stream.left = in->left;
	w->stream.piece = (size_t)piece * 64 + 1;
	w->stream.end = end < 192 ? 0 : end < 224 ? -1 : -2;
	w->body = input_rest(in);
	w->stream.data = w->body;
	fuzz_sign(w->body, w->stream.left, w->signature);
}

static void world_free(struct world *w)
{
	for (size_t i = 0; i < w->count; i++) {
		free(w->names[i]);
		free(w->values[i]);
	}
	free(w->body);
}

static void fill(struct world *w, struct request *r)
{
	for (size_t i = 0; i < w->count; i++)
		request_set(r, w->names[i], strlen(w->names[i]),
			    strcmp(w->values[i], "@") == 0 ? w->signature
							   : w->values[i]);
}

/* Checks that each POST with a 200 was recorded or spooled. */
static void check_kept(const struct world *w, const struct reply *reply)
{
	bool recorded = w->queue.taken == 1 &&
			(w->queue.outcome == OUTCOME_RECORDED ||
			 w->queue.outcome == OUTCOME_DUPLICATE);

	CHECK(w->queue.taken <= 1 && w->spool.kept <= w->queue.taken);
	if (reply->status == 200)
		CHECK(recorded || w->spool.kept == 1);
	if (reply->status == 400 || reply->status == 422)
		CHECK(!w->queue.taken ||
		      w->queue.outcome != OUTCOME_UNAVAILABLE || w->spool.kept);
	/* queue_submit() has checked that it was signed. */
	CHECK((w->queue.taken == 1) ==
	      (reply->status == 200 || reply->status == 422 ||
	       (reply->status == 503 && w->handler.settings) ||
	       (reply->status == 400 && w->queue.taken)));
}

static void check_post(const struct world *w, const struct request *r,
		       const struct reply *reply)
{
	if (!w->handler.settings) {
		CHECK(reply->status == 503 && !w->queue.taken);
		return;
	}
	check_kept(w, reply);
	CHECK(reply->allow == (reply->status == 405));
	if (strcmp(r->method, "POST") != 0)
		CHECK(reply->status == 405);
	if (w->queue.taken) {
		CHECK(r->state == BODY_COMPLETE && r->signature_count == 1);
		CHECK(strcmp(r->method, "POST") == 0);
		CHECK(r->length <= MAX_BODY);
	}
}

static void check_reply(const struct reply *reply)
{
	struct buf out = { 0 };
	char first[64];
	int length =
		snprintf(first, sizeof(first), "Status: %d ", reply->status);
	cJSON *root = cJSON_Parse(reply->body);

	CHECK(cJSON_IsObject(root));
	cJSON_Delete(root);
	reply_render(reply, &out);
	CHECK(strncmp(out.data, first, (size_t)length) == 0);
	CHECK(strstr(out.data, "\r\n\r\n"));
	CHECK(out.length < 8192); /* one write of libfcgi */
	buf_free(&out);
}

/* Checks that a request is one line in the log. */
static void check_log(struct memory_log *log, bool line)
{
	char *text = memory_log_take(log);
	const char *end = strchr(text, '\n');

	CHECK(line == (*text != '\0'));
	CHECK(!line || (end && end[1] == '\0'));
	for (const char *p = text; *p; p++)
		CHECK((*p >= ' ' && *p <= '~') || p == end);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct memory_log log = { -1 };
	struct input in = { data, size };
	struct world w;
	struct exchange x;
	struct request *r = &x.request;
	bool health, at_once;

	if (log.fd < 0)
		memory_log_open(&log);
	world_init(&w, &in);
	exchange_init(&x, &w.handler, fuzz_answered);
	fill(&w, r);
	w.spool.request = r;
	w.spool.body = w.body;
	if (strcmp(r->method, "POST") == 0 && w.handler.settings)
		request_read_body(r, MAX_BODY, read_some, &w.stream);
	at_once = handler_handle(&x);
	CHECK(at_once ==
	      !(w.queue.taken && w.queue.outcome != OUTCOME_UNAVAILABLE));
	health = request_is_health(r) && w.handler.settings;
	if (health)
		CHECK(!w.queue.taken &&
		      (x.reply.status == 200 || x.reply.status == 503));
	else
		check_post(&w, r, &x.reply);
	check_reply(&x.reply);
	check_log(&log, !health && w.handler.settings);
	exchange_free(&x);
	world_free(&w);
	return 0;
}
