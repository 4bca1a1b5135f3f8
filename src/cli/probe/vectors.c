/*
 * Owns the test vectors: reads the files, signs a vector's body as it says, and
 * judges an answer. Must not know HTTP or the verb that sends. The texts of a
 * vector point into the parsed files, which vectors_free() frees.
 */
#include "cli/probe/vectors.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fatal.h"
#include "base/hmac.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_LIMIT = 1 << 20, SPACES_LIMIT = 16 << 20 };

/*
 * The text in a task_id that each run replaces, so that no receiver has seen
 * the task.
 */
static const char run_mark[] = "task_000000000000";
enum { RUN_AT = 5 };

static const char *text_of(const cJSON *object, const char *key)
{
	return cJSON_GetStringValue(
		cJSON_GetObjectItemCaseSensitive(object, key));
}

static bool all_texts(const cJSON *list)
{
	const cJSON *item;

	if (!list || !list->child)
		return false;
	cJSON_ArrayForEach(item, list)
	{
		if (!cJSON_IsString(item))
			return false;
	}
	return true;
}

static bool add_spaces(const cJSON *item, struct buf *body)
{
	double count = item ? cJSON_GetNumberValue(item) : 0;

	if (!(count >= 0 && count <= SPACES_LIMIT))
		return false;
	for (size_t n = (size_t)count; n; n--)
		buf_add(body, " ", 1);
	return true;
}

/* Reads a vector. Returns false if a key is missing or of another type. */
static bool read_vector(struct vector *v, const char *group, const cJSON *item)
{
	const char *level = text_of(item, "level");
	const char *body = text_of(item, "body");
	unsigned char digest[HMAC_BYTES];

	*v = (struct vector){
		.group = group,
		.name = text_of(item, "name"),
		.why = text_of(item, "why"),
		.secret = text_of(item, "secret"),
		.signature = text_of(item, "signature"),
		.signing = text_of(item, "signed"),
		.headers = cJSON_GetObjectItemCaseSensitive(item, "headers"),
		.answers = cJSON_GetObjectItemCaseSensitive(item, "answer"),
	};
	if (!v->name || !v->why || !level || !v->secret || !body ||
	    !v->signature || !v->signing || !all_texts(v->headers) ||
	    !all_texts(v->answers))
		return false;
	v->must = strcmp(level, "must") == 0;
	v->sent = text_of(v->headers, "X-Signature");
	return (v->must || strcmp(level, "should") == 0) &&
	       hmac_from_hex(v->signature, digest) &&
	       base64_decode(body, &v->body) &&
	       add_spaces(cJSON_GetObjectItemCaseSensitive(item, "spaces"),
			  &v->body);
}

static bool read_deliveries(struct vectors *all, const cJSON *file,
			    const char *path, struct buf *errors)
{
	const char *title = text_of(file, "title");
	const cJSON *list =
		cJSON_GetObjectItemCaseSensitive(file, "deliveries");
	const cJSON *item;

	if (!title || !cJSON_IsArray(list)) {
		buf_printf(errors, "%s: no title, or no deliveries\n", path);
		return false;
	}
	cJSON_ArrayForEach(item, list)
	{
		struct vector *v;

		all->list =
			array_grow(all->list, all->count, sizeof(*all->list));
		v = &all->list[all->count++];
		if (!read_vector(v, title, item)) {
			buf_printf(errors,
				   "%s: delivery '%s' does not have the form "
				   "that tests/vectors/README.md describes\n",
				   path, v->name ? v->name : "?");
			return false;
		}
	}
	return true;
}

static bool read_text(const char *path, struct buf *text, struct buf *errors)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool ok = fd >= 0 && read_all(fd, FILE_LIMIT, text);

	if (!ok)
		buf_printf(errors, "%s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return ok;
}

static bool load_file(struct vectors *all, const char *path, struct buf *errors)
{
	struct buf text = { 0 };
	cJSON *file = NULL;

	if (!read_text(path, &text, errors))
		goto out;
	file = cJSON_ParseWithLengthOpts(text.data, text.length + 1, NULL,
					 true);
	if (!file) {
		buf_printf(errors, "%s: not JSON\n", path);
		goto out;
	}
	all->files =
		array_grow(all->files, all->file_count, sizeof(*all->files));
	all->files[all->file_count++] = file;
out:
	buf_free(&text);
	return file && read_deliveries(all, file, path, errors);
}

static int is_vectors(const struct dirent *e)
{
	size_t length = strlen(e->d_name);

	return e->d_name[0] != '.' && length > 5 &&
	       strcmp(e->d_name + length - 5, ".json") == 0;
}

bool vectors_load(struct vectors *all, const char *folder, struct buf *errors)
{
	struct dirent **names = NULL;
	int count = scandir(folder, &names, is_vectors, alphasort);
	bool ok = count > 0;

	*all = (struct vectors){ 0 };
	if (count < 0)
		buf_printf(errors, "%s: %s\n", folder, strerror(errno));
	else if (count == 0)
		buf_printf(errors, "%s: there is no *.json\n", folder);
	for (int i = 0; i < count; i++) {
		char *path = xasprintf("%s/%s", folder, names[i]->d_name);

		ok = ok && load_file(all, path, errors);
		free(path);
		free(names[i]);
	}
	free(names);
	return ok;
}

