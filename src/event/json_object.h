/* The members of a JSON object, as PostgreSQL's type json reads them. */
#ifndef JSON_OBJECT_H
#define JSON_OBJECT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

/* A value, or a key, in the text; a string without its quotes. */
struct json_token {
	const char *text;
	size_t length;
	bool is_string;
	bool has_escape; /* of a string: it holds a backslash */
	bool has_nul; /* of a string: it holds \u0000 */
};

typedef void (*json_member_fn)(void *context, const struct json_token *key,
			       const struct json_token *value);

enum json_verdict {
	JSON_OBJECT,
	JSON_OTHER, /* valid, but no object */
	JSON_INVALID
};

/*
 * Checks UTF-8 text by the grammar of RFC 8259, and calls on_member for each
 * member of the outermost object, in order. text[length] must be NUL. Lone
 * surrogates, repeated keys, long numbers and deep nesting are valid. If
 * the text is invalid, on_member was called for the members before the fault.
 * Takes linear time and does not recurse.
 */
enum json_verdict json_scan_object(const char *text, size_t length,
				   json_member_fn on_member,
				   void *context) MUST_CHECK;

#endif
