/*
 * Owns libcurl: sets up a handle, POSTs or GETs, and reads the answer. Must not
 * know what the body means. A handle is opened once for a URL; each POST uses a
 * connection of its own, because a reused one could be retried without our
 * knowledge. http_post_signed() adds the headers that HumCLI sends. GETs share
 * a connection.
 */
#include "cli/http.h"

#include "config.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/hmac.h"
#include "base/macros.h"
#include "base/parse.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { BODY_KEPT = 4096 };

struct http {
	CURL *easy;
	char fault[CURL_ERROR_SIZE];
};

/* Where the body goes. */
struct sink {
	struct buf *body;
	size_t max;
	bool is_whole; /* more than max bytes are a fault */
};

/* Checks the scheme itself, because libcurl also knows file: and smtp:. */
static const char *url_fault(const char *url)
{
	CURLU *parts = curl_url();
	char *scheme = NULL;
	const char *fault = NULL;

	if (!parts)
		return "out of memory";
	if (curl_url_set(parts, CURLUPART_URL, url, 0) != CURLUE_OK ||
	    curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK)
		fault = "it is not a URL: that starts with https:// or http://";
	else if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
		fault = "its scheme is not https or http";
	curl_free(scheme);
	curl_url_cleanup(parts);
	return fault;
}

/* Keeps the body. Returns less than it got if the answer is too long. */
static size_t append_body(char *data, size_t size, size_t count, void *context)
{
	struct sink *sink = context;
	size_t length = size * count;
	size_t room = sink->max - sink->body->length;

	if (length > room && sink->is_whole)
		return 0;
	buf_add(sink->body, data, length < room ? length : room);
	return length;
}

/* Returns the header's value, trimmed, if it has this name; NULL otherwise. */
static char *header_value(const char *data, size_t length, const char *name)
{
	size_t start = strlen(name);

	if (length <= start || data[start] != ':' ||
	    strncasecmp(data, name, start) != 0)
		return NULL;
	start++;
	while (start < length && (data[start] == ' ' || data[start] == '\t'))
		start++;
	while (length > start && strchr(" \t\r\n", data[length - 1]))
		length--;
	return xstrndup(data + start, length - start);
}

/* Keeps the headers Date and Retry-After, which is seconds or a time. */
static size_t read_header(char *data, size_t size, size_t count, void *context)
{
	enum { LONGEST_S = 7 * 86400 };
	struct http_answer *a = context;
	size_t length = size * count;
	char *date = header_value(data, length, "Date");
	char *after = header_value(data, length, "Retry-After");
	uint64_t seconds;
	time_t time;

	if (date)
		a->date = max_i64(curl_getdate(date, NULL), 0);
	if (after && parse_u64(after, 0, LONGEST_S, &seconds)) {
		a->retry_after = (int64_t)seconds * 1000;
	} else if (after) {
		time = curl_getdate(after, NULL);
		if (time >= 0)
			a->retry_after = max_i64((int64_t)time * 1000 -
							 wall_clock_us() / 1000,
						 0);
	}
	free(date);
	free(after);
	return length;
}

/*
 * Sets what all requests share. Returns true if all was set; then only may
 * anything be sent.
 */
static bool set_up(struct http *h, const struct http_target *t)
{
	CURL *e = h->easy;
	/* OpenSSL's own variable; the hosting bundle sets it. */
	const char *trusted = t->cacert ? t->cacert : getenv("SSL_CERT_FILE");
	long verify_host = t->insecure ? 0 : 2, verify_peer = !t->insecure;
	int faults = 0;

	faults |= (int)curl_easy_setopt(e, CURLOPT_ERRORBUFFER, h->fault);
	faults |= (int)curl_easy_setopt(e, CURLOPT_URL, t->url);
	faults |= (int)curl_easy_setopt(e, CURLOPT_USERAGENT,
					PACKAGE_NAME "/" PACKAGE_VERSION);
	faults |= (int)curl_easy_setopt(e, CURLOPT_TIMEOUT_MS,
					(long)HTTP_TIMEOUT_MS);
	faults |= (int)curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	/* By HTTP/2 some servers break the stream instead of answering 404. */
	faults |= (int)curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
					(long)CURL_HTTP_VERSION_1_1);
	/*
	 * A connection that is reused could be retried without our knowledge.
	 */
	faults |= (int)curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L);
	faults |= (int)curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, append_body);
	faults |= (int)curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, read_header);
	faults |= (int)curl_easy_setopt(e, CURLOPT_CERTINFO, 1L);
	faults |= (int)curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, verify_peer);
	faults |= (int)curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, verify_host);
	if (trusted)
		faults |= (int)curl_easy_setopt(e, CURLOPT_CAINFO, trusted);
	return !faults;
}

