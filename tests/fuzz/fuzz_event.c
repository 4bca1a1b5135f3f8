/*
 * event.c: any bytes for a body whose signature passed. What is taken for
 * an event is held against cJSON asked directly, with every \u0000 replaced
 * by another escape: cJSON's own strings end at a NUL, those do not.
 */
#include "fuzz.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static const char *const names[] = { "event", "task_id", "status", "timestamp",
				     "previous_status" };

/* \u0000 to \u0001 where the backslash is no escaped one itself. */
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

static const char *member(const cJSON *root, const char *name)
{
	const cJSON *found = NULL;

	for (const cJSON *c = root->child; c; c = c->next) {
		if (strcmp(c->string, name) != 0)
			continue;
		CHECK(!found);
		found = c;
	}
	if (!found || cJSON_IsNull(found))
		return NULL;
	CHECK(cJSON_IsString(found));
	return found->valuestring;
}

static void check_keys(const cJSON *root)
{
	for (const cJSON *c = root->child; c; c = c->next) {
		CHECK(!strchr(c->string, '\1') || strlen(c->string) > 0);
		for (const cJSON *d = c->next; d; d = d->next)
			CHECK(strcmp(c->string, d->string) != 0);
	}
}

static void check_field(const char *ours, const char *theirs)
{
	CHECK((ours == NULL) == (theirs == NULL));
	if (!ours)
		return;
	CHECK(strcmp(ours, theirs) == 0);
	CHECK(strlen(ours) <= FIELD_MAX);
	CHECK(utf8_valid(ours, strlen(ours)));
}

static void check_event(const char *body, size_t length, const struct event *e)
{
	char *plain = without_nul(body, length);
	cJSON *root = cJSON_ParseWithLength(plain, length);
	const char *timestamp;
	int64_t us;

	CHECK(cJSON_IsObject(root));
	/* Quadratic, so not for thousands. */
	if (cJSON_GetArraySize(root) < 200)
		check_keys(root);
	check_field(e->event, member(root, names[0]));
	check_field(e->task_id, member(root, names[1]));
	check_field(e->status, member(root, names[2]));
	check_field(e->previous_status, member(root, names[4]));
	CHECK(*e->event && *e->task_id && *e->status);
	timestamp = member(root, names[3]);
	CHECK(timestamp && second_timestamp(timestamp, &us));
	CHECK(us == e->occurred_at);
	cJSON_Delete(root);
	free(plain);
}

/* What comes out is an event again, and the same one. */
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
	char reason[128] = "";
	struct event e;

	if (event_parse(body, size, &e, reason, sizeof(reason)) == EVENT_OK) {
		check_event(body, size, &e);
		check_again(&e);
	} else {
		check_reason(reason, &e);
	}
	event_free(&e);
	free(body);
	return 0;
}
