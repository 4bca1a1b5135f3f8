/*
 * POSTs one body at a time, each on a connection of its own, within the 5 s
 * that HumCLI allows; or GETs. The only file that knows libcurl.
 */
#ifndef HTTP_H
#define HTTP_H

#include "base/buf.h"
#include "base/macros.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_TIMEOUT_MS = 5000 };

struct http_target {
	const char *url; /* http or https */
	const char *cacert; /* a file of certificates to trust, or NULL */
	bool insecure; /* accept any certificate */
};

struct http;

/*
 * Prepares POSTs to a URL and sends nothing yet. Returns NULL if the URL can't
 * be used, with the reason in reason.
 */
struct http *http_open(const struct http_target *target, char *reason,
		       size_t size) MUST_CHECK;
void http_close(struct http *h);

struct http_answer {
	long status;
	struct buf body; /* of a POST its first 4 KiB, of a GET all of it */
	char *redirect; /* the redirect's target, or NULL; never followed */
	int64_t expires; /* of the certificate, s since 1970; 0: no TLS */
	int64_t ms;
	int64_t date; /* the header Date, s since 1970; 0: none */
	int64_t retry_after; /* ms from now on; -1: none */
	char reason[256]; /* why there is no answer */
	bool bad_certificate; /* the reason is the server's certificate */
};

/*
 * POSTs a body. headers ends in NULL; each is "Name: value". Returns true if
 * there is an answer; false if there is none, with answer->reason set. The
 * caller calls http_answer_free() after both.
 */
bool http_post(struct http *h, const char *const *headers, const char *body,
	       size_t length, struct http_answer *answer) MUST_CHECK;

/*
 * GETs a URL within timeout ms, otherwise as http_post(). An answer of more
 * than max bytes counts as none. Redirects are not followed.
 */
bool http_get(struct http *h, const char *url, const char *const *headers,
	      size_t max, int64_t timeout,
	      struct http_answer *answer) MUST_CHECK;
/*
 * Returns why a key must not be sent to a URL: others could read it, because it
 * goes without TLS to another machine. Returns NULL if it may be sent.
 */
const char *http_key_fault(const char *url) MUST_CHECK;

/* An event as HumCLI POSTs it. */
struct http_event {
	const void *key; /* the secret */
	size_t key_length;
	const char *body;
	size_t length;
	const char *timestamp; /* X-Timestamp */
	bool forged; /* the signature is wrong by one bit */
};

/* Signs an event and POSTs it; otherwise as http_post(). */
bool http_post_signed(struct http *h, const struct http_event *event,
		      struct http_answer *answer) MUST_CHECK;
void http_answer_free(struct http_answer *answer);

/*
 * Returns the same URL without TLS; NULL if it names a port, because the port
 * without TLS is unknown then. The caller frees it.
 */
char *http_url_without_tls(const char *url) MUST_CHECK;

#endif
