/* The queue of costly signature checks: order, limits, deadlines, names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "responder/verify_queue.h"

/* Exchanges are only pointers here. */
static struct exchange *number(uintptr_t n)
{
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	return (struct exchange *)n;
}

static void assert_next(struct verify_queue *q, uintptr_t n, bool is_expired)
{
	bool expired;

	assert_ptr_equal(verify_queue_next(q, &expired), number(n));
	if (n)
		assert_int_equal(expired, is_expired);
}

static void test_cheapest_first(void **state)
{
	struct verify_queue *q = verify_queue_new(2);
	int64_t later = monotonic_ms() + 60000;

	(void)state;
	assert_true(verify_queue_enter(q, number(1), 100, later));
	assert_true(verify_queue_enter(q, number(2), 100, later));
	assert_false(verify_queue_enter(q, number(3), 100, later));
	assert_false(verify_queue_enter(q, number(4), 50, later));
	assert_false(verify_queue_enter(q, number(5), 100, later));
	assert_false(verify_queue_enter(q, number(6), 50, later));
	assert_false(verify_queue_enter(q, number(7), 70, later));
	assert_next(q, 4, false);
	assert_next(q, 6, false);
	assert_next(q, 7, false);
	assert_next(q, 3, false);
	assert_next(q, 5, false);
	/* Each of the two places becomes free. */
	assert_next(q, 0, false);
	assert_true(verify_queue_enter(q, number(8), 1, later));
	assert_false(verify_queue_enter(q, number(9), 1, later));
	assert_next(q, 9, false);
	assert_next(q, 0, false);
	assert_next(q, 0, false);
	verify_queue_free(q);
}

static void test_deadlines(void **state)
{
	struct verify_queue *q = verify_queue_new(1);
	int64_t now = monotonic_ms();

	(void)state;
	assert_true(verify_queue_enter(q, number(1), 1, now));
	assert_false(verify_queue_enter(q, number(2), 1, now + 60000));
	assert_false(verify_queue_enter(q, number(3), 9, now));
	assert_next(q, 3, true);
	assert_next(q, 2, false);
	assert_false(verify_queue_enter(q, number(4), 1, now + 60000));
	verify_queue_set_stop_deadline(q, now);
	assert_next(q, 4, true);
	assert_next(q, 0, false);
	verify_queue_free(q);
}

static void assert_recent(struct verify_queue *q, size_t i, const char *name)
{
	char *got = verify_queue_recent(q, i);

	assert_string_equal(got ? got : "", name);
	free(got);
}

static void test_recent_names(void **state)
{
	struct verify_queue *q = verify_queue_new(1);

	(void)state;
	assert_recent(q, 0, "");
	verify_queue_remember(q, "a");
	verify_queue_remember(q, "b");
	verify_queue_remember(q, "c");
	verify_queue_remember(q, "b");
	assert_recent(q, 0, "b");
	assert_recent(q, 1, "c");
	assert_recent(q, 2, "a");
	assert_recent(q, 3, "");
	verify_queue_remember(q, "b");
	assert_recent(q, 0, "b");
	assert_recent(q, 1, "c");
	for (char name[] = "A"; *name <= 'P'; (*name)++)
		verify_queue_remember(q, name);
	assert_recent(q, 0, "P");
	assert_recent(q, 15, "A");
	assert_recent(q, 16, "");
	verify_queue_remember(q, "A");
	assert_recent(q, 0, "A");
	assert_recent(q, 1, "P");
	assert_recent(q, 15, "B");
	verify_queue_free(q);
}

static void test_processors(void **state)
{
	(void)state;
	assert_true(verify_queue_processors() >= 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cheapest_first),
		cmocka_unit_test(test_deadlines),
		cmocka_unit_test(test_recent_names),
		cmocka_unit_test(test_processors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
