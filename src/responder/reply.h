/*
 * A reply as plain data, and its text as CGI has it.
 */
#ifndef REPLY_H
#define REPLY_H

#include <stdbool.h>

#include "base/buf.h"

struct reply {
	int status;
	char body[512]; /* JSON */
	bool head; /* reply to HEAD: headers only */
	bool allow; /* 405: Allow: POST */
	bool retry; /* 503: Retry-After: 30 */
};

/* Makes {"error":"<sentence>"}. The sentence must need no JSON escapes. */
void reply_error(struct reply *r, int status, const char *sentence);
/* Makes a reply with this body. */
void reply_json(struct reply *r, int status, const char *json);
/* Appends Status, headers and body (RFC 3875, 6.3). */
void reply_render(const struct reply *r, struct buf *out);

#endif
