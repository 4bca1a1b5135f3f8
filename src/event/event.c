/*
 * Owns what an event is: which members of a body are needed, and what they may
 * hold. Knows nothing of signatures, HTTP and the database.
 *
 * json_scan_object() checks the grammar and finds the members; only the needed
 * ones are judged. cJSON decodes the strings that hold escapes, and refuses
 * lone surrogates.
 */
#include "event/event.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "event/json_object.h"
#include "event/timestamp.h"

bool utf8_valid(const char *text, size_t length)
{
	const unsigned char *p = (const unsigned char *)text;
	const unsigned char *end = p + length;

	while (p < end) {
		unsigned char lead = *p++;
		unsigned char low = 0x80, high = 0xbf;
		int more;

		if (lead < 0x80)
			continue;
		if (lead < 0xc2 || lead > 0xf4)
			return false;
		more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
		/* RFC 3629, 4: the second byte excludes the invalid ones. */
		if (lead == 0xe0)
			low = 0xa0;
		else if (lead == 0xed)
			high = 0x9f;
		else if (lead == 0xf0)
			low = 0x90;
		else if (lead == 0xf4)
			high = 0x8f;
		for (; more; more--, low = 0x80, high = 0xbf) {
			if (p == end || *p < low || *p > high)
				return false;
			p++;
		}
	}
	return true;
}

enum { EVENT, TASK_ID, STATUS, TIMESTAMP, PREVIOUS_STATUS, FIELDS };

static const struct {
	const char *name;
	bool required;
} fields[FIELDS] = {
	[EVENT] = { "event", true },
	[TASK_ID] = { "task_id", true },
	[STATUS] = { "status", true },
	[TIMESTAMP] = { "timestamp", true },
	[PREVIOUS_STATUS] = { "previous_status", false },
};

/* What was read so far. */
struct reader {
	char *values[FIELDS]; /* NULL: not seen, or null */
	bool seen[FIELDS];
	enum event_verdict verdict; /* of the first fault */
	char *reason;
	size_t reason_size;
};

static void set_field_fault(struct reader *r, int field, const char *what)
{
	r->verdict = EVENT_INVALID;
	snprintf(r->reason, r->reason_size, "Field %s %s", fields[field].name,
		 what);
}

/*
 * Returns the text of a string, which the caller frees; NULL if it holds a
 * lone surrogate. Ends at the first U+0000.
 */
static char *decode(const struct json_token *t)
{
	cJSON *string;
	char *text = NULL;

	if (!t->has_escape)
		return xstrndup(t->text, t->length);
	/* With the quotes around it. */
	string = cJSON_ParseWithLength(t->text - 1, t->length + 2);
	if (cJSON_IsString(string))
		text = xstrdup(string->valuestring);
	cJSON_Delete(string);
	return text;
}

/* Returns true if a key, up to its first U+0000, is this name. */
static bool key_is(const struct json_token *key, const char *name)
{
	char *decoded;
	bool same;

	if (!key->has_escape)
		return key->length == strlen(name) &&
		       memcmp(key->text, name, key->length) == 0;
	decoded = decode(key);
	same = decoded && strcmp(decoded, name) == 0;
	free(decoded);
	return same;
}

/* Returns the field with that key; FIELDS if the key is not needed. */
static int find_field(const struct json_token *key)
{
	int field = 0;

	while (field < FIELDS && !key_is(key, fields[field].name))
		field++;
	return field;
}

static bool is_null(const struct json_token *t)
{
	return !t->is_string && t->length == 4 &&
	       strncmp(t->text, "null", 4) == 0;
}

/* Decodes the value of a field to *text; returns what is wrong, or NULL. */
static const char *read_value(const struct json_token *t, bool required,
			      char **text)
{
	*text = NULL;
	if (!required && is_null(t))
		return NULL;
	if (!t->is_string)
		return required ? "must be a string"
				: "must be a string or null";
	if (t->has_nul)
		return "must not hold U+0000";
	*text = decode(t);
	if (!*text)
		return "must not hold a lone surrogate";
	if (strlen(*text) > FIELD_MAX)
		return "must not be longer than 200 bytes";
	if (**text != '\0')
		return NULL;
	if (required)
		return "must not be empty";
	free(*text);
	*text = NULL;
	return NULL;
}

static void read_member(void *context, const struct json_token *key,
			const struct json_token *value)
{
	struct reader *r = context;
	const char *what;
	int field;

	if (r->verdict != EVENT_OK)
		return;
	field = find_field(key);
	if (field == FIELDS)
		return;
	if (key->has_nul) {
		r->verdict = EVENT_INVALID;
		snprintf(r->reason, r->reason_size, "A key holds U+0000");
		return;
	}
	if (r->seen[field]) {
		set_field_fault(r, field, "is given twice");
		return;
	}
	r->seen[field] = true;
	what = read_value(value, fields[field].required, &r->values[field]);
	if (what)
		set_field_fault(r, field, what);
}

static void check_missing(struct reader *r)
{
	for (int i = 0; i < FIELDS && r->verdict == EVENT_OK; i++) {
		if (fields[i].required && !r->seen[i])
			set_field_fault(r, i, "is missing");
	}
}

static void set_malformed(struct reader *r, const char *what)
{
	r->verdict = EVENT_MALFORMED;
	snprintf(r->reason, r->reason_size, "Body is not %s", what);
}

static void read_body(struct reader *r, const char *body, size_t length)
{
	if (!utf8_valid(body, length)) {
		set_malformed(r, "UTF-8");
		return;
	}
	switch (json_scan_object(body, length, read_member, r)) {
	case JSON_OBJECT:
		check_missing(r);
		break;
	case JSON_OTHER:
		set_malformed(r, "a JSON object");
		break;
	case JSON_INVALID:
		set_malformed(r, "valid JSON");
		break;
	}
}

enum event_verdict event_parse(const char *body, size_t length, struct event *e,
			       char *reason, size_t reason_size)
{
	struct reader r = { .reason = reason, .reason_size = reason_size };

	*e = (struct event){ 0 };
	read_body(&r, body, length);
	if (r.verdict == EVENT_OK &&
	    !timestamp_parse(r.values[TIMESTAMP], &e->occurred_at))
		set_field_fault(&r, TIMESTAMP,
				"must be an RFC 3339 date-time with a zone");
	if (r.verdict == EVENT_OK) {
		e->event = r.values[EVENT];
		e->task_id = r.values[TASK_ID];
		e->status = r.values[STATUS];
		e->previous_status = r.values[PREVIOUS_STATUS];
		free(r.values[TIMESTAMP]);
		return EVENT_OK;
	}
	for (int i = 0; i < FIELDS; i++)
		free(r.values[i]);
	*e = (struct event){ 0 };
	return r.verdict;
}

void event_free(struct event *e)
{
	free(e->event);
	free(e->task_id);
	free(e->status);
	free(e->previous_status);
	*e = (struct event){ 0 };
}
