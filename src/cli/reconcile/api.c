/*
 * Owns the two questions to HumCLI's API, the pauses between attempts, and the
 * limits of a run. Must not know the database. The key goes into one header and
 * nowhere else; http.c follows no redirect with it.
 */
#include "cli/reconcile/api.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/random.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PAGE = 100, /* the documented maximum */
	OVERLAP = 10, /* tasks that two pages share */
	REREADS = 3, /* of a list whose total changes */
	ATTEMPTS = 4,
	PAUSE_MS = 1000, /* before the second attempt; doubles each time */
	REQUEST_MS = 15000,
	REQUESTS = 2000,
	ANSWER_BYTES = 4 << 20
};

struct api {
	struct http *http;
	char *base; /* without a slash at its end */
	int64_t deadline; /* ms, monotonic */
	unsigned requests;
};

struct api *api_open(const char *base, const char *cacert, int64_t deadline,
		     char *reason, size_t size)
{
	struct http_target target = { .url = base, .cacert = cacert };
	const char *fault = http_key_fault(base);
	size_t length = strlen(base);
	struct http *http;
	struct api *a;

	if (fault) {
		snprintf(reason, size, "%s", fault);
		return NULL;
	}
	http = http_open(&target, reason, size);
	if (!http)
		return NULL;
	while (length && base[length - 1] == '/')
		length--;
	a = xcalloc(1, sizeof(*a));
	a->http = http;
	a->base = xstrndup(base, length);
	a->deadline = deadline;
	return a;
}

void api_close(struct api *a)
{
	if (!a)
		return;
	http_close(a->http);
	free(a->base);
	free(a);
}

unsigned api_requests(const struct api *a)
{
	return a->requests;
}

bool api_is_exhausted(const struct api *a)
{
	return a->requests >= REQUESTS || monotonic_ms() >= a->deadline;
}

/*
 * Returns the pause before the next attempt: as long as the server wishes, else
 * twice the last one; a random half keeps many clients apart.
 */
static int64_t pause_before(unsigned attempt, int64_t retry_after)
{
	int64_t pause = (int64_t)PAUSE_MS << attempt;
	uint64_t drawn = 0;

	if (!random_bytes(&drawn, sizeof(drawn)))
		drawn = (uint64_t)wall_clock_us();
	pause = pause / 2 + (int64_t)(drawn % (uint64_t)(pause / 2));
	return retry_after >= 0 ? retry_after + pause / 2 : pause;
}

/* Says what an answer of no use means, and what helps. */
static char *explain(const struct secret *key, const struct http_answer *answer)
{
	static const struct {
		long status;
		const char *text;
	} meanings[] = {
		{ 401, "HumCLI does not know the key; replace the file" },
		{ 403,
		  "the key may not do this; make one that may read tasks" },
		{ 404, "the task does not exist, or another agent owns it" },
		{ 410, "the task's deadline has passed; HumCLI tells no more" },
		{ 429, "too many requests; run it less often" },
	};
	char *error = error_answer_text(&answer->body);
	const char *meaning = answer->status >= 500
				      ? "HumCLI has a fault; the next run "
					"tries again"
				      : "see the API's address";
	char *text;

	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
		if (meanings[i].status == answer->status)
			meaning = meanings[i].text;
	}
	if (answer->redirect)
		text = xasprintf("key %s: %ld, a redirect to %s, which is not "
				 "followed with a key; fix HUMCLI_WEBHOOK_API",
				 key->name, answer->status, answer->redirect);
	else
		text = xasprintf("key %s: %ld%s%s; %s", key->name,
				 answer->status, *error ? " " : "", error,
				 meaning);
	free(error);
	return text;
}

static bool is_refusal(long status)
{
	return status == 401 || status == 403 || status == 404 || status == 410;
}

/*
 * Replaces the key by asterisks in a part of an answer, because answers go into
 * the log and the database. A very short key would match other words.
 */
static void hide_key(const struct secret *key, char *data, size_t length)
{
	enum { LEAST = 6 };
	char *at = data;

	if (!data || key->length < LEAST)
		return;
	while ((at = memmem(at, length - (size_t)(at - data), key->key,
			    key->length)))
		memset(at, '*', key->length);
}

/* Sends one request. Returns true if there is an answer to judge. */
static bool send_once(struct api *a, const struct secret *key, const char *url,
		      struct http_answer *answer)
{
	int64_t left = a->deadline - monotonic_ms();
	char *header = xasprintf("X-API-Key: %.*s", (int)key->length,
				 (const char *)key->key);
	bool answered;

	a->requests++;
	answered = http_get(a->http, url,
			    (const char *const[]){ "Accept: application/json",
						   header, NULL },
			    ANSWER_BYTES, max_i64(min_i64(REQUEST_MS, left), 1),
			    answer);
	explicit_bzero(header, strlen(header));
	free(header);
	hide_key(key, answer->body.data, answer->body.length);
	hide_key(key, answer->redirect,
		 answer->redirect ? strlen(answer->redirect) : 0);
	return answered;
}

