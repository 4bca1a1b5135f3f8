/*
 * The handler: which request gets which reply, and in which order the checks
 * are made. Secrets, queue and spool are fakes, linked in place of the real
 * ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/macros.h"
#include "fake_secrets.h"
#include "responder/handler.h"

static void set(struct request *r, const char *name, const char *value)
{
	request_set(r, name, strlen(name), value);
}

static const char key[] = "whsec_test";

#define GOOD                                                     \
	"{\"event\":\"task.status_changed\",\"task_id\":\"t1\"," \
	"\"status\":\"SUBMITTED\",\"timestamp\":\"2026-02-05T10:30:00Z\"}"

/* The fakes. */

struct queue {
	enum outcome outcome;
	bool healthy;
	bool late; /* never calls the answer */
	unsigned submitted;
	char *reason; /* of the last delivery, as the next two */
	char *task_id;
	char *secret_name;
	int64_t deadline;
};

bool queue_submit(struct queue *q, struct delivery *d, int64_t deadline,
		  outcome_fn answer, void *context)
{
	enum outcome o = d->reason && q->outcome == OUTCOME_RECORDED
				 ? OUTCOME_QUARANTINED
				 : q->outcome;

	q->submitted++;
	q->deadline = deadline;
	free(q->reason);
	free(q->task_id);
	free(q->secret_name);
	q->reason = d->reason ? xstrdup(d->reason) : NULL;
	q->task_id = d->event.task_id ? xstrdup(d->event.task_id) : NULL;
	q->secret_name = xstrdup(d->secret_name);
	delivery_unref(d);
	if (q->late)
		return true;
	if (o == OUTCOME_UNAVAILABLE)
		return false;
	answer(context, o);
	return true;
}

bool queue_healthy(struct queue *q)
{
	return q->healthy;
}

void queue_set_stop_deadline(struct queue *q, int64_t deadline)
{
	q->deadline = deadline;
}

struct spool {
	bool works;
	bool empty;
	unsigned put;
	char *body; /* of the last entry, as the next two */
	char *secret_name;
	int64_t received_at;
};

