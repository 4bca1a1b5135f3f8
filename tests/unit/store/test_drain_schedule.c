/* The schedule of drains: pauses, turns, and when to drain again. */
#include "store/drain_schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"

#define SECONDS(n) (INT64_C(1000000) * (n))

/* Each pause is twice as long as the one before, up to four minutes. */
static void test_pauses(void **state)
{
	static const struct {
		unsigned attempts;
		int64_t pause;
	} cases[] = {
		{ 0, SECONDS(1) },     { 1, SECONDS(2) },   { 2, SECONDS(4) },
		{ 7, SECONDS(128) },   { 8, SECONDS(256) }, { 9, SECONDS(256) },
		{ ~0U, SECONDS(256) },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(drain_pause(cases[i].attempts),
				 cases[i].pause);
}

/* A file waits an hour for its secret, by a clock that may have jumped. */
static void test_expiry(void **state)
{
	static const struct {
		int64_t age;
		bool expired;
	} cases[] = {
		{ 0, false },
		{ SECONDS(3599), false },
		{ SECONDS(3600) - 1, false },
		{ SECONDS(3600), true },
		{ SECONDS(86400), true },
		{ -SECONDS(1), false },
		{ -SECONDS(3600), false },
		{ -SECONDS(3600) - 1, true },
	};
	const int64_t now = SECONDS(1770000000);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(drain_is_expired(now - cases[i].age, now),
				 cases[i].expired);
}

/* New files go first, by age; then refused ones, by the time to try again. */
static void test_order(void **state)
{
	char names[] = "f\0c\0e\0b\0d\0a\0g";
	struct spool_item items[] = {
		{ .name = &names[0], .mtime = 1, .retry_at = 50 },
		{ .name = &names[2], .mtime = 9 },
		{ .name = &names[4], .mtime = 9, .retry_at = 40 },
		{ .name = &names[6], .mtime = 7 },
		{ .name = &names[8], .mtime = 9 },
		{ .name = &names[10], .mtime = 3 },
		{ .name = &names[12], .mtime = 2, .retry_at = 50 },
	};
	struct spool_list list = { .items = items, .count = ARRAY_SIZE(items) };
	struct spool_list none = { 0 };

	(void)state;
	drain_order(&none);
	drain_order(&list);
	for (size_t i = 0; i < list.count; i++)
		assert_int_equal(items[i].name[0], "abcdefg"[i]);
}

/* Which files at the front of the list are due. */
static void test_due(void **state)
{
	static const struct {
		int64_t retry_at[3];
		size_t due;
	} cases[] = {
		{ { 0, 0, 0 }, 3 },
		{ { 0, 0, SECONDS(100) + 1 }, 2 },
		{ { 0, 0, SECONDS(100) }, 3 },
		{ { 0, SECONDS(99), SECONDS(101) }, 2 },
		{ { SECONDS(101), SECONDS(102), SECONDS(356) }, 0 },
		/* Too far ahead: a wrong clock, so the file is due. */
		{ { 0, SECONDS(101), SECONDS(357) }, 3 },
	};
	const struct spool_list none = { 0 };

	(void)state;
	assert_int_equal(drain_count_due(&none, SECONDS(100)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct spool_item items[3] = { 0 };
		const struct spool_list list = { .items = items, .count = 3 };

		for (size_t k = 0; k < 3; k++)
			list.items[k].retry_at = cases[i].retry_at[k];
		assert_int_equal(drain_count_due(&list, SECONDS(100)),
				 cases[i].due);
	}
}

/* When to drain again, after which drain; the time is 1000 ms, 100 s. */
static void test_next(void **state)
{
	static const struct {
		struct drain_count count;
		bool done;
		int64_t earliest, latest;
	} cases[] = {
		{ { 0 }, true, 1100, 6000 },
		/* The database takes nothing now. */
		{ { 0 }, false, 1500, 1500 },
		/* Listing took long. */
		{ { .list_ms = 300 }, true, 4000, 6000 },
		{ { .list_ms = 900 }, true, 10000, 10000 },
		/* A refused file has its first pause. */
		{ { .refused = 1 }, true, 1100, 2000 },
		{ { .retry_at = SECONDS(102) }, true, 1100, 3000 },
		{ { .retry_at = SECONDS(99) }, true, 1100, 1100 },
		{ { .retry_at = SECONDS(300) }, true, 1100, 6000 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int64_t earliest = 0, latest = 0;

		drain_next(&cases[i].count, cases[i].done, 1000, SECONDS(100),
			   &earliest, &latest);
		assert_int_equal(earliest, cases[i].earliest);
		assert_int_equal(latest, cases[i].latest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pauses), cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_order),  cmocka_unit_test(test_due),
		cmocka_unit_test(test_next),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
