/*
 * Owns libcurl: sets up a handle, POSTs, and reads the answer. Must not know
 * what the body means. A handle is opened once for a URL; each POST uses a
 * connection of its own, because a reused one could be retried without our
 * knowledge. http_post_signed() adds the headers that HumCLI sends.
 */
#include "cli/http.h"

#include "config.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/hmac.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BODY_KEPT = 4096 };

struct http {
	CURL *easy;
	char fault[CURL_ERROR_SIZE];
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

static size_t append_body(char *data, size_t size, size_t count, void *context)
{
	struct buf *body = context;
	size_t length = size * count;
	size_t room = BODY_KEPT - body->length;

	buf_add(body, data, length < room ? length : room);
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
	CURL *e = h->easy;
	int faults = 0;

	faults |= (int)curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
	faults |= (int)curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE,
					(curl_off_t)length);
	faults |= (int)curl_easy_setopt(e, CURLOPT_POSTFIELDS, body);
	faults |= (int)curl_easy_setopt(e, CURLOPT_WRITEDATA, &a->body);
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

bool http_post(struct http *h, const char *const *headers, const char *body,
	       size_t length, struct http_answer *answer)
{
	struct curl_slist *list = header_list(headers);
	int64_t start = monotonic_ms();
	CURLcode c = CURLE_OUT_OF_MEMORY;

	*answer = (struct http_answer){ 0 };
	h->fault[0] = '\0';
	if (list)
		c = perform(h, list, body, length, answer);
	answer->ms = monotonic_ms() - start;
	if (c == CURLE_OK)
		c = read_answer(h, answer);
	answer->bad_certificate = c == CURLE_PEER_FAILED_VERIFICATION;
	if (c != CURLE_OK)
		snprintf(answer->reason, sizeof(answer->reason), "%.200s%s",
			 *h->fault ? h->fault : curl_easy_strerror(c),
			 hint(c, h->fault));
	curl_slist_free_all(list);
	return c == CURLE_OK;
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
