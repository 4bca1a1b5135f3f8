/* What is an event: JSON and fields. */
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

struct row {
	int line;
	enum event_verdict verdict;
	const char *body;
	const char *reason; /* part of it; NULL: any */
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

	{ __LINE__, EVENT_MALFORMED, "", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL "} x", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "\xef\xbb\xbf{" ALL "}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":\"\\ud800\"}", "JSON" },
	{ __LINE__, EVENT_MALFORMED, "{" ALL ",\"x\":\"\\udc00\"}", "JSON" },
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
	{ __LINE__, EVENT_INVALID, "{" ALL ",\"x\":1,\"y\":2,\"x\":3}",
	  "A key is given twice" },
	{ __LINE__, EVENT_INVALID, "{" ALL ",\"task_id\\u0000zzz\":\"y\"}",
	  "A key holds U+0000" },
	{ __LINE__, EVENT_INVALID,
	  "{" E "," S "," T ",\"task_id\\u0000zzz\":\"y\"}",
	  "A key holds U+0000" },
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

/* {"x":[[[…]]], …}: 1,000 levels pass, 1,001 do not. */
static void test_nesting(void **state)
{
	(void)state;
	for (size_t levels = 999; levels <= 1000; levels++) {
		struct buf b = { 0 };
		struct event e;
		char reason[128];

		buf_printf(&b, "{\"x\":");
		for (size_t i = 0; i < levels; i++)
			buf_add(&b, "[", 1);
		for (size_t i = 0; i < levels; i++)
			buf_add(&b, "]", 1);
		buf_printf(&b, "," ALL "}");
		assert_int_equal(event_parse(b.data, b.length, &e, reason,
					     sizeof(reason)),
				 levels == 999 ? EVENT_OK : EVENT_MALFORMED);
		event_free(&e);
		buf_free(&b);
	}
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
		cmocka_unit_test(test_rows),	cmocka_unit_test(test_fields),
		cmocka_unit_test(test_raw_nul), cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
