/* Joining a thread with a deadline. */
#include "base/threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/clock.h"

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool open;
};

static void *wait_at_gate(void *argument)
{
	struct gate *g = argument;

	mutex_lock(&g->lock);
	while (!g->open)
		cond_wait(&g->changed, &g->lock, monotonic_ms() + 60000);
	mutex_unlock(&g->lock);
	return NULL;
}

static void test_join_until(void **state)
{
	struct gate g = { .open = false };
	pthread_t thread;
	int64_t start;

	(void)state;
	mutex_init(&g.lock);
	cond_init(&g.changed);
	assert_int_equal(pthread_create(&thread, NULL, wait_at_gate, &g), 0);
	/* A deadline in the past, and one to come. */
	assert_false(thread_join_until(thread, monotonic_ms() - 1000));
	start = monotonic_ms();
	assert_false(thread_join_until(thread, start + 50));
	assert_true(monotonic_ms() >= start + 50);
	mutex_lock(&g.lock);
	g.open = true;
	cond_broadcast(&g.changed);
	mutex_unlock(&g.lock);
	assert_true(thread_join_until(thread, monotonic_ms() + 60000));
	cond_destroy(&g.changed);
	mutex_destroy(&g.lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_join_until),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
