/*
 * A request as plain data: what the gateways fill in and the handler
 * reads. The strings belong to the gateway until its request ends.
 */
#ifndef REQUEST_H
#define REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

enum body_state {
	BODY_COMPLETE,
	BODY_TOO_LARGE, /* over max_body, announced or read */
	BODY_TIMEOUT, /* not complete 4 s after accept */
	BODY_BROKEN /* the stream broke, or its length is not CONTENT_LENGTH */
};

struct request {
	/* Never NULL; "" where the server passed none. */
	const char *method;
	const char *path_info;
	const char *script_name;
	const char *document_uri;
	const char *content_type;
	const char *content_length;
	const char *remote_addr;
	const char *x_timestamp;
	const char *x_signature; /* the first one */
	unsigned signature_count; /* how many there were */

	int64_t accepted_at; /* monotonic_ms() */
	int64_t received; /* wall_clock_us() */

	/* Filled by request_read_body(); NUL-terminated beyond length. */
	char *body;
	size_t length;
	enum body_state state;
	int64_t body_read_at; /* monotonic_ms() */
};

/* The longest time from accept to the last byte of the body. */
enum { BODY_LIMIT_MS = 4000 };

/* All strings "", the clocks started. */
void request_init(struct request *r);
/*
 * Takes one CGI variable, by the name that CGI and FastCGI share (RFC
 * 3875); those we do not know are passed over. The value is kept, not
 * copied.
 */
void request_set(struct request *r, const char *name, const char *value);

/*
 * Reads the body to its end or to a limit, through what the gateway hands
 * in: read_some returns the bytes read, 0 at the end, -1 where the stream
 * broke, -2 where the time was over.
 */
typedef long (*body_read_fn)(void *context, char *data, size_t size);
void request_read_body(struct request *r, size_t max_body,
		       body_read_fn read_some, void *context);
void request_free(struct request *r);

/* GET or HEAD of …/health */
bool request_is_health(const struct request *r) MUST_CHECK;

#endif
