/* Which bodies are events, and what is read from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/macros.h"
#include "event/event.h"

#define T "\"timestamp\":\"2026-02-05T10:30:00.000Z\""
#define E "\"event\":\"task.status_changed\""
#define I "\"task_id\":\"task_abc123\""
#define S "\"status\":\"SUBMITTED\""
#define ALL E "," I "," S "," T
#define X50 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X200 X50 X50 X50 X50
#define N50 "12345678901234567890123456789012345678901234567890"
#define N200 N50 N50 N50 N50

struct row {
	int line;
	enum event_verdict verdict;
	const char *body;
	const char *reason; /* a part of the reason; NULL: any */
};

static const struct row rows[] = {
	{ __LINE__, EVENT_OK, "{" ALL "}", NULL },
	{ __LINE__, EVENT_OK, " \r\n\t{" ALL "}\n", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"previous_status\":null}", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"previous_status\":\"X\"}", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"previous_status\":\"\"}", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"n\":{\"task_id\":1,\"a\":[{}]}}",
	  NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"TASK_ID\":7}", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"x\":\"\\u0000\"}", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"x\":\"}]{[,:\\\\\"}", NULL },
	{ __LINE__, EVENT_OK, "{" E "," I ",\"status\":\"" X200 "\"," T "}",
	  NULL },
	{ __LINE__, EVENT_OK, "{" E "," I ",\"status\":\"a\\\\u0000\"," T "}",
	  NULL },
	/* Only the needed fields are judged. */
	{ __LINE__, EVENT_OK, "{" ALL ",\"x\":\"\\ud800\"}", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"x\":[\"\\udc00\\ud800\"]}", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"\\ud800\":1}", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"task_id\\ud800\":1}", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"x\":1,\"y\":2,\"x\":3}", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"x\\u0000y\":1,\"\\u0000\":2}", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"\":1,\"\":2}", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"x\":-1" N200 "0e+9}", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"x\":{\"a\":[],\"b\":{}}}", NULL },
	{ __LINE__, EVENT_OK, "{" ALL ",\"x\":[[],{},[1,[{\"a\":[]}]],null]}",
	  NULL },
	{ __LINE__, EVENT_OK, "{" E "," I ",\"st\\u0061tus\":\"S\"," T "}",
	  NULL },

	{ __LINE__, EVENT_MALFORMED, "", "JSON" },
	{ __LINE__, EVENT_MALFORMED, " ", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":01}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":1.}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":.5}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":1e}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":+1}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":-}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":nul}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":nulll}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":True}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":\"\t\"}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":\"\\x\"}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":\"\\u12g4\"}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":\"\\", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":\"\\u00", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":[1,]}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":[,1]}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":[1 2]}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":[1}}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":{\"a\":1]}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":{\"a\":1,}}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":{\"a\"}}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":{1:2}}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":[[[[", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":]}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL "}}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{\"task_id\":1," ALL ",\"x\":}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "\f{" ALL "}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "-1.5E-3", "object" },
	{ __LINE__, EVENT_MALFORMED, " [[{\"a\":[true]}],\"x\"] ", "object" },
	{ __LINE__, EVENT_MALFORMED, "[[1]", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL "} x", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "\xef\xbb\xbf{" ALL "}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":\"\xff\"}", "UTF-8" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":\"\xc0\x80\"}", "UTF-8" },
	{ __LINE__, EVENT_MALFORMED, "[]", "object" },
	{ __LINE__, EVENT_MALFORMED, "null", "object" },
	{ __LINE__, EVENT_MALFORMED, "\"" E "\"", "JSON" },

	{ __LINE__, EVENT_INVALID, "{}", "event is missing" },
	{ __LINE__, EVENT_INVALID, "{" I "," S "," T "}", "event is missing" },
	{ __LINE__, EVENT_INVALID, "{" E "," S "," T "}",
	  "task_id is missing" },
	{ __LINE__, EVENT_INVALID, "{" E "," I "," T "}", "status is missing" },
	{ __LINE__, EVENT_INVALID, "{" E "," I "," S "}",
	  "timestamp is missing" },
	{ __LINE__, EVENT_INVALID, "{" E ",\"Task_Id\":\"x\"," S "," T "}",
	  "task_id is missing" },
	{ __LINE__, EVENT_INVALID, "{" ALL "," I "}",
	  "task_id is given twice" },
	{ __LINE__, EVENT_INVALID, "{" ALL ",\"task\\u005fid\":\"y\"}",
	  "task_id is given twice" },
	{ __LINE__, EVENT_INVALID, "{" ALL ",\"task_id\\u0000zzz\":\"y\"}",
	  "A key holds U+0000" },
	{ __LINE__, EVENT_INVALID,
	  "{" E "," S "," T ",\"task_id\\u0000zzz\":\"y\"}",
	  "A key holds U+0000" },
	{ __LINE__, EVENT_INVALID, "{" ALL ",\"\\u0073tatus\\u0000\":1}",
	  "A key holds U+0000" },
	{ __LINE__, EVENT_INVALID,
	  "{" E ",\"task_id\":\"\\ud800\"," S "," T "}",
	  "task_id must not hold a lone surrogate" },
	{ __LINE__, EVENT_INVALID, "{" ALL ",\"previous_status\":\"\\udfff\"}",
	  "previous_status must not hold a lone surrogate" },
	{ __LINE__, EVENT_INVALID, "{" E ",\"task_id\":1," S "," T "}",
	  "task_id must be a string" },
	{ __LINE__, EVENT_INVALID, "{" E ",\"task_id\":null," S "," T "}",
	  "task_id must be a string" },
	{ __LINE__, EVENT_INVALID, "{" E ",\"task_id\":\"\"," S "," T "}",
	  "task_id must not be empty" },
	{ __LINE__, EVENT_INVALID,
	  "{" E ",\"task_id\":\"a\\u0000\"," S "," T "}",
	  "task_id must not hold U+0000" },
	{ __LINE__, EVENT_INVALID,
	  "{" E ",\"task_id\":\"a\\\\\\u0000\"," S "," T "}",
	  "task_id must not hold U+0000" },
	{ __LINE__, EVENT_INVALID,
	  "{" E "," I ",\"status\":\"" X200 "x\"," T "}",
	  "status must not be longer" },
	{ __LINE__, EVENT_INVALID, "{" ALL ",\"previous_status\":1}",
	  "previous_status must be a string or null" },
	{ __LINE__, EVENT_INVALID, "{" ALL ",\"previous_status\":\"\\u0000\"}",
	  "previous_status must not hold" },
	{ __LINE__, EVENT_INVALID,
	  "{" ALL ",\"previous_status\":\"" X200 "x\"}",
	  "previous_status must not be longer" },
	{ __LINE__, EVENT_INVALID,
	  "{" ALL ",\"previous_status\":null,\"previous_status\":null}",
	  "previous_status is given twice" },
	{ __LINE__, EVENT_INVALID, "{" E "," I "," S ",\"timestamp\":\"now\"}",
	  "timestamp must be" },
};

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[i];
		struct event e;
		char reason[128] = "";

		print_message("line %d: %.60s\n", r->line, r->body);
		assert_int_equal(event_parse(r->body, strlen(r->body), &e,
					     reason, sizeof(reason)),
				 r->verdict);
		assert_int_equal(e.task_id != NULL, r->verdict == EVENT_OK);
		if (r->reason)
			assert_non_null(strstr(reason, r->reason));
		event_free(&e);
	}
}

