/*
 * The event inside a body whose signature passed (doc/design.md, "What is an
 * event"). The only file of the responder that knows cJSON.
 */
#ifndef EVENT_H
#define EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

enum { FIELD_MAX = 200 }; /* bytes of a field, UTF-8, unescaped */

struct event {
	char *event;
	char *task_id;
	char *status;
	char *previous_status; /* NULL: null, absent or "" */
	int64_t occurred_at; /* us since 1970, UTC; before it negative */
};

enum event_verdict {
	EVENT_OK,
	EVENT_MALFORMED, /* not UTF-8, not JSON, not an object: 400 */
	EVENT_INVALID /* a field is missing or not as needed: 422 */
};

/*
 * Reads the event in a body; body[length] must be NUL. Only the needed fields
 * are judged. On EVENT_OK the caller frees e with event_free(). Otherwise e is
 * empty, and reason is a sentence for the sender that needs no JSON escapes.
 */
enum event_verdict event_parse(const char *body, size_t length, struct event *e,
			       char *reason, size_t reason_size) MUST_CHECK;
void event_free(struct event *e);

/*
 * Returns true if text is UTF-8 by RFC 3629: no overlong forms, no surrogates,
 * nothing over U+10FFFF.
 */
bool utf8_valid(const char *text, size_t length) MUST_CHECK;

#endif
