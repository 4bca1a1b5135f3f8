/*
 * Reads the answers of HumCLI's API. Must not know HTTP and the database. A
 * body has to be what PostgreSQL's type json accepts (json_scan_object()),
 * because it is kept as that; then cJSON finds the members. Names that are not
 * documented are not looked at.
 */
#include "cli/reconcile/answer.h"

#include "base/alloc.h"
#include "event/event.h"
#include "event/json_object.h"
#include "event/timestamp.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct task_answer {
	cJSON *root;
	const cJSON *task; /* a part of root */
};

static void ignore_member(void *context, const struct json_token *key,
			  const struct json_token *value)
{
	(void)context;
	(void)key;
	(void)value;
}

/* Returns the object in a body; NULL if there is none, with the reason. */
static cJSON *parse_object(const struct buf *body, char *reason, size_t size)
{
	enum json_verdict verdict = JSON_INVALID;
	cJSON *root = NULL;

	if (body->length && utf8_valid(body->data, body->length))
		verdict = json_scan_object(body->data, body->length,
					   ignore_member, NULL);
	if (verdict == JSON_OBJECT)
		root = cJSON_ParseWithLength(body->data, body->length);
	if (!root)
		snprintf(reason, size, "%s",
			 verdict == JSON_OTHER
				 ? "the answer is not a JSON object"
				 : "the answer is not JSON");
	return root;
}

/* Returns the text of a member that PostgreSQL can keep; NULL otherwise. */
static const char *member_text(const cJSON *object, const char *name)
{
	const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
	const char *text = cJSON_GetStringValue(member);
	size_t length = text ? strlen(text) : 0;

	return length > 0 && length <= FIELD_MAX && utf8_valid(text, length)
		       ? text
		       : NULL;
}

static bool page_add(struct page *p, const cJSON *item)
{
	const char *task_id = member_text(item, "task_id");
	const char *status = member_text(item, "status");

	if (!task_id || !status)
		return false;
	p->list = array_grow(p->list, p->count, sizeof(*p->list));
	p->list[p->count++] =
		(struct told_task){ xstrdup(task_id), xstrdup(status) };
	return true;
}

static bool read_page(const cJSON *root, struct page *p, char *reason,
		      size_t size)
{
	const cJSON *data = cJSON_GetObjectItemCaseSensitive(root, "data");
	const cJSON *pagination =
		cJSON_GetObjectItemCaseSensitive(root, "pagination");
	const cJSON *total =
		cJSON_GetObjectItemCaseSensitive(pagination, "total");
	const cJSON *item;

	if (!cJSON_IsArray(data)) {
		snprintf(reason, size, "the answer has no list \"data\"");
		return false;
	}
	if (!cJSON_IsNumber(total) || total->valuedouble < 0 ||
	    total->valuedouble > 1e9) {
		snprintf(reason, size,
			 "the answer has no number \"pagination.total\"");
		return false;
	}
	p->total = (uint64_t)total->valuedouble;
	cJSON_ArrayForEach(item, data)
	{
		if (!page_add(p, item)) {
			snprintf(reason, size,
				 "a task of the list has no \"task_id\" or no "
				 "\"status\"");
			return false;
		}
	}
	return true;
}

bool page_parse(const struct buf *body, struct page *p, char *reason,
		size_t size)
{
	cJSON *root = parse_object(body, reason, size);
	bool is_page;

	*p = (struct page){ 0 };
	is_page = root && read_page(root, p, reason, size);
	cJSON_Delete(root);
	return is_page;
}

void page_free(struct page *p)
{
	for (size_t i = 0; i < p->count; i++) {
		free(p->list[i].task_id);
		free(p->list[i].status);
	}
	free(p->list);
	*p = (struct page){ 0 };
}

struct task_answer *task_answer_parse(const struct buf *body,
				      const char *task_id, char *reason,
				      size_t size)
{
	cJSON *root = parse_object(body, reason, size);
	const cJSON *task = cJSON_GetObjectItemCaseSensitive(root, "data");
	struct task_answer *t;
	const char *told;

	if (!root)
		return NULL;
	if (!cJSON_IsObject(task))
		task = root;
	told = member_text(task, "task_id");
	if (!told || !member_text(task, "status"))
		snprintf(reason, size,
			 "the answer has no \"task_id\" or no \"status\"");
	else if (strcmp(told, task_id) != 0)
		snprintf(reason, size, "the answer is about another task");
	else {
		t = xmalloc(sizeof(*t));
		*t = (struct task_answer){ root, task };
		return t;
	}
	cJSON_Delete(root);
	return NULL;
}

void task_answer_free(struct task_answer *t)
{
	if (!t)
		return;
	cJSON_Delete(t->root);
	free(t);
}

const char *task_answer_status(const struct task_answer *t)
{
	return member_text(t->task, "status");
}

bool task_answer_time(const struct task_answer *t, const char *field,
		      int64_t *us)
{
	const cJSON *at = t->task;
	const char *text;

	while (*field) {
		size_t length = strcspn(field, ".");
		char *name = xstrndup(field, length);

		at = cJSON_GetObjectItemCaseSensitive(at, name);
		free(name);
		field += length;
		field += *field == '.';
	}
	text = cJSON_GetStringValue(at);
	return text && timestamp_parse(text, us);
}

char *error_answer_text(const struct buf *body)
{
	char reason[64];
	cJSON *root = parse_object(body, reason, sizeof(reason));
	const char *text = member_text(root, "error");
	char *copy = xstrdup(text ? text : "");

	cJSON_Delete(root);
	return copy;
}