static void test_fields(void **state)
{
	static const char body[] =
		"{\"event\":\"task.status_changed\",\"task_id\":\"t\\u00e4sk\","
		"\"status\":\"SUBMITTED\",\"previous_status\":\"IN_PROGRESS\","
		"\"timestamp\":\"2026-02-05T10:30:00.123Z\",\"more\":[1,2]}";
	struct event e;
	char reason[128];

	(void)state;
	assert_int_equal(event_parse(body, strlen(body), &e, reason,
				     sizeof(reason)),
			 EVENT_OK);
	assert_string_equal(e.event, "task.status_changed");
	assert_string_equal(e.task_id, "t\xc3\xa4sk");
	assert_string_equal(e.status, "SUBMITTED");
	assert_string_equal(e.previous_status, "IN_PROGRESS");
	assert_int_equal(e.occurred_at, INT64_C(1770287400123000));
	event_free(&e);
}

static void test_raw_nul(void **state)
{
	static const char body[] = "{" ALL "}\0 ";
	struct event e;
	char reason[128];

	(void)state;
	assert_int_equal(event_parse(body, sizeof(body) - 1, &e, reason,
				     sizeof(reason)),
			 EVENT_MALFORMED);
}

/* Parses nested objects and arrays; leaves `missing` of them open. */
static enum event_verdict parse_nested(size_t levels, size_t missing)
{
	struct buf b = { 0 };
	struct event e;
	char reason[128];
	enum event_verdict verdict;

