/*
 * Owns the text of a reply for the web server, with its reason phrase. Must not
 * know why a status was chosen.
 */
#include "responder/reply.h"

#include <stdio.h>
#include <string.h>

#include "base/macros.h"

/* Returns the code with its reason phrase. */
static const char *status_text(int status)
{
	static const struct {
		int status;
		const char *text;
	} texts[] = {
		{ 200, "200 OK" },
		{ 400, "400 Bad Request" },
		{ 401, "401 Unauthorized" },
		{ 405, "405 Method Not Allowed" },
		{ 408, "408 Request Timeout" },
		{ 413, "413 Content Too Large" },
		{ 415, "415 Unsupported Media Type" },
		{ 422, "422 Unprocessable Content" },
		{ 503, "503 Service Unavailable" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (texts[i].status == status)
			return texts[i].text;
	}
	return "500 Internal Server Error";
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
	const char *const parts[] = {
		"Status: ",
		status_text(r->status),
		"\r\nContent-Type: application/json\r\n",
		"Cache-Control: no-store\r\n",
		r->allow ? "Allow: POST\r\n" : "",
		r->retry ? "Retry-After: 30\r\n" : "",
		"\r\n",
		r->head ? "" : r->body,
	};

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		buf_add(out, parts[i], strlen(parts[i]));
}
