/*
 * A reply as plain data, and its bytes on the wire.
 */
#ifndef REPLY_H
#define REPLY_H

#include <stdbool.h>

#include "base/buf.h"

struct reply {
	int status;
	char body[512]; /* JSON */
	bool head; /* answer to HEAD: the headers alone */
	bool allow; /* 405: Allow: POST */
	bool retry; /* 503: Retry-After: 30 */
};

/* {"error":"<sentence>"}; the sentence must need no JSON escapes. */
void reply_error(struct reply *r, int status, const char *sentence);
/* A body given as it is. */
void reply_json(struct reply *r, int status, const char *json);
/* The reply as CGI wants it (RFC 3875, 6.3): Status, headers, body. */
void reply_render(const struct reply *r, struct buf *out);

#endif
