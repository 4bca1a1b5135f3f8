/* The answers of HumCLI's API: the documented shapes, and others. */
#include "cli/reconcile/answer.h"

#include "base/macros.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct buf body_of(const char *text)
{
	struct buf b = { 0 };

	buf_add(&b, text, strlen(text));
	return b;
}

static void test_page(void **state)
{
	struct buf body = body_of(
		"{\"data\":[{\"task_id\":\"a\",\"status\":\"ACCEPTED\","
		"\"reward_usd\":5},{\"task_id\":\"b\",\"status\":\"X\"}],"
		"\"pagination\":{\"limit\":20,\"offset\":0,\"total\":7}}");
	struct page page;
	char reason[128];

	(void)state;
	assert_true(page_parse(&body, &page, reason, sizeof(reason)));
	assert_int_equal(page.count, 2);
	assert_int_equal(page.total, 7);
	assert_string_equal(page.list[0].task_id, "a");
	assert_string_equal(page.list[1].status, "X");
	page_free(&page);
	buf_free(&body);
}

static void test_no_page(void **state)
{
	static const char *const texts[] = {
		"",
		"[]",
		"{",
		"{}",
		"null",
		"{\"data\":{}}",
		"{\"data\":[],\"pagination\":{\"total\":-1}}",
		"{\"data\":[],\"pagination\":{\"total\":1e300}}",
		"{\"data\":[],\"pagination\":{\"total\":\"1\"}}",
		"{\"data\":[5],\"pagination\":{\"total\":1}}",
		"{\"data\":[{\"task_id\":\"\"}],\"pagination\":{\"total\":1}}",
		"{\"DATA\":[],\"pagination\":{\"total\":0}}",
		"{\"data\":[],\"pagination\":{\"total\":0}} x",
		"{\"data\":[],\"pagination\":{\"total\":01}}"
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct buf body = body_of(texts[i]);
		char reason[128] = "";
		struct page page;

		if (page_parse(&body, &page, reason, sizeof(reason)) ||
		    !*reason)
			fail_msg("%s", texts[i]);
		page_free(&page);
		buf_free(&body);
	}
}

static void check_time(const struct task_answer *t, const char *field,
		       int64_t expected)
{
	int64_t us = -1;

	assert_int_equal(task_answer_time(t, field, &us), expected >= 0);
	assert_int_equal(us, expected);
}

static void test_task(void **state)
{
	static const char *const texts[] = {
		"{\"task_id\":\"a\",\"status\":\"ACCEPTED\",\"n\":5,"
		"\"accepted_at\":\"1970-01-01T00:00:01.500Z\",\"null\":null,"
		"\"timestamps\":{\"done\":\"1970-01-01T00:00:02Z\"}}",
		"{\"sandbox\":true,\"data\":{\"task_id\":\"a\",\"n\":5,"
		"\"status\":\"ACCEPTED\",\"null\":null,"
		"\"accepted_at\":\"1970-01-01T00:00:01.500Z\","
		"\"timestamps\":{\"done\":\"1970-01-01T00:00:02Z\"}}}"
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct buf body = body_of(texts[i]);
		char reason[128];
		struct task_answer *t =
			task_answer_parse(&body, "a", reason, sizeof(reason));

		assert_non_null(t);
		assert_string_equal(task_answer_status(t), "ACCEPTED");
		check_time(t, "accepted_at", 1500000);
		check_time(t, "timestamps.done", 2000000);
		check_time(t, "timestamps", -1);
		check_time(t, "status", -1);
		check_time(t, "n", -1);
		check_time(t, "null", -1);
		check_time(t, "accepted_at.x", -1);
		check_time(t, "", -1);
		check_time(t, "..", -1);
		task_answer_free(t);
		assert_null(
			task_answer_parse(&body, "b", reason, sizeof(reason)));
		assert_string_equal(reason, "the answer is about another task");
		buf_free(&body);
	}
}

static void test_error(void **state)
{
	static const struct {
		const char *body, *text;
	} cases[] = { { "{\"error\":\"Not found\"}", "Not found" },
		      { "{\"error\":{\"code\":5}}", "" },
		      { "<html>", "" },
		      { "", "" } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf body = body_of(cases[i].body);
		char *text = error_answer_text(&body);

		assert_string_equal(text, cases[i].text);
		free(text);
		buf_free(&body);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page),
		cmocka_unit_test(test_no_page),
		cmocka_unit_test(test_task),
		cmocka_unit_test(test_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