bool spool_put(struct spool *s, const struct spool_entry *e)
{
	s->put++;
	free(s->body);
	free(s->secret_name);
	s->body = xstrndup(e->body, e->length);
	s->secret_name = xstrdup(e->secret_name);
	s->received_at = e->received_at;
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

/* The table of requests and replies. */

struct row {
	int line;
	const char *method;
	const char *content_type;
	const char *body;
	enum body_state state;
	bool signed_correctly;
	enum outcome outcome;
	int status;
	const char *answer;
	unsigned submitted;
};

#define OK_JSON "{\"received\":true}"
#define JSON "application/json"
#define BAD_SIGNATURE "{\"error\":\"Invalid signature\"}"

static const struct row rows[] = {
	{ __LINE__, "POST", JSON, GOOD, BODY_COMPLETE, true, OUTCOME_RECORDED,
	  200, OK_JSON, 1 },
	{ __LINE__, "POST", "Application/JSON ; charset=utf-8", GOOD,
	  BODY_COMPLETE, true, OUTCOME_RECORDED, 200, OK_JSON, 1 },
	{ __LINE__, "POST", JSON, GOOD, BODY_COMPLETE, true, OUTCOME_DUPLICATE,
	  200, "{\"received\":true,\"duplicate\":true}", 1 },
	{ __LINE__, "POST", JSON, GOOD, BODY_COMPLETE, true,
	  OUTCOME_UNAVAILABLE, 503, "{\"error\":", 1 },
	{ __LINE__, "POST", JSON, GOOD, BODY_COMPLETE, true, OUTCOME_MALFORMED,
	  400, "{\"error\":\"Body is not valid JSON\"}", 1 },
	{ __LINE__, "POST", JSON, GOOD, BODY_COMPLETE, true, OUTCOME_INVALID,
	  422, "{\"error\":", 1 },
	{ __LINE__, "POST", JSON, "{}", BODY_COMPLETE, true, OUTCOME_RECORDED,
	  422, "{\"error\":\"Field event is missing\"}", 1 },
	{ __LINE__, "POST", JSON, "{", BODY_COMPLETE, true, OUTCOME_RECORDED,
	  400, "{\"error\":\"Body is not valid JSON\"}", 1 },
	{ __LINE__, "POST", JSON, "{", BODY_COMPLETE, true, OUTCOME_UNAVAILABLE,
	  503, "{\"error\":", 1 },

	{ __LINE__, "POST", JSON, GOOD, BODY_COMPLETE, false, OUTCOME_RECORDED,
	  401, BAD_SIGNATURE, 0 },
	{ __LINE__, "POST", JSON, "{", BODY_COMPLETE, false, OUTCOME_RECORDED,
	  401, BAD_SIGNATURE, 0 },
	{ __LINE__, "POST", "", GOOD, BODY_COMPLETE, true, OUTCOME_RECORDED,
	  415, "{\"error\":", 0 },
	{ __LINE__, "POST", "application/jsonx", GOOD, BODY_COMPLETE, true,
	  OUTCOME_RECORDED, 415, "{\"error\":", 0 },
	{ __LINE__, "POST", "text/plain", GOOD, BODY_COMPLETE, false,
	  OUTCOME_RECORDED, 415, "{\"error\":", 0 },
	{ __LINE__, "POST", "text/plain", GOOD, BODY_TOO_LARGE, false,
	  OUTCOME_RECORDED, 413, "{\"error\":", 0 },
	{ __LINE__, "POST", JSON, GOOD, BODY_TIMEOUT, false, OUTCOME_RECORDED,
	  408, "{\"error\":", 0 },
	{ __LINE__, "POST", JSON, GOOD, BODY_BROKEN, true, OUTCOME_RECORDED,
	  400, "{\"error\":", 0 },
	{ __LINE__, "GET", JSON, GOOD, BODY_TOO_LARGE, true, OUTCOME_RECORDED,
	  405, "{\"error\":", 0 },
	{ __LINE__, "post", JSON, GOOD, BODY_COMPLETE, true, OUTCOME_RECORDED,
	  405, "{\"error\":", 0 },
};

struct world {
	struct settings settings;
	struct secrets secrets;
	struct queue queue;
	struct spool spool;
	struct handler handler;
};

static void world_init(struct world *w)
{
	*w = (struct world){ 0 };
	w->settings.deadline = 3000;
	w->secrets.set = secret_set_new();
	secret_set_add(w->secrets.set, "main", key, strlen(key));
	w->spool.works = w->spool.empty = true;
	w->handler = (struct handler){ .settings = &w->settings,
				       .secrets = &w->secrets,
				       .queue = &w->queue };
}

static void world_free(struct world *w)
{
	secret_set_free(w->secrets.set);
	free(w->queue.reason);
	free(w->queue.task_id);
	free(w->queue.secret_name);
	free(w->spool.body);
	free(w->spool.secret_name);
}

static void sign(const char *body, char hex[HMAC_HEX + 1])
{
	unsigned char digest[HMAC_BYTES];

	hmac_sha256(key, strlen(key), body, strlen(body), digest);
	hmac_to_hex(digest, hex);
}

static unsigned replies;

static void on_reply(struct exchange *x)
{
	(void)x;
	replies++;
}

/* Gets the reply as a gateway does. */
static void get_reply(struct exchange *x)
{
	replies = 0;
	if (handler_handle(x))
		assert_int_equal(replies, 0);
	else if (replies == 0)
		handler_spool_overdue(x);
	else
		assert_int_equal(replies, 1);
}

static void make_request(struct request *r, const struct row *row,
			 const char *hex)
{
	set(r, "REQUEST_METHOD", row->method);
	set(r, "CONTENT_TYPE", row->content_type);
	set(r, "HTTP_X_SIGNATURE", hex);
	r->body = xstrdup(row->body);
	r->length = strlen(row->body);
	r->state = row->state;
	r->body_read_at = r->accepted_at + 10;
}

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		char hex[HMAC_HEX + 1];
		struct world w;
		struct exchange x;

		print_message("line %d\n", row->line);
		world_init(&w);
		w.queue.outcome = row->outcome;
		sign(row->body, hex);
		if (!row->signed_correctly)
			hex[0] = hex[0] == '0' ? '1' : '0';
		exchange_init(&x, &w.handler, on_reply);
		make_request(&x.request, row, hex);
		get_reply(&x);
		assert_int_equal(x.reply.status, row->status);
		assert_memory_equal(x.reply.body, row->answer,
				    strlen(row->answer));
		assert_int_equal(w.queue.submitted, row->submitted);
		assert_int_equal(x.reply.allow, row->status == 405);
		assert_int_equal(x.reply.retry, row->status == 503);
		if (row->submitted)
			assert_string_equal(w.queue.secret_name, "main");
		exchange_free(&x);
		world_free(&w);
	}
}