void vectors_free(struct vectors *all)
{
	for (size_t i = 0; i < all->count; i++)
		buf_free(&all->list[i].body);
	for (size_t i = 0; i < all->file_count; i++)
		cJSON_Delete(all->files[i]);
	free(all->list);
	free(all->files);
	*all = (struct vectors){ 0 };
}

void vector_body(const struct vector *v, const char run[VECTOR_RUN + 1],
		 struct buf *body)
{
	size_t length = sizeof(run_mark) - 1;
	char *from, *at;

	buf_add(body, v->body.data, v->body.length);
	from = body->data;
	while ((at = memmem(from, body->length - (size_t)(from - body->data),
			    run_mark, length))) {
		memcpy(at + RUN_AT, run, VECTOR_RUN);
		from = at + length;
	}
}

static void sign(const void *key, size_t length, const struct buf *body,
		 char hex[HMAC_HEX + 1])
{
	unsigned char digest[HMAC_BYTES];

	hmac_sha256(key, length, body->data, body->length, digest);
	hmac_to_hex(digest, hex);
}

static void sign_with_other_secret(const void *key, size_t length,
				   const struct buf *body,
				   char hex[HMAC_HEX + 1])
{
	struct buf other = { 0 };

	buf_add(&other, key, length);
	buf_add(&other, "x", 1);
	sign(other.data, other.length, body, hex);
	buf_wipe(&other);
}

static void sign_other_body(const void *key, size_t length,
			    const struct buf *body, char hex[HMAC_HEX + 1])
{
	struct buf other = { 0 };

	buf_add(&other, body->data, body->length);
	buf_add(&other, "\n", 1);
	sign(key, length, &other, hex);
	buf_free(&other);
}

static void flip_bit(char *digit, unsigned bit)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = strchr(digits, *digit);

	if (!at)
		abort(); /* hmac_to_hex() writes only these digits */
	*digit = digits[(unsigned)(at - digits) ^ bit];
}

bool vector_sign(const struct vector *v, const void *key, size_t key_length,
		 const struct buf *body, struct buf *value)
{
	const char *way = v->signing;
	char hex[HMAC_HEX + 1];

	if (strcmp(way, "absent") == 0)
		return false;
	sign(key, key_length, body, hex);
	if (strcmp(way, "other-secret") == 0)
		sign_with_other_secret(key, key_length, body, hex);
	else if (strcmp(way, "other-body") == 0)
		sign_other_body(key, key_length, body, hex);
	else if (strcmp(way, "first-bit") == 0)
		flip_bit(hex, 8);
	else if (strcmp(way, "last-bit") == 0)
		flip_bit(hex + HMAC_HEX - 1, 1);
	else if (strcmp(way, "cut") == 0)
		hex[HMAC_HEX - 1] = '\0';
	else if (strcmp(way, "prefixed") == 0)
		buf_printf(value, "sha256=");
	/* A word of a later version counts as "right". */
	buf_printf(value, "%s", strcmp(way, "empty") == 0 ? "" : hex);
	return true;
}

void vector_headers(const struct vector *v,
		    void (*each)(void *context, const char *name,
				 const char *value),
		    void *context)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, v->headers)
	{
		if (strcmp(item->string, "X-Signature") != 0)
			each(context, item->string, item->valuestring);
	}
}

/* Returns true if a pattern such as "200" or "4xx" fits the status. */
static bool status_matches(const char *pattern, long status)
{
	char text[24];

	snprintf(text, sizeof(text), "%ld", status);
	if (strlen(pattern) != strlen(text))
		return false;
	for (size_t i = 0; text[i]; i++) {
		if (pattern[i] != 'x' && pattern[i] != text[i])
			return false;
	}
	return true;
}

bool vector_accepts(const struct vector *v, long status)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, v->answers)
	{
		if (status_matches(item->valuestring, status))
			return true;
	}
	return false;
}

void vector_answers(const struct vector *v, struct buf *text)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, v->answers)
	{
		buf_printf(text, "%s%s", text->length ? " or " : "",
			   item->valuestring);
	}
}

/*
 * Ends the process for want of memory, the only reason that cJSON fails here.
 */
static void put(cJSON *object, const char *key, cJSON *value)
{
	if (!value || !cJSON_AddItemToObject(object, key, value))
		fatal("out of memory");
}

static void put_text(cJSON *object, const char *key, const char *value)
{
	put(object, key,
	    value ? cJSON_CreateString(value) : cJSON_CreateNull());
}

char *check_result_json(const struct check_result *row)
{
	cJSON *object = cJSON_CreateObject();
	char *text;

	put_text(object, "group", row->group);
	put_text(object, "name", row->name);
	put_text(object, "result", row->result);
	put(object, "status",
	    row->status ? cJSON_CreateNumber((double)row->status)
			: cJSON_CreateNull());
	put(object, "ms", cJSON_CreateNumber((double)row->ms));
	put_text(object, "expected", row->expected);
	put_text(object, "why", row->why);
	put_text(object, "fault", row->fault);
	text = cJSON_PrintUnformatted(object);
	if (!text)
		fatal("out of memory");
	cJSON_Delete(object);
	return text;
}
