/*
 * Owns every line of JSON that the command line writes, with cJSON. Must not
 * know where the values come from. Text that may not be UTF-8, such as file
 * names, is repaired first, because a line must be valid JSON.
 */
#include "cli/json.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fatal.h"
#include "event/event.h"
#include "event/json_object.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

/*
 * Ends the process for want of memory, the only reason that cJSON fails here.
 */
static void *check_alloc_cjson(void *p)
{
	if (!p)
		fatal("out of memory");
	return p;
}

static void put(cJSON *object, const char *key, const char *value)
{
	if (value)
		check_alloc_cjson(cJSON_AddStringToObject(object, key, value));
	else
		check_alloc_cjson(cJSON_AddNullToObject(object, key));
}

static char *finish(cJSON *object)
{
	char *text = check_alloc_cjson(cJSON_PrintUnformatted(object));

	cJSON_Delete(object);
	return text;
}

char *json_event_body(const struct event_fields *s)
{
	cJSON *object = check_alloc_cjson(cJSON_CreateObject());

	put(object, "event", s->event);
	put(object, "task_id", s->task_id);
	put(object, "status", s->status);
	put(object, "previous_status", s->previous_status);
	put(object, "timestamp", s->timestamp);
	return finish(object);
}

/* Ignores a member, because only the validity of the text matters. */
static void ignore_member(void *context, const struct json_token *key,
			  const struct json_token *value)
{
	(void)context;
	(void)key;
	(void)value;
}

/* Returns true if text is one line and valid by RFC 8259. */
static bool is_line(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if ((unsigned char)text[i] < ' ')
			return false;
	}
	return utf8_valid(text, length) &&
	       json_scan_object(text, length, ignore_member, NULL) !=
		       JSON_INVALID;
}

/*
 * Appends text; each byte that is not UTF-8, as from an SQL_ASCII database,
 * becomes U+FFFD.
 */
static void put_utf8(struct buf *b, const char *text, size_t length)
{
	if (utf8_valid(text, length)) {
		buf_add(b, text, length);
		return;
	}
	for (; *text; text++) {
		if ((unsigned char)*text < 0x80)
			buf_add(b, text, 1);
		else
			buf_add(b, "\xef\xbf\xbd", 3);
	}
}

char *json_notification(const char *payload)
{
	size_t length = strlen(payload);
	struct buf text = { 0 };
	cJSON *object;

	if (is_line(payload, length))
		return xstrdup(payload);
	buf_add(&text, "", 0);
	put_utf8(&text, payload, length);
	object = check_alloc_cjson(cJSON_CreateObject());
	put(object, "raw", text.data);
	buf_free(&text);
	return finish(object);
}

/* Adds a text that can be any bytes, such as the name of a file. */
static void put_any(cJSON *object, const char *key, const char *value)
{
	struct buf text = { 0 };

	if (value) {
		buf_add(&text, "", 0);
		put_utf8(&text, value, strlen(value));
	}
	put(object, key, text.data);
	buf_free(&text);
}

char *json_sent_line(const struct sent_event *s)
{
	cJSON *object = check_alloc_cjson(cJSON_CreateObject());

	put_any(object, "sent", s->name);
	put_any(object, "task_id", s->task_id);
	put(object, "timestamp", s->timestamp);
	check_alloc_cjson(s->status ? cJSON_AddNumberToObject(object, "status",
							      (double)s->status)
				    : cJSON_AddNullToObject(object, "status"));
	check_alloc_cjson(cJSON_AddNumberToObject(object, "ms", (double)s->ms));
	put_any(object, "answer", s->status ? s->body : NULL);
	put_any(object, "fault", *s->fault ? s->fault : NULL);
	return finish(object);
}

char *json_spool_line(const struct spooled *s)
{
	cJSON *object = check_alloc_cjson(cJSON_CreateObject());

	put_any(object, "name", s->name);
	put(object, "folder", s->folder);
	put(object, "received", s->received);
	put(object, "task_id", s->task_id);
	put(object, "status", s->status);
	put_any(object, "secret", s->secret);
	check_alloc_cjson(
		cJSON_AddNumberToObject(object, "size", (double)s->size));
	if (s->refused)
		put_any(object, "refused", s->refused);
	return finish(object);
}

char *json_secret_line(const struct listed_secret *s)
{
	cJSON *object = check_alloc_cjson(cJSON_CreateObject());

	put_any(object, "name", s->name);
	check_alloc_cjson(
		cJSON_AddBoolToObject(object, "accepted", s->accepted));
	put_any(object, "problem", s->problem);
	check_alloc_cjson(cJSON_AddBoolToObject(object, "in_path", s->in_path));
	put_any(object, "file", s->file);
	put(object, "mode", s->mode);
	put_any(object, "owner", s->owner);
	put_any(object, "group", s->group);
	put(object, "changed", s->changed);
	return finish(object);
}

char *json_added_secret(const char *name, const char *file, const char *url,
			const char *secret)
{
	cJSON *object = check_alloc_cjson(cJSON_CreateObject());

	put(object, "name", name);
	put_any(object, "file", file);
	put_any(object, "callback_url", url);
	put(object, "callback_secret", secret);
	return finish(object);
}

/*
 * Leaves the payload as it was signed, except that a line break becomes a
 * space: both mean the same between tokens.
 */
char *json_event_line(const struct recorded *r)
{
	cJSON *object = check_alloc_cjson(cJSON_CreateObject());
	char *payload = xstrdup(r->payload);

	for (char *p = payload; *p; p++) {
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	}
	put(object, "id", r->id);
	put(object, "event", r->event);
	put(object, "task_id", r->task_id);
	put(object, "status", r->status);
	put(object, "previous_status", r->previous_status);
	put(object, "occurred_at", r->occurred_at);
	put(object, "received_at", r->received_at);
	put_any(object, "secret", r->secret_name);
	check_alloc_cjson(cJSON_AddRawToObject(object, "payload", payload));
	free(payload);
	return finish(object);
}

char *json_finding_line(const char *severity, const char *check,
			const char *text, const char *remedy, const char *page)
{
	cJSON *object = check_alloc_cjson(cJSON_CreateObject());

	put(object, "severity", severity);
	put(object, "check", check);
	put(object, "text", text);
	put(object, "fix", remedy);
	put(object, "see", page);
	return finish(object);
}

/* Returns a copy of a member's text, "" if it has none. */
static char *copy_member(const cJSON *object, const char *key)
{
	const char *text = cJSON_GetStringValue(
		cJSON_GetObjectItemCaseSensitive(object, key));

	return xstrdup(text ? text : "");
}

bool json_finding_read(const char *line, struct finding_fields *fields)
{
	cJSON *object = cJSON_Parse(line);
	bool is_object = cJSON_IsObject(object);

	if (is_object)
		*fields = (struct finding_fields){
			.severity = copy_member(object, "severity"),
			.check = copy_member(object, "check"),
			.text = copy_member(object, "text"),
			.fix = copy_member(object, "fix"),
		};
	cJSON_Delete(object);
	return is_object;
}

void json_finding_free(struct finding_fields *fields)
{
	free(fields->severity);
	free(fields->check);
	free(fields->text);
	free(fields->fix);
}

bool json_is_received(const char *body)
{
	cJSON *answer = cJSON_Parse(body);
	bool received = cJSON_IsTrue(
		cJSON_GetObjectItemCaseSensitive(answer, "received"));

	cJSON_Delete(answer);
	return received;
}