static void test_signature_headers(void **state)
{
	char hex[HMAC_HEX + 1], comma[2 * HMAC_HEX + 3];
	struct world w;
	struct exchange x;

	(void)state;
	world_init(&w);
	sign(GOOD, hex);
	/* The right signature twice is refused. */
	exchange_init(&x, &w.handler, on_reply);
	make_request(&x.request, &rows[0], hex);
	set(&x.request, "HTTP_X_SIGNATURE", hex);
	get_reply(&x);
	assert_int_equal(x.reply.status, 401);
	exchange_free(&x);
	strcpy(comma, hex);
	strcat(comma, ", ");
	strcat(comma, hex);
	exchange_init(&x, &w.handler, on_reply);
	make_request(&x.request, &rows[0], comma);
	get_reply(&x);
	assert_int_equal(x.reply.status, 401);
	exchange_free(&x);
	exchange_init(&x, &w.handler, on_reply);
	make_request(&x.request, &rows[0], hex);
	x.request.signature_count = 0;
	get_reply(&x);
	assert_int_equal(x.reply.status, 401);
	exchange_free(&x);
	assert_int_equal(w.queue.submitted, 0);
	world_free(&w);
}

/* A path that names a secret: only that one is tried. */
static void test_secret_by_path(void **state)
{
	static const struct {
		int line;
		const char *path_info, *script_name;
		int status;
	} paths[] = {
		{ __LINE__, "/main", "/humcli", 200 },
		{ __LINE__, "/other", "/humcli", 401 },
		{ __LINE__, "/unknown", "/humcli", 401 },
		{ __LINE__, "/mai", "/humcli", 401 },
		{ __LINE__, "/main/x", "/humcli", 401 },
		{ __LINE__, "/ma in", "/humcli", 401 },
		{ __LINE__, "/", "/humcli", 200 },
		{ __LINE__, "", "/humcli/main/x", 401 },
		{ __LINE__, "", "/humcli/main", 200 },
		{ __LINE__, "", "/humcli/other", 401 },
		{ __LINE__, "", "/humcli/unknown", 401 },
		{ __LINE__, "", "/a/main", 200 },
		{ __LINE__, "", "/a/other", 401 },
		/* The mount has two segments. */
		{ __LINE__, "", "/a/hook", 200 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		char hex[HMAC_HEX + 1];
		struct world w;
		struct exchange x;

		print_message("line %d\n", paths[i].line);
		world_init(&w);
		secret_set_add(w.secrets.set, "other", "x", 1);
		sign(GOOD, hex);
		exchange_init(&x, &w.handler, on_reply);
		make_request(&x.request, &rows[0], hex);
		set(&x.request, "PATH_INFO", paths[i].path_info);
		set(&x.request, "SCRIPT_NAME", paths[i].script_name);
		get_reply(&x);
		assert_int_equal(x.reply.status, paths[i].status);
		if (x.reply.status == 401)
			assert_string_equal(x.reply.body, BAD_SIGNATURE);
		exchange_free(&x);
		world_free(&w);
	}
}

static void test_content_encodings(void **state)
{
	static const struct {
		int line;
		const char *encoding, *type;
		int status;
	} cases[] = {
		{ __LINE__, "", JSON, 200 },
		{ __LINE__, "identity", JSON, 200 },
		{ __LINE__, "Identity", JSON, 200 },
		{ __LINE__, "gzip", JSON, 415 },
		{ __LINE__, "br", JSON, 415 },
		{ __LINE__, "identity, gzip", JSON, 415 },
		{ __LINE__, "identit", JSON, 415 },
		{ __LINE__, "identityx", JSON, 415 },
		{ __LINE__, "gzip", "text/plain", 415 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct row row = rows[0];
		char hex[HMAC_HEX + 1];
		struct world w;
		struct exchange x;
		bool type_first;

		print_message("line %d\n", cases[i].line);
		world_init(&w);
		sign(GOOD, hex);
		row.content_type = cases[i].type;
		exchange_init(&x, &w.handler, on_reply);
		make_request(&x.request, &row, hex);
		set(&x.request, "HTTP_CONTENT_ENCODING", cases[i].encoding);
		get_reply(&x);
		assert_int_equal(x.reply.status, cases[i].status);
		type_first = strcmp(cases[i].type, JSON) != 0;
		if (x.reply.status == 415)
			assert_non_null(strstr(
				x.reply.body, type_first ? "Content-Type"
							 : "Content-Encoding"));
		exchange_free(&x);
		world_free(&w);
	}
}

/* A costly check: its reply is sent by on_reply(), and it can be too late. */
static void test_costly_signature(void **state)
{
	enum { SIZE = 1024 * 1024 };
	static const struct {
		int line;
		bool signed_correctly;
		int64_t deadline;
		int status;
	} cases[] = {
		{ __LINE__, true, 60000, 200 },
		{ __LINE__, false, 60000, 401 },
		{ __LINE__, false, 0, 503 },
		{ __LINE__, true, 0, 503 },
	};
	char *body = xmalloc(SIZE + 1);

	(void)state;
	memset(body, ' ', SIZE);
	memcpy(body, GOOD, strlen(GOOD));
	body[SIZE] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct row row = rows[0];
		char hex[HMAC_HEX + 1];
		struct world w;
		struct exchange x;

		print_message("line %d\n", cases[i].line);
		world_init(&w);
		w.handler.verify_queue = verify_queue_new(1);
		w.settings.deadline = cases[i].deadline;
		row.body = body;
		sign(body, hex);
		if (!cases[i].signed_correctly)
			hex[0] = hex[0] == '0' ? '1' : '0';
		exchange_init(&x, &w.handler, on_reply);
		x.request.accepted_at -= cases[i].deadline ? 0 : 10;
		make_request(&x.request, &row, hex);
		replies = 0;
		assert_false(handler_handle(&x));
		assert_int_equal(replies, 1);
		assert_int_equal(x.reply.status, cases[i].status);
		assert_int_equal(x.reply.retry, cases[i].status == 503);
		exchange_free(&x);
		/* The secret that matched is tried first, out of turn. */
		if (cases[i].status == 200) {
			assert_true(verify_queue_enter(w.handler.verify_queue,
						       &x, 1, 0));
			exchange_init(&x, &w.handler, on_reply);
			make_request(&x.request, &row, hex);
			get_reply(&x);
			assert_int_equal(x.reply.status, 200);
			exchange_free(&x);
		}
		verify_queue_free(w.handler.verify_queue);
		world_free(&w);
	}
	free(body);
}

static void test_deadlines(void **state)
{
	static const struct {
		int line;
		bool spool;
		int64_t deadline, body_ms, expected;
	} times[] = {
		{ __LINE__, false, 3000, 0, 3000 },
		{ __LINE__, false, 3000, 1000, 4000 },
		{ __LINE__, false, 3000, 2000, 4500 },
		{ __LINE__, false, 10000, 0, 4500 },
		{ __LINE__, false, 200, 4000, 4200 },
		{ __LINE__, true, 3000, 0, 2500 },
		{ __LINE__, true, 3000, 2000, 4000 },
		{ __LINE__, true, 1500, 0, 1125 },
		{ __LINE__, true, 200, 0, 150 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		char hex[HMAC_HEX + 1];
		struct world w;
		struct exchange x;

		print_message("line %d\n", times[i].line);
		world_init(&w);
		w.settings.deadline = times[i].deadline;
		w.handler.spool = times[i].spool ? &w.spool : NULL;
		sign(GOOD, hex);
		exchange_init(&x, &w.handler, on_reply);
		make_request(&x.request, &rows[0], hex);
		x.request.body_read_at =
			x.request.accepted_at + times[i].body_ms;
		get_reply(&x);
		assert_int_equal(w.queue.deadline - x.request.accepted_at,
				 times[i].expected);
		exchange_free(&x);
		world_free(&w);
	}
}

static void test_health(void **state)
{
	static const struct {
		bool healthy, spool, empty, works;
		int status;
		const char *body;
	} cases[] = {
		{ true, false, true, false, 200, "{\"status\":\"ok\"}" },
		{ false, false, true, false, 503,
		  "{\"status\":\"unavailable\"}" },
		{ false, true, true, false, 503,
		  "{\"status\":\"unavailable\"}" },
		{ false, true, true, true, 200, "{\"status\":\"degraded\"}" },
		{ true, true, true, false, 200, "{\"status\":\"ok\"}" },
		{ true, true, false, true, 200, "{\"status\":\"degraded\"}" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct world w;
		struct exchange x;

		world_init(&w);
		w.queue.healthy = cases[i].healthy;
		w.handler.spool = cases[i].spool ? &w.spool : NULL;
		w.spool.empty = cases[i].empty;
		w.spool.works = cases[i].works;
		exchange_init(&x, &w.handler, on_reply);
		set(&x.request, "REQUEST_METHOD", "GET");
		set(&x.request, "PATH_INFO", "/health");
		get_reply(&x);
		assert_int_equal(x.reply.status, cases[i].status);
		assert_string_equal(x.reply.body, cases[i].body);
		exchange_free(&x);
		world_free(&w);
	}
}

/* Without the database: the spool, else 503; never a 200 that is not true. */
static void test_spool(void **state)
{
	static const struct {
		int line;
		const char *body;
		enum outcome outcome;
		bool works;
		int status;
		const char *answer;
		unsigned put;
	} cases[] = {
		{ __LINE__, GOOD, OUTCOME_UNAVAILABLE, true, 200,
		  "{\"received\":true,\"spooled\":true}", 1 },
		{ __LINE__, GOOD, OUTCOME_UNAVAILABLE, false, 503,
		  "{\"error\":", 1 },
		{ __LINE__, GOOD, OUTCOME_RECORDED, true, 200, OK_JSON, 0 },
		{ __LINE__, GOOD, OUTCOME_DUPLICATE, true, 200,
		  "{\"received\":true,\"duplicate\":true}", 0 },
		{ __LINE__, "{}", OUTCOME_UNAVAILABLE, true, 422,
		  "{\"error\":\"Field event is missing\"}", 1 },
		{ __LINE__, "{", OUTCOME_UNAVAILABLE, true, 400,
		  "{\"error\":\"Body is not valid JSON\"}", 1 },
		{ __LINE__, "{", OUTCOME_UNAVAILABLE, false, 503,
		  "{\"error\":", 1 },
	};

	(void)state;
	for (size_t n = 0; n < 2 * ARRAY_SIZE(cases); n++) {
		size_t i = n / 2;
		struct row row = rows[0];
		char hex[HMAC_HEX + 1];
		struct world w;
		struct exchange x;

		print_message("line %d\n", cases[i].line);
		world_init(&w);
		w.handler.spool = &w.spool;
		w.spool.works = cases[i].works;
		w.queue.outcome = cases[i].outcome;
		/* Refused by the queue at once, or not recorded in time. */
		w.queue.late = cases[i].outcome == OUTCOME_UNAVAILABLE && n % 2;
		row.body = cases[i].body;
		sign(row.body, hex);
		exchange_init(&x, &w.handler, on_reply);
		make_request(&x.request, &row, hex);
		get_reply(&x);
		assert_int_equal(x.reply.status, cases[i].status);
		assert_memory_equal(x.reply.body, cases[i].answer,
				    strlen(cases[i].answer));
		assert_int_equal(w.spool.put, cases[i].put);
		if (w.spool.put) {
			assert_string_equal(w.spool.body, row.body);
			assert_string_equal(w.spool.secret_name, "main");
			assert_int_equal(w.spool.received_at,
					 x.request.received);
		}
		exchange_free(&x);
		world_free(&w);
	}
}

static unsigned warnings;

static void before_blocking(struct exchange *x)
{
	(void)x;
	warnings++;
}

/* The gateway learns of what may block, and of nothing else. */
static void test_before_blocking(void **state)
{
	enum { SIZE = 64 * 1024 };
	static const struct {
		int line;
		const char *method, *path, *signature;
		bool large, check_is_due, spooled, warned;
	} cases[] = {
		{ __LINE__, "POST", "", NULL, false, false, false, false },
		{ __LINE__, "POST", "", "0", false, false, false, false },
		{ __LINE__, "POST", "", NULL, true, false, false, true },
		{ __LINE__, "POST", "", NULL, false, true, false, true },
		{ __LINE__, "POST", "", NULL, false, false, true, true },
		{ __LINE__, "GET", "/health", NULL, false, false, false, true },
	};
	char *body = xmalloc(SIZE + 1);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct row row = rows[0];
		char hex[HMAC_HEX + 1];
		struct world w;
		struct exchange x;

		print_message("line %d\n", cases[i].line);
		world_init(&w);
		w.handler.verify_queue = verify_queue_new(1);
		w.secrets.check_is_due = cases[i].check_is_due;
		w.queue.outcome = cases[i].spooled ? OUTCOME_UNAVAILABLE
						   : OUTCOME_RECORDED;
		memset(body, ' ', SIZE);
		memcpy(body, GOOD, strlen(GOOD));
		body[cases[i].large ? SIZE : strlen(GOOD)] = '\0';
		row.body = body;
		row.method = cases[i].method;
		sign(body, hex);
		exchange_init(&x, &w.handler, on_reply);
		x.before_blocking = before_blocking;
		make_request(&x.request, &row,
			     cases[i].signature ? cases[i].signature : hex);
		set(&x.request, "PATH_INFO", cases[i].path);
		warnings = 0;
		get_reply(&x);
		assert_int_equal(warnings > 0, cases[i].warned);
		exchange_free(&x);
		verify_queue_free(w.handler.verify_queue);
		world_free(&w);
	}
	free(body);
}

static void test_not_configured(void **state)
{
	static const struct handler none;
	struct exchange x;

	(void)state;
	exchange_init(&x, &none, on_reply);
	set(&x.request, "REQUEST_METHOD", "GET");
	set(&x.request, "PATH_INFO", "/health");
	get_reply(&x);
	assert_int_equal(x.reply.status, 503);
	assert_string_equal(
		x.reply.body,
		"{\"error\":\"Receiver is not configured; see its log\"}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_signature_headers),
		cmocka_unit_test(test_secret_by_path),
		cmocka_unit_test(test_content_encodings),
		cmocka_unit_test(test_costly_signature),
		cmocka_unit_test(test_deadlines),
		cmocka_unit_test(test_health),
		cmocka_unit_test(test_spool),
		cmocka_unit_test(test_before_blocking),
		cmocka_unit_test(test_not_configured),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
