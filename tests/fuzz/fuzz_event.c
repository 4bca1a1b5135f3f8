/*
 * event.c: any bytes for a body whose signature passed. Our own scan is held
 * against cJSON: both agree on the needed fields wherever cJSON accepts the
 * body. A body that only we accept has one of the three things that cJSON
 * refuses. A body that cJSON prints is accepted. For cJSON each \u0000 is
 * replaced by another escape, because its strings end at a NUL.
 */
#include "fuzz.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static const char *const names[] = { "event", "task_id", "status", "timestamp",
				     "previous_status" };

/* Replaces \u0000 by \u0001, unless its backslash is escaped. */
static char *without_nul(const char *body, size_t length)
{
	char *copy = xstrndup(body, length);

	for (size_t i = 0; i + 1 < length; i++) {
		if (copy[i] != '\\')
			continue;
		if (length - i >= 6 && memcmp(copy + i, "\\u0000", 6) == 0)
			copy[i + 5] = '1';
		i++;
	}
	return copy;
}

/* Returns the one member of that name; *count says how many there are. */
static const cJSON *member(const cJSON *root, const char *name, int *count)
{
	const cJSON *found = NULL;

	*count = 0;
	for (const cJSON *c = root->child; c; c = c->next) {
		if (strcmp(c->string, name) != 0)
			continue;
		(*count)++;
		found = c;
	}
	return found;
}

static const char *value_of(const cJSON *root, const char *name)
{
	int count;
	const cJSON *found = member(root, name, &count);

	return cJSON_IsString(found) ? found->valuestring : NULL;
}

/* Returns true if a needed field is given once and can be held. */
static bool second_field(const cJSON *root, const char *name, bool required)
{
	int count;
	const cJSON *found = member(root, name, &count);

	if (count > 1)
		return false;
	if (!found || cJSON_IsNull(found))
		return !required;
	return cJSON_IsString(found) &&
	       strlen(found->valuestring) <= FIELD_MAX &&
	       (!required || *found->valuestring);
}

static bool second_is_event(const cJSON *root)
{
	int64_t us;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!second_field(root, names[i], i != 4))
			return false;
	}
	return second_timestamp(value_of(root, names[3]), &us);
}

/* Returns true if a key or a string may have held U+0000. */
static bool may_hold_nul(const cJSON *root)
{
	for (const cJSON *c = root->child; c; c = c->next) {
		if (strchr(c->string, '\1') ||
		    (cJSON_IsString(c) && strchr(c->valuestring, '\1')))
			return true;
	}
	return false;
}

static void check_field(const char *ours, const char *theirs)
{
	if (theirs && !*theirs)
		theirs = NULL;
	CHECK((ours == NULL) == (theirs == NULL));
	CHECK(!ours || strcmp(ours, theirs) == 0);
}

static void check_against_cjson(const struct event *e, const cJSON *root)
{
	int64_t us;

	CHECK(cJSON_IsObject(root));
	check_field(e->event, value_of(root, names[0]));
	check_field(e->task_id, value_of(root, names[1]));
	check_field(e->status, value_of(root, names[2]));
	check_field(e->previous_status, value_of(root, names[4]));
	CHECK(second_timestamp(value_of(root, names[3]), &us));
	CHECK(us == e->occurred_at);
}

/* Finds a surrogate, over 1,000 levels, or a number of over 62 characters. */
static bool has_what_cjson_refuses(const char *body, size_t length)
{
	size_t depth = 0, number = 0;
	bool in_string = false;

	for (size_t i = 0; i < length; i++) {
		char c = body[i];

		if (in_string && c == '\\') {
			if (length - i > 3 && body[i + 1] == 'u' &&
			    strchr("dD", body[i + 2]) &&
			    strchr("89abcdefABCDEF", body[i + 3]))
				return true;
			i++;
		} else if (c == '"') {
			in_string = !in_string;
		} else if (!in_string) {
			depth += c == '{' || c == '[';
			depth -= c == '}' || c == ']';
			number = strchr("0123456789+-.eE", c) ? number + 1 : 0;
			if (depth > 1000 || number >= 63)
				return true;
		}
	}
	return false;
}

static void check_held(const char *text, bool required)
{
	CHECK(text || !required);
	CHECK(!text || (*text && strlen(text) <= FIELD_MAX &&
			utf8_valid(text, strlen(text))));
}

static void check_event(const char *body, size_t length, const struct event *e,
			const cJSON *root)
{
	check_held(e->event, true);
	check_held(e->task_id, true);
	check_held(e->status, true);
	check_held(e->previous_status, false);
	if (root)
		check_against_cjson(e, root);
	else
		CHECK(has_what_cjson_refuses(body, length));
}

/* Checks that a body that cJSON printed is accepted as JSON. */
static void check_printed(const cJSON *root)
{
	char *text = cJSON_PrintUnformatted(root);
	char reason[128];
	struct event e;

	CHECK(text);
	CHECK(event_parse(text, strlen(text), &e, reason, sizeof(reason)) !=
	      EVENT_MALFORMED);
	event_free(&e);
	cJSON_free(text);
}

/* Checks that an event that is written as JSON is read as the same event. */
static void check_again(const struct event *e)
{
	cJSON *root = cJSON_CreateObject();
	char reason[128], *text;
	struct event again;
	bool made =
		cJSON_AddStringToObject(root, names[0], e->event) &&
		cJSON_AddStringToObject(root, names[1], e->task_id) &&
		cJSON_AddStringToObject(root, names[2], e->status) &&
		cJSON_AddStringToObject(root, names[3],
					"2026-02-05T10:30:00Z") &&
		(!e->previous_status ||
		 cJSON_AddStringToObject(root, names[4], e->previous_status));

	CHECK(made);
	text = cJSON_PrintUnformatted(root);
	CHECK(text);
	CHECK(event_parse(text, strlen(text), &again, reason, sizeof(reason)) ==
	      EVENT_OK);
	CHECK(strcmp(e->task_id, again.task_id) == 0 &&
	      strcmp(e->status, again.status) == 0);
	event_free(&again);
	cJSON_free(text);
	cJSON_Delete(root);
}

static void check_reason(const char *reason, const struct event *e)
{
	CHECK(!e->event && !e->task_id && !e->status && !e->previous_status);
	CHECK(*reason);
	for (; *reason; reason++)
		CHECK(*reason >= ' ' && *reason <= '~' && *reason != '"' &&
		      *reason != '\\');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *body = xstrndup((const char *)data, size);
	char *plain = without_nul(body, size);
	cJSON *root = cJSON_ParseWithLengthOpts(plain, size + 1, NULL, true);
	char reason[128] = "";
	struct event e;
	enum event_verdict v =
		event_parse(body, size, &e, reason, sizeof(reason));

	if (v == EVENT_OK) {
		check_event(body, size, &e, root);
		check_again(&e);
	} else {
		check_reason(reason, &e);
	}
	if (v != EVENT_MALFORMED && root && !may_hold_nul(root))
		CHECK((v == EVENT_OK) == second_is_event(root));
	if (cJSON_IsObject(root) && utf8_valid(body, size))
		check_printed(root);
	event_free(&e);
	cJSON_Delete(root);
	free(plain);
	free(body);
	return 0;
}
