/*
 * Owns the grammar of JSON, because cJSON refuses valid texts that PostgreSQL
 * records (lone surrogates, over 1,000 levels, numbers over 63 characters) and
 * accepts invalid ones. Knows nothing of events, and decodes nothing.
 *
 * The text ends in NUL, which is valid nowhere in JSON, so no function looks
 * beyond the end. skip_value() keeps the open brackets in a buffer, one byte
 * each, instead of recursing.
 */
#include "event/json_object.h"

#include <ctype.h>
#include <string.h>

#include "base/buf.h"

struct scanner {
	const char *p;
	struct buf open; /* the brackets around p inside a value */
};

static void skip_space(struct scanner *s)
{
	s->p += strspn(s->p, " \t\r\n");
}

static bool skip_char(struct scanner *s, char c)
{
	if (*s->p != c)
		return false;
	s->p++;
	return true;
}

static bool skip_escape(struct scanner *s, struct json_token *t)
{
	t->has_escape = true;
	s->p++;
	if (*s->p != 'u') {
		if (*s->p == '\0' || !strchr("\"\\/bfnrt", *s->p))
			return false;
		s->p++;
		return true;
	}
	s->p++;
	if (strncmp(s->p, "0000", 4) == 0)
		t->has_nul = true;
	for (int i = 0; i < 4; i++, s->p++) {
		if (!isxdigit((unsigned char)*s->p))
			return false;
	}
	return true;
}

/* Skips a string from its opening quote to behind the closing one. */
static bool skip_string(struct scanner *s, struct json_token *t)
{
	if (!skip_char(s, '"'))
		return false;
	*t = (struct json_token){ .text = s->p, .is_string = true };
	while (*s->p != '"') {
		if ((unsigned char)*s->p < ' ')
			return false;
		if (*s->p != '\\')
			s->p++;
		else if (!skip_escape(s, t))
			return false;
	}
	t->length = (size_t)(s->p - t->text);
	s->p++;
	return true;
}

static bool skip_digits(struct scanner *s)
{
	const char *start = s->p;

	while (isdigit((unsigned char)*s->p))
		s->p++;
	return s->p > start;
}

static bool skip_number(struct scanner *s)
{
	(void)skip_char(s, '-');
	if (!skip_char(s, '0') && !skip_digits(s))
		return false;
	if (skip_char(s, '.') && !skip_digits(s))
		return false;
	if (!skip_char(s, 'e') && !skip_char(s, 'E'))
		return true;
	if (!skip_char(s, '+'))
		(void)skip_char(s, '-');
	return skip_digits(s);
}

static bool skip_word(struct scanner *s)
{
	static const char *const words[] = { "true", "false", "null" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t length = strlen(words[i]);

		if (strncmp(s->p, words[i], length) == 0) {
			s->p += length;
			return true;
		}
	}
	return false;
}

/* Skips a value that is neither an object nor an array. */
static bool skip_scalar(struct scanner *s)
{
	struct json_token t;

	if (*s->p == '"')
		return skip_string(s, &t);
	if (*s->p == '-' || isdigit((unsigned char)*s->p))
		return skip_number(s);
	return skip_word(s);
}

static bool skip_key(struct scanner *s, struct json_token *key)
{
	skip_space(s);
	if (!skip_string(s, key))
		return false;
	skip_space(s);
	if (!skip_char(s, ':'))
		return false;
	skip_space(s);
	return true;
}

/*
 * Opens objects and arrays up to the next scalar. Returns false on a fault;
 * sets *empty if the innermost one has no members, and so no value follows.
 */
static bool open_brackets(struct scanner *s, bool *empty)
{
	struct json_token key;

	*empty = false;
	while (*s->p == '{' || *s->p == '[') {
		bool object = *s->p == '{';

		buf_add(&s->open, s->p++, 1);
		skip_space(s);
		if (*s->p == (object ? '}' : ']')) {
			*empty = true;
			return true;
		}
		if (object && !skip_key(s, &key))
			return false;
	}
	return true;
}

/*
 * Closes the brackets that end behind a value. Returns false on a fault;
 * afterwards either none is open, or p is at the next value.
 */
static bool close_brackets(struct scanner *s)
{
	struct json_token key;

	while (s->open.length) {
		bool object = s->open.data[s->open.length - 1] == '{';

		skip_space(s);
		if (skip_char(s, ',')) {
			skip_space(s);
			return !object || skip_key(s, &key);
		}
		if (!skip_char(s, object ? '}' : ']'))
			return false;
		s->open.length--;
	}
	return true;
}

/* Skips a value of any kind and depth. */
static bool skip_value(struct scanner *s, struct json_token *t)
{
	bool empty;

	if (*s->p == '"')
		return skip_string(s, t);
	*t = (struct json_token){ .text = s->p };
	s->open.length = 0;
	do {
		if (!open_brackets(s, &empty) || (!empty && !skip_scalar(s)) ||
		    !close_brackets(s))
			return false;
	} while (s->open.length);
	t->length = (size_t)(s->p - t->text);
	return true;
}

static bool scan_members(struct scanner *s, json_member_fn on_member,
			 void *context)
{
	struct json_token key, value;

	if (!skip_char(s, '{'))
		return false;
	skip_space(s);
	if (skip_char(s, '}'))
		return true;
	do {
		if (!skip_key(s, &key) || !skip_value(s, &value))
			return false;
		on_member(context, &key, &value);
		skip_space(s);
	} while (skip_char(s, ','));
	return skip_char(s, '}');
}

enum json_verdict json_scan_object(const char *text, size_t length,
				   json_member_fn on_member, void *context)
{
	struct scanner s = { .p = text };
	struct json_token value;
	bool object, valid;

	skip_space(&s);
	object = *s.p == '{';
	valid = object ? scan_members(&s, on_member, context)
		       : skip_value(&s, &value);
	skip_space(&s);
	/* A NUL inside the text ended the scan early. */
	valid = valid && s.p == text + length;
	buf_free(&s.open);
	return !valid ? JSON_INVALID : object ? JSON_OBJECT : JSON_OTHER;
}