struct http *http_open(const struct http_target *target, char *reason,
		       size_t size)
{
	struct http *h = xcalloc(1, sizeof(*h));
	const char *fault = NULL;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		fault = "libcurl can't be initialised";
	else
		fault = url_fault(target->url);
	if (!fault) {
		h->easy = curl_easy_init();
		if (h->easy && set_up(h, target))
			return h;
		fault = "libcurl does not take its options";
	}
	snprintf(reason, size, "%s", fault);
	http_close(h);
	return NULL;
}

void http_close(struct http *h)
{
	if (!h)
		return;
	curl_easy_cleanup(h->easy);
	curl_global_cleanup();
	free(h);
}

/* Returns what helps. A certificate that is trusted can still be wrong. */
static const char *hint(CURLcode c, const char *fault)
{
	bool untrusted = strstr(fault, "self-signed") ||
			 strstr(fault, "self signed") ||
			 strstr(fault, "local issuer");

	if (c == CURLE_PEER_FAILED_VERIFICATION && untrusted)
		return "; --cacert FILE trusts a certificate of your own";
	if (c == CURLE_OPERATION_TIMEDOUT)
		return "; HumCLI waits no longer than 5 s either";
	return "";
}

static CURLcode perform(struct http *h, struct curl_slist *headers,
			const char *body, size_t length, struct http_answer *a)
{
	struct sink sink = { .body = &a->body, .max = BODY_KEPT };
	CURL *e = h->easy;
	int faults = 0;

	faults |= (int)curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
	faults |= (int)curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE,
					(curl_off_t)length);
	faults |= (int)curl_easy_setopt(e, CURLOPT_POSTFIELDS, body);
	faults |= (int)curl_easy_setopt(e, CURLOPT_WRITEDATA, &sink);
	faults |= (int)curl_easy_setopt(e, CURLOPT_HEADERDATA, a);
	return faults ? CURLE_FAILED_INIT : curl_easy_perform(e);
}

/* Reads when the server's certificate expires: the first of the chain. */
static CURLcode read_expiry(struct http *h, struct http_answer *a)
{
	static const char name[] = "Expire date:";
	struct curl_certinfo *chain = NULL;
	const struct curl_slist *line = NULL;
	CURLcode c = curl_easy_getinfo(h->easy, CURLINFO_CERTINFO, &chain);

	if (c == CURLE_OK && chain && chain->num_of_certs > 0)
		line = chain->certinfo[0];
	for (; line; line = line->next) {
		if (strncmp(line->data, name, sizeof(name) - 1) == 0)
			a->expires = curl_getdate(line->data + sizeof(name) - 1,
						  NULL);
	}
	return c;
}

static CURLcode read_answer(struct http *h, struct http_answer *a)
{
	char *redirect = NULL;
	CURLcode c =
		curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &a->status);

	if (c == CURLE_OK)
		c = curl_easy_getinfo(h->easy, CURLINFO_REDIRECT_URL,
				      &redirect);
	if (c == CURLE_OK && redirect)
		a->redirect = xstrdup(redirect);
	if (c == CURLE_OK)
		c = read_expiry(h, a);
	return c;
}

/*
 * Returns the headers for libcurl; NULL without memory. "Expect:" removes
 * libcurl's own header, because some servers answer it late.
 */
static struct curl_slist *header_list(const char *const *headers)
{
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");

	for (; list && *headers; headers++) {
		struct curl_slist *more = curl_slist_append(list, *headers);

		if (!more)
			curl_slist_free_all(list);
		list = more;
	}
	return list;
}

/*
 * Completes an answer after libcurl's result c; help is what helps. Returns
 * true if there is an answer.
 */
static bool finish(struct http *h, CURLcode c, int64_t start, const char *help,
		   struct http_answer *answer)
{
	answer->ms = monotonic_ms() - start;
	if (c == CURLE_OK)
		c = read_answer(h, answer);
	answer->bad_certificate = c == CURLE_PEER_FAILED_VERIFICATION;
	if (c != CURLE_OK)
		snprintf(answer->reason, sizeof(answer->reason), "%.200s%s",
			 *h->fault ? h->fault : curl_easy_strerror(c), help);
	return c == CURLE_OK;
}