	buf_printf(&b, "{\"x\":");
	for (size_t i = 1; i <= levels; i++)
		buf_printf(&b, "%s", i % 2 ? "[" : "{\"\":");
	buf_add(&b, "1", 1);
	for (size_t i = levels; i > missing; i--)
		buf_add(&b, i % 2 ? "]" : "}", 1);
	buf_printf(&b, "," ALL "}");
	verdict = event_parse(b.data, b.length, &e, reason, sizeof(reason));
	event_free(&e);
	buf_free(&b);
	return verdict;
}

/* Any depth is accepted, and a missing bracket is found. */
static void test_nesting(void **state)
{
	static const size_t levels[] = { 999, 1000, 1001, 100000 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		assert_int_equal(parse_nested(levels[i], 0), EVENT_OK);
		assert_int_equal(parse_nested(levels[i], 1), EVENT_MALFORMED);
	}
}

/* An empty previous_status counts as null. */
static void test_empty_previous_status(void **state)
{
	static const char body[] = "{" ALL ",\"previous_status\":\"\"}";
	struct event e;
	char reason[128];

	(void)state;
	assert_int_equal(event_parse(body, strlen(body), &e, reason,
				     sizeof(reason)),
			 EVENT_OK);
	assert_null(e.previous_status);
	event_free(&e);
}

static void test_utf8(void **state)
{
	static const struct {
		int line;
		const char *text;
		bool valid;
	} texts[] = {
		{ __LINE__, "", true },
		{ __LINE__, "ascii", true },
		{ __LINE__, "\xc2\x80\xdf\xbf", true },
		{ __LINE__, "\xe0\xa0\x80\xef\xbf\xbf", true },
		{ __LINE__, "\xed\x9f\xbf\xee\x80\x80", true },
		{ __LINE__, "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", true },
		{ __LINE__, "\x80", false },
		{ __LINE__, "\xc0\xaf", false },
		{ __LINE__, "\xc1\xbf", false },
		{ __LINE__, "\xc2", false },
		{ __LINE__, "\xc2\x41", false },
		{ __LINE__, "\xe0\x9f\xbf", false },
		{ __LINE__, "\xed\xa0\x80", false },
		{ __LINE__, "\xe2\x82", false },
		{ __LINE__, "\xf0\x8f\xbf\xbf", false },
		{ __LINE__, "\xf4\x90\x80\x80", false },
		{ __LINE__, "\xf5\x80\x80\x80", false },
		{ __LINE__, "\xff", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		print_message("line %d\n", texts[i].line);
		assert_int_equal(utf8_valid(texts[i].text,
					    strlen(texts[i].text)),
				 texts[i].valid);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_raw_nul),
		cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_empty_previous_status),
		cmocka_unit_test(test_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