/* Returns true if asking again may help. */
static bool may_pass(bool answered, const struct http_answer *answer)
{
	if (!answered)
		return !answer->bad_certificate &&
		       !strstr(answer->reason, "longer than");
	return answer->status == 429 || answer->status >= 500;
}

/* Asks, several times if that may help. Results are as of api_task(). */
static enum api_result ask(struct api *a, const struct secret *key,
			   const char *url, struct http_answer *answer,
			   char **reason)
{
	*answer = (struct http_answer){ 0 };
	*reason = NULL;
	for (unsigned attempt = 0; attempt < ATTEMPTS; attempt++) {
		bool answered;
		int64_t pause;

		if (api_is_exhausted(a))
			break;
		http_answer_free(answer);
		free(*reason);
		*reason = NULL;
		answered = send_once(a, key, url, answer);
		if (answered && answer->status == 200)
			return API_ANSWERED;
		*reason = answered ? explain(key, answer)
				   : xasprintf("no answer of HumCLI: %s",
					       answer->reason);
		if (answered && is_refusal(answer->status))
			return API_REFUSED;
		if (!may_pass(answered, answer))
			return API_FAILED;
		pause = pause_before(attempt, answer->retry_after);
		if (attempt == ATTEMPTS - 1 ||
		    monotonic_ms() + pause >= a->deadline)
			break;
		(void)poll(NULL, 0, (int)pause);
	}
	if (!*reason)
		*reason = xstrdup("the run has used its time or its requests; "
				  "the next run goes on");
	return API_FAILED;
}

/* Asks for one page and parses it. */
static enum api_result ask_page(struct api *a, const struct secret *key,
				const char *status, uint64_t offset,
				struct page *page, char **reason)
{
	char *url = xasprintf("%s/tasks?status=%s&limit=%d&offset=%" PRIu64,
			      a->base, status, PAGE, offset);
	struct http_answer answer;
	enum api_result result = ask(a, key, url, &answer, reason);
	char fault[128];

	*page = (struct page){ 0 };
	if (result == API_ANSWERED &&
	    !page_parse(&answer.body, page, fault, sizeof(fault))) {
		*reason = xasprintf("key %s: %s", key->name, fault);
		result = API_FAILED;
	}
	if (result != API_ANSWERED)
		page_free(page);
	http_answer_free(&answer);
	free(url);
	return result;
}

/* Moves the tasks of a page to the end of another list. */
static void move_tasks(struct page *to, struct page *from)
{
	for (size_t i = 0; i < from->count; i++) {
		to->list = array_grow(to->list, to->count, sizeof(*to->list));
		to->list[to->count++] = from->list[i];
	}
	free(from->list);
	*from = (struct page){ 0 };
}

/*
 * Reads the pages once. *moved: the total changed between two pages, so that a
 * task may have slipped from one to the other.
 */
static enum api_result read_pages(struct api *a, const struct secret *key,
				  const char *status, struct page *told,
				  bool *moved, char **reason)
{
	uint64_t offset = 0, total = 0;

	*moved = false;
	for (bool first = true;; first = false) {
		struct page page;
		enum api_result result =
			ask_page(a, key, status, offset, &page, reason);
		size_t count = page.count;
		uint64_t seen = offset + count;

		if (result != API_ANSWERED)
			return result;
		*moved = *moved || (!first && page.total != total);
		total = page.total;
		move_tasks(told, &page);
		/* Fewer than promised: the total has changed. */
		if (seen < total && count <= OVERLAP)
			*moved = true;
		if (seen >= total || count <= OVERLAP)
			return API_ANSWERED;
		offset = seen - OVERLAP;
	}
}

/* Returns text as a part of a URL; the caller frees it. */
static char *escape_url(const char *text)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "abcdefghijklmnopqrstuvwxyz0123456789-_~";
	struct buf b = { 0 };

	for (; *text; text++) {
		if (strchr(plain, *text))
			buf_add(&b, text, 1);
		else
			buf_printf(&b, "%%%02X", (unsigned char)*text);
	}
	return b.data ? b.data : xstrdup("");
}

enum api_result api_list(struct api *a, const struct secret *key,
			 const char *status, struct page *told, char **reason)
{
	char *escaped = escape_url(status);
	enum api_result result = API_ANSWERED;
	bool moved = true;

	*reason = NULL;
	for (int i = 0; i <= REREADS && moved && result == API_ANSWERED; i++)
		result = read_pages(a, key, escaped, told, &moved, reason);
	if (result == API_ANSWERED && moved) {
		*reason = xasprintf("key %s: the list of %s changes while it "
				    "is read; the next run tries again",
				    key->name, status);
		result = API_FAILED;
	}
	free(escaped);
	return result;
}

enum api_result api_task(struct api *a, const struct secret *key,
			 const char *task_id, struct http_answer *answer,
			 char **reason)
{
	char *escaped = escape_url(task_id);
	char *url = xasprintf("%s/tasks/%s", a->base, escaped);
	enum api_result result = ask(a, key, url, answer, reason);

	free(escaped);
	free(url);
	return result;
}