bool http_post(struct http *h, const char *const *headers, const char *body,
	       size_t length, struct http_answer *answer)
{
	struct curl_slist *list = header_list(headers);
	int64_t start = monotonic_ms();
	CURLcode c = CURLE_OUT_OF_MEMORY;
	bool answered;

	*answer = (struct http_answer){ .retry_after = -1 };
	h->fault[0] = '\0';
	if (list)
		c = perform(h, list, body, length, answer);
	answered = finish(h, c, start, hint(c, h->fault), answer);
	curl_slist_free_all(list);
	return answered;
}

bool http_get(struct http *h, const char *url, const char *const *headers,
	      size_t max, int64_t timeout, struct http_answer *answer)
{
	struct curl_slist *list = header_list(headers);
	struct sink sink = { .body = &answer->body,
			     .max = max,
			     .is_whole = true };
	int64_t start = monotonic_ms();
	CURL *e = h->easy;
	CURLcode c = CURLE_OUT_OF_MEMORY;
	const char *help = "";
	int faults = !list;
	bool answered;

	*answer = (struct http_answer){ .retry_after = -1 };
	h->fault[0] = '\0';
	faults |= (int)curl_easy_setopt(e, CURLOPT_HTTPHEADER, list);
	faults |= (int)curl_easy_setopt(e, CURLOPT_HTTPGET, 1L);
	faults |= (int)curl_easy_setopt(e, CURLOPT_URL, url);
	/* A task's id may be "..". */
	faults |= (int)curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
	faults |= (int)curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 0L);
	faults |= (int)curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)timeout);
	faults |= (int)curl_easy_setopt(e, CURLOPT_WRITEDATA, &sink);
	faults |= (int)curl_easy_setopt(e, CURLOPT_HEADERDATA, answer);
	if (!faults)
		c = curl_easy_perform(e);
	if (c == CURLE_PEER_FAILED_VERIFICATION)
		help = hint(c, h->fault);
	answered = finish(h, c, start, help, answer);
	if (c == CURLE_WRITE_ERROR)
		snprintf(answer->reason, sizeof(answer->reason),
			 "the answer is longer than %zu byte%s", max,
			 PLURAL_S(max));
	curl_slist_free_all(list);
	return answered;
}

const char *http_key_fault(const char *url)
{
	CURLU *parts = curl_url();
	char *scheme = NULL, *host = NULL;
	const char *fault = url_fault(url);

	if (!fault && parts &&
	    curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
	    curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
	    curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
	    strcmp(scheme, "https") != 0 && strcmp(host, "localhost") != 0 &&
	    strcmp(host, "127.0.0.1") != 0 && strcmp(host, "[::1]") != 0)
		fault = "without https others could read the key";
	else if (!fault && (!scheme || !host))
		fault = "it names no host";
	curl_free(scheme);
	curl_free(host);
	curl_url_cleanup(parts);
	return fault;
}

bool http_post_signed(struct http *h, const struct http_event *event,
		      struct http_answer *answer)
{
	unsigned char digest[HMAC_BYTES];
	char hex[HMAC_HEX + 1];
	char *signature, *timestamp;
	bool answered;

	hmac_sha256(event->key, event->key_length, event->body, event->length,
		    digest);
	if (event->forged)
		digest[HMAC_BYTES - 1] ^= 1;
	hmac_to_hex(digest, hex);
	signature = xasprintf("X-Signature: %s", hex);
	timestamp = xasprintf("X-Timestamp: %s", event->timestamp);
	answered = http_post(
		h,
		(const char *const[]){ "Content-Type: application/json",
				       signature, timestamp, NULL },
		event->body, event->length, answer);
	free(signature);
	free(timestamp);
	return answered;
}

void http_answer_free(struct http_answer *answer)
{
	buf_free(&answer->body);
	free(answer->redirect);
	*answer = (struct http_answer){ 0 };
}

char *http_url_without_tls(const char *url)
{
	static const char tls[] = "https://";
	size_t length = sizeof(tls) - 1;
	const char *rest = url + length;

	if (strncmp(url, tls, length) != 0 ||
	    memchr(rest, ':', strcspn(rest, "/?#")))
		return NULL;
	return xasprintf("http://%s", rest);
}
