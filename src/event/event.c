#include "event/event.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
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
		/* RFC 3629, 4: the second byte rules out the odd ones. */
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

/* What cJSON, whose strings end at a NUL, can't tell of a member. */
struct member {
	bool key_has_nul;
	bool value_has_nul;
};

struct members {
	struct member *list;
	size_t count;
};

/* From the opening quote to behind the closing one. */
static const char *skip_string(const char *p, const char *end, bool *has_nul)
{
	*has_nul = false;
	for (p++; p < end && *p != '"'; p++) {
		if (*p != '\\')
			continue;
		if (end - p >= 6 && memcmp(p, "\\u0000", 6) == 0)
			*has_nul = true;
		p++;
	}
	return p + 1;
}

/*
 * The members of the outermost object in their order, which is cJSON's
 * too. The text has passed cJSON, so strings and brackets pair up.
 */
static struct members scan_top_level(const char *text, size_t length)
{
	struct members m = { NULL, 0 };
	const char *p = text, *end = text + length;
	bool key = true;
	int depth = 0;

	while (p < end) {
		bool has_nul;

		switch (*p) {
		case '"':
			p = skip_string(p, end, &has_nul);
			if (depth == 1 && key) {
				m.list = xrealloc(m.list,
						  (m.count + 1) *
							  sizeof(*m.list));
				m.list[m.count++] =
					(struct member){ has_nul, false };
			} else if (depth == 1 && m.count) {
				m.list[m.count - 1].value_has_nul = has_nul;
			}
			continue;
		case '{':
		case '[':
			depth++;
			break;
		case '}':
		case ']':
			depth--;
			break;
		case ':':
			key = depth == 1 ? false : key;
			break;
		case ',':
			key = depth == 1 ? true : key;
			break;
		default:
			break;
		}
		p++;
	}
	return m;
}

struct field {
	const char *name;
	bool required;
	const char *value; /* points into the cJSON tree */
};

enum { EVENT, TASK_ID, STATUS, TIMESTAMP, PREVIOUS_STATUS, FIELDS };

static enum event_verdict invalid(char *reason, size_t size, const char *name,
				  const char *what)
{
	snprintf(reason, size, "Field %s %s", name, what);
	return EVENT_INVALID;
}

static const char *field_fault(const struct field *f, const cJSON *item,
			       const struct member *m)
{
	if (cJSON_IsNull(item) && !f->required)
		return NULL;
	if (!cJSON_IsString(item))
		return f->required ? "must be a string"
				   : "must be a string or null";
	if (m->value_has_nul)
		return "must not hold U+0000";
	if (f->required && *item->valuestring == '\0')
		return "must not be empty";
	if (strlen(item->valuestring) > FIELD_MAX)
		return "must not be longer than 200 bytes";
	return NULL;
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Whether two members share a key; sorted, so that thousands stay cheap. */
static bool has_duplicate_key(const cJSON *root, size_t count)
{
	const char **keys = xcalloc(count, sizeof(*keys));
	const cJSON *item = root->child;
	bool twice = false;

	for (size_t i = 0; i < count && item; i++, item = item->next)
		keys[i] = item->string;
	qsort(keys, count, sizeof(*keys), compare_keys);
	for (size_t i = 1; i < count && !twice; i++)
		twice = strcmp(keys[i - 1], keys[i]) == 0;
	free(keys);
	return twice;
}

static struct field *find_field(struct field fields[FIELDS], const char *name)
{
	for (size_t i = 0; i < FIELDS; i++) {
		if (strcmp(fields[i].name, name) == 0)
			return &fields[i];
	}
	return NULL;
}

/* Fills in the fields' values, which stay the tree's. */
static enum event_verdict read_fields(const cJSON *root,
				      const struct members *m,
				      struct field fields[FIELDS], char *reason,
				      size_t size)
{
	bool seen[FIELDS] = { false };
	const cJSON *item = root->child;

	for (size_t i = 0; item && i < m->count; i++, item = item->next) {
		struct field *f;
		const char *what;

		if (m->list[i].key_has_nul) {
			snprintf(reason, size, "A key holds U+0000");
			return EVENT_INVALID;
		}
		f = find_field(fields, item->string);
		if (!f)
			continue;
		if (seen[f - fields])
			return invalid(reason, size, f->name, "is given twice");
		seen[f - fields] = true;
		what = field_fault(f, item, &m->list[i]);
		if (what)
			return invalid(reason, size, f->name, what);
		if (cJSON_IsString(item))
			f->value = item->valuestring;
	}
	for (size_t i = 0; i < FIELDS; i++) {
		if (fields[i].required && !seen[i])
			return invalid(reason, size, fields[i].name,
				       "is missing");
	}
	if (has_duplicate_key(root, m->count)) {
		snprintf(reason, size, "A key is given twice");
		return EVENT_INVALID;
	}
	return EVENT_OK;
}

static enum event_verdict read_object(const cJSON *root,
				      const struct members *m, struct event *e,
				      char *reason, size_t size)
{
	struct field fields[FIELDS] = {
		[EVENT] = { "event", true, NULL },
		[TASK_ID] = { "task_id", true, NULL },
		[STATUS] = { "status", true, NULL },
		[TIMESTAMP] = { "timestamp", true, NULL },
		[PREVIOUS_STATUS] = { "previous_status", false, NULL },
	};
	enum event_verdict v = read_fields(root, m, fields, reason, size);
	int64_t occurred_at;

	if (v != EVENT_OK)
		return v;
	if (!timestamp_parse(fields[TIMESTAMP].value, &occurred_at))
		return invalid(reason, size, "timestamp",
			       "must be an RFC 3339 date-time with a zone");
	e->event = xstrdup(fields[EVENT].value);
	e->task_id = xstrdup(fields[TASK_ID].value);
	e->status = xstrdup(fields[STATUS].value);
	if (fields[PREVIOUS_STATUS].value)
		e->previous_status = xstrdup(fields[PREVIOUS_STATUS].value);
	e->occurred_at = occurred_at;
	return EVENT_OK;
}

static enum event_verdict malformed(char *reason, size_t size, const char *what)
{
	snprintf(reason, size, "Body is not %s", what);
	return EVENT_MALFORMED;
}

enum event_verdict event_parse(const char *body, size_t length, struct event *e,
			       char *reason, size_t reason_size)
{
	enum event_verdict v;
	struct members m;
	cJSON *root;

	*e = (struct event){ 0 };
	if (!utf8_valid(body, length))
		return malformed(reason, reason_size, "UTF-8");
	/* cJSON stops at a NUL and skips a byte order mark; JSON has neither. */
	if (memchr(body, '\0', length) || strncmp(body, "\xef\xbb\xbf", 3) == 0)
		return malformed(reason, reason_size, "valid JSON");
	/* cJSON goes at most 1,000 levels deep (CJSON_NESTING_LIMIT). */
	root = cJSON_ParseWithLengthOpts(body, length + 1, NULL, true);
	if (!root)
		return malformed(reason, reason_size, "valid JSON");
	if (!cJSON_IsObject(root)) {
		cJSON_Delete(root);
		return malformed(reason, reason_size, "a JSON object");
	}
	m = scan_top_level(body, length);
	v = read_object(root, &m, e, reason, reason_size);
	free(m.list);
	cJSON_Delete(root);
	return v;
}

void event_free(struct event *e)
{
	free(e->event);
	free(e->task_id);
	free(e->status);
	free(e->previous_status);
	*e = (struct event){ 0 };
}
