/*
 * Owns the text of a reply for the web server, with its reason phrase. Must not
 * know why a status was chosen.
 */
#include "responder/reply.h"

#include <stdio.h>

#include "base/macros.h"

static const char *reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} reasons[] = {
		{ 200, "OK" },
		{ 400, "Bad Request" },
		{ 401, "Unauthorized" },
		{ 405, "Method Not Allowed" },
		{ 408, "Request Timeout" },
		{ 413, "Content Too Large" },
		{ 415, "Unsupported Media Type" },
		{ 422, "Unprocessable Content" },
		{ 503, "Service Unavailable" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
		if (reasons[i].status == status)
			return reasons[i].text;
	}
	return "Error";
}

void reply_error(struct reply *r, int status, const char *sentence)
{
	r->status = status;
	snprintf(r->body, sizeof(r->body), "{\"error\":\"%s\"}", sentence);
}

void reply_json(struct reply *r, int status, const char *json)
{
	r->status = status;
	snprintf(r->body, sizeof(r->body), "%s", json);
}

void reply_render(const struct reply *r, struct buf *out)
{
	buf_printf(out,
		   "Status: %d %s\r\n"
		   "Content-Type: application/json\r\n"
		   "Cache-Control: no-store\r\n"
		   "%s%s\r\n%s",
		   r->status, reason(r->status),
		   r->allow ? "Allow: POST\r\n" : "",
		   r->retry ? "Retry-After: 30\r\n" : "",
		   r->head ? "" : r->body);
}
