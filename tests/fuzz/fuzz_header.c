/*
 * Values of single headers, each held against a second implementation:
 * Content-Type, Content-Length, X-Signature, X-Timestamp, and any value in the
 * log. The first byte of the input selects the header.
 */
#include "fuzz.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/macros.h"
#include "event/signature.h"
#include "responder/handler.h"

static void set(struct request *r, const char *name, const char *value)
{
	request_set(r, name, strlen(name), value);
}

enum { MAX_BODY = 1000, BODY_LENGTH = 100 };

static struct memory_log memory = { -1 };

/* Content-Type: the status shows whether it passed. */

static bool second_is_json(const char *value)
{
	char *word = xstrndup(value, strcspn(value, ";"));
	size_t length = strlen(word);
	bool same;

	while (length && (word[length - 1] == ' ' || word[length - 1] == '\t'))
		word[--length] = '\0';
	same = strcasecmp(word, "application/json") == 0;
	free(word);
	return same;
}

static void check_content_type(const char *value)
{
	struct settings settings = { .deadline = 3000 };
	struct queue queue = { OUTCOME_RECORDED, 0 };
	struct handler h = { .settings = &settings,
			     .secrets = fuzz_secrets(),
			     .queue = &queue };
	struct exchange x;

	exchange_init(&x, &h, fuzz_answered);
	set(&x.request, "REQUEST_METHOD", "POST");
	set(&x.request, "CONTENT_TYPE", value);
	CHECK(handler_handle(&x));
	CHECK(x.reply.status == (second_is_json(value) ? 401 : 415));
	CHECK(!queue.taken);
	exchange_free(&x);
}

/* Content-Length, against a body of BODY_LENGTH. */

struct reading {
	size_t left;
};

static long read_some(void *context, char *data, size_t size)
{
	struct reading *reading = context;
	size_t n = reading->left < size ? reading->left : size;

	memset(data, 'x', n);
	reading->left -= n;
	return (long)n;
}

static enum body_state second_length(const char *value)
{
	size_t length = strlen(value);
	long double number;

	if (length == 0 || strcmp(value, "0") == 0 || strcmp(value, "-1") == 0)
		return BODY_COMPLETE;
	for (size_t i = 0; i < length; i++) {
		if (!isdigit((unsigned char)value[i]))
			return BODY_BROKEN;
	}
	number = strtold(value, NULL);
	if (number > MAX_BODY)
		return BODY_TOO_LARGE;
	return number == BODY_LENGTH ? BODY_COMPLETE : BODY_BROKEN;
}

static void check_content_length(const char *value)
{
	struct reading reading = { BODY_LENGTH };
	struct request r;

	request_init(&r);
	set(&r, "CONTENT_LENGTH", value);
	request_read_body(&r, MAX_BODY, read_some, &reading);
	CHECK(r.state == second_length(value));
	CHECK(r.state == BODY_TOO_LARGE || r.length == BODY_LENGTH);
	request_free(&r);
}

/* X-Signature, of an empty body. */

static enum signature_verdict second_verdict(const char *value)
{
	char right[HMAC_HEX + 1];

	if (strchr(value, ','))
		return SIGNATURE_REPEATED;
	if (strlen(value) != HMAC_HEX)
		return SIGNATURE_NOT_HEX;
	for (const char *p = value; *p; p++) {
		if (!isxdigit((unsigned char)*p))
			return SIGNATURE_NOT_HEX;
	}
	fuzz_sign("", 0, right);
	return strcasecmp(value, right) == 0 ? SIGNATURE_OK
					     : SIGNATURE_NO_MATCH;
}

static void check_signature(const char *value)
{
	char signature[HMAC_HEX + 1], right[HMAC_HEX + 1], *name;
	const struct signature_input input = { .value = value,
					       .count = 1,
					       .body = "" };
	enum signature_verdict v =
		signature_verify(fuzz_secrets(), &input, signature, &name);

	CHECK(v == second_verdict(value));
	CHECK((name != NULL) == (v == SIGNATURE_OK));
	if (v == SIGNATURE_OK) {
		fuzz_sign("", 0, right);
		CHECK(strcmp(signature, right) == 0);
	}
	free(name);
}

/* The log: a value can be read back, unless the line was cut. */

static char *decode(const char *text)
{
	struct buf value = { 0 };

	buf_add(&value, "", 0);
	if (*text != '"') {
		buf_add(&value, text, strcspn(text, "\n"));
		return value.data;
	}
	for (text++; *text && *text != '"' && *text != '\n'; text++) {
		if (*text != '\\') {
			buf_add(&value, text, 1);
		} else if (text[1] == 'x') {
			char digits[3] = { text[2], text[3], '\0' };
			char c = (char)strtoul(digits, NULL, 16);

			buf_add(&value, &c, 1);
			text += 3;
		} else {
			text++;
			buf_add(&value, text, 1);
		}
	}
	return value.data;
}

static void check_log_value(const char *value)
{
	char *line, *at, *decoded;

	log_fields(LEVEL_INFO, "value", value, NULL);
	line = memory_log_take(&memory);
	CHECK(strchr(line, '\n') == line + strlen(line) - 1);
	for (const char *p = line; p[1]; p++)
		CHECK(*p >= ' ' && *p <= '~');
	at = strstr(line, " value=");
	CHECK(at);
	/* A line that was cut may end within an escape. */
	if (strlen(line) < 4000) {
		decoded = decode(at + 7);
		CHECK(strcmp(decoded, value) == 0);
		free(decoded);
	}
	free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const checks[])(const char *) = {
		check_content_type, check_content_length, check_signature,
		check_timestamp, check_log_value
	};
	struct input in = { data, size };
	uint8_t which = input_byte(&in);
	char *value = input_rest(&in);

	if (memory.fd < 0)
		memory_log_open(&memory);
	checks[which % ARRAY_SIZE(checks)](value);
	free(memory_log_take(&memory));
	free(value);
	return 0;
}
