/* The queue: deadlines, wake-ups and outcomes between requests and writer. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/macros.h"
#include "base/threads.h"
#include "store/batch.h"

enum { TEST_TIMEOUT_MS = 10000 };

/* Submits one delivery. For one out of the spool a thread of its own waits. */
struct submitter {
	struct queue *queue;
	enum outcome outcome;
	bool told; /* by the queue, of the outcome */
	bool answered; /* what queue_submit_and_wait() said */
};

static struct delivery *delivery(void)
{
	struct delivery *d = delivery_new();

	d->payload = xstrdup("{}");
	d->length = 2;
	return d;
}

static void answer(void *context, enum outcome outcome)
{
	struct submitter *b = context;

	assert_false(b->told);
	b->told = true;
	b->outcome = outcome;
}

static bool submit(struct submitter *b, int64_t timeout)
{
	return queue_submit(b->queue, delivery(), monotonic_ms() + timeout,
			    answer, b);
}

static void *drain(void *context)
{
	struct submitter *b = context;
	struct delivery *d = delivery();

	b->answered = queue_submit_and_wait(
		b->queue, &d, 1, monotonic_ms() + TEST_TIMEOUT_MS, &b->outcome);
	return NULL;
}

/* Starts a thread that drains, and waits until its delivery is enqueued. */
static void start_draining(pthread_t *thread, struct submitter *b)
{
	struct pollfd p = { .fd = queue_writer_fd(b->queue), .events = POLLIN };

	queue_arm_wakeup(b->queue, 1);
	assert_int_equal(pthread_create(thread, NULL, drain, b), 0);
	assert_int_equal(poll(&p, 1, TEST_TIMEOUT_MS), 1);
	queue_disarm_wakeup(b->queue, true);
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* Waits as the leader does: until the time it is told, or the wake-up. */
static struct submitter *wait_for_overdue(struct queue *q)
{
	struct pollfd p = { .fd = queue_overdue_fd(q), .events = POLLIN };
	int64_t end = monotonic_ms() + TEST_TIMEOUT_MS, next;
	struct submitter *b;

	while (!(b = queue_overdue(q, &next)) && monotonic_ms() < end) {
		int64_t left = max_i64(min_i64(next, end) - monotonic_ms(), 0);

		if (poll(&p, 1, (int)left) == 1)
			wakeup_clear(p.fd);
	}
	assert_true(b && !b->told);
	return b;
}

static void finish(struct queue *q, struct batch *batch, enum outcome outcome)
{
	for (size_t i = 0; i < batch->count; i++)
		batch->jobs[i]->outcome = outcome;
	queue_complete(q, batch);
}

/* The writer is woken once, by as many entries as it asked for. */
static void test_wakeup_threshold(void **state)
{
	struct queue *q = queue_new(true, 0);
	struct submitter b[3];

	(void)state;
	queue_arm_wakeup(q, 2);
	for (size_t i = 0; i < 3; i++) {
		b[i] = (struct submitter){ .queue = q };
		assert_true(submit(&b[i], TEST_TIMEOUT_MS));
		assert_int_equal(queue_look(q).length, i + 1);
		assert_int_equal(readable(queue_writer_fd(q)), i == 1);
		if (i == 1)
			wakeup_clear(queue_writer_fd(q));
	}
	queue_disarm_wakeup(q, false);
	finish(q, queue_take(q, 2), OUTCOME_RECORDED);
	assert_int_equal(queue_look(q).length, 1);
	finish(q, queue_take(q, 2), OUTCOME_RECORDED);
	assert_int_equal(queue_look(q).length, 0);
	for (size_t i = 0; i < 3; i++)
		assert_true(b[i].told);
	queue_free(q);
}

/* The submitter gets the outcome; a locked task may be retried once. */
static void test_outcome(void **state)
{
	struct queue *q = queue_new(true, 0);
	struct submitter b = { .queue = q };
	struct batch *batch;
	int64_t next;

	(void)state;
	assert_true(submit(&b, TEST_TIMEOUT_MS));
	batch = queue_take(q, 10);
	assert_int_equal(batch->count, 1);
	assert_false(batch->jobs[0]->lock_retried);
	finish(q, batch, OUTCOME_DUPLICATE);
	assert_true(b.told);
	assert_int_equal(b.outcome, OUTCOME_DUPLICATE);
	assert_null(queue_overdue(q, &next));
	queue_free(q);
}

/* A delivery out of the spool is not retried because of a lock. */
static void test_drained(void **state)
{
	struct queue *q = queue_new(true, 0);
	struct submitter b = { .queue = q };
	pthread_t thread;
	struct batch *batch;

	(void)state;
	start_draining(&thread, &b);
	batch = queue_take(q, 10);
	assert_int_equal(batch->count, 1);
	assert_true(batch->jobs[0]->lock_retried);
	finish(q, batch, OUTCOME_DUPLICATE);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(b.outcome, OUTCOME_DUPLICATE);
	queue_free(q);
}

/* A delivery is overdue while it is in flight, or still enqueued. */
static void test_overdue(void **state)
{
	(void)state;
	for (int taken = 0; taken <= 1; taken++) {
		struct queue *q = queue_new(true, 0);
		struct submitter b = { .queue = q };
		struct batch *batch;

		assert_true(submit(&b, 50));
		batch = taken ? queue_take(q, 10) : NULL;
		assert_ptr_equal(wait_for_overdue(q), &b);
		if (batch)
			assert_null(queue_drop_abandoned(q, batch));
		else
			assert_null(queue_take(q, 10));
		/* The breaker is open from then on. */
		assert_true(queue_look(q).breaker_open);
		assert_false(submit(&b, TEST_TIMEOUT_MS));
		queue_close_breaker(q);
		assert_false(queue_look(q).breaker_open);
		queue_free(q);
	}
}

/* A commit after the deadline is reported to nobody. */
static void test_too_late(void **state)
{
	struct queue *q = queue_new(true, 0);
	struct submitter b = { .queue = q };
	struct batch *batch;
	int64_t next;

	(void)state;
	assert_true(submit(&b, 50));
	batch = queue_take(q, 10);
	assert_ptr_equal(wait_for_overdue(q), &b);
	finish(q, batch, OUTCOME_RECORDED);
	assert_false(b.told);
	assert_null(queue_overdue(q, &next));
	queue_free(q);
}

/* The writer gives a delivery up: that does not open the breaker. */
static void test_given_up(void **state)
{
	struct queue *q = queue_new(true, 0);
	struct submitter b[2] = { { .queue = q }, { .queue = q } };
	struct batch *batch;
	int64_t next;

	(void)state;
	assert_true(submit(&b[0], TEST_TIMEOUT_MS));
	batch = queue_take(q, 10);
	assert_true(submit(&b[1], TEST_TIMEOUT_MS));
	assert_null(queue_overdue(q, &next));
	finish(q, batch, OUTCOME_UNAVAILABLE);
	assert_true(readable(queue_overdue_fd(q)));
	assert_ptr_equal(wait_for_overdue(q), &b[0]);
	assert_null(queue_overdue(q, &next));
	assert_false(queue_look(q).breaker_open);
	finish(q, queue_take(q, 10), OUTCOME_RECORDED);
	assert_true(b[1].told);
	queue_free(q);
}

/* The wake-up is sent for a shorter deadline, and for no other. */
static void test_overdue_wakeup(void **state)
{
	static const struct {
		int64_t first, second; /* timeout, ms */
		bool wakeup;
	} cases[] = {
		{ 1000, 2000, false },
		{ 2000, 1000, true },
		{ 0, 1000, true }, /* it waits for nothing */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct queue *q = queue_new(true, 0);
		struct submitter b[2] = { { .queue = q }, { .queue = q } };
		int64_t now = monotonic_ms(), next;

		if (cases[i].first)
			assert_true(submit(&b[0], cases[i].first));
		/* Twice, because after a submit another one is expected. */
		assert_null(queue_overdue(q, &next));
		assert_null(queue_overdue(q, &next));
		if (cases[i].first)
			assert_in_range(next - now, cases[i].first,
					cases[i].first + 500);
		else
			assert_true(next == INT64_MAX);
		assert_true(submit(&b[1], cases[i].second));
		assert_int_equal(readable(queue_overdue_fd(q)),
				 cases[i].wakeup);
		assert_null(queue_overdue(q, &next));
		assert_true(next - now <= 1500);
		finish(q, queue_take(q, 10), OUTCOME_RECORDED);
		queue_free(q);
	}
}

/* Single deliveries in turn cause no wake-up each. */
static void test_few_wakeups(void **state)
{
	struct queue *q = queue_new(true, 0);
	struct submitter b;
	int64_t next;

	(void)state;
	for (int i = 0; i < 10; i++) {
		b = (struct submitter){ .queue = q };
		assert_true(submit(&b, TEST_TIMEOUT_MS));
		assert_false(readable(queue_overdue_fd(q)));
		finish(q, queue_take(q, 10), OUTCOME_RECORDED);
		assert_null(queue_overdue(q, &next));
		assert_true(next < INT64_MAX);
	}
	assert_null(queue_overdue(q, &next));
	assert_true(next == INT64_MAX);
	queue_free(q);
}

/* Under pressure deliveries wait for less than their deadline. */
static void test_pressure(void **state)
{
	enum { PRESSURE = 10, TIMEOUT = 2000, SOON = 1500 };
	static const struct {
		bool breaker;
		size_t count;
		bool soon;
	} cases[] = {
		{ true, PRESSURE, true },
		{ true, PRESSURE - 1, false },
		{ false, PRESSURE, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct queue *q = queue_new(cases[i].breaker, PRESSURE);
		struct submitter b[PRESSURE];
		int64_t begin = monotonic_ms(), next;

		for (size_t n = 0; n < cases[i].count; n++) {
			b[n] = (struct submitter){ .queue = q };
			assert_true(submit(&b[n], TIMEOUT));
			assert_null(queue_overdue(q, &next));
			wakeup_clear(queue_overdue_fd(q));
			if (n + 2 == cases[i].count)
				assert_true(next - begin >= TIMEOUT);
		}
		for (size_t n = 0; n < cases[i].count; n++) {
			wait_for_overdue(q);
			/* All are overdue then, and none before. */
			if (cases[i].soon)
				assert_in_range(monotonic_ms() - begin, 1,
						SOON);
			else
				assert_true(monotonic_ms() - begin >= TIMEOUT);
		}
		assert_int_equal(queue_look(q).breaker_open, cases[i].breaker);
		queue_free(q);
	}
}

/*
 * Under pressure the oldest delivery is overdue first, whatever its deadline,
 * because all of them then wait equally long.
 */
static void test_pressure_reorders(void **state)
{
	enum { PRESSURE = 8, SOON = 1500 };
	struct queue *q = queue_new(true, PRESSURE);
	struct submitter b[PRESSURE];
	int64_t begin = monotonic_ms(), next;

	(void)state;
	for (size_t i = 0; i < PRESSURE; i++) {
		b[i] = (struct submitter){ .queue = q };
		assert_true(submit(&b[i],
				   i ? TEST_TIMEOUT_MS : 2 * TEST_TIMEOUT_MS));
		/* The first has the latest deadline and is the oldest. */
		while (!i && monotonic_ms() - begin < 200)
			(void)poll(NULL, 0, 10);
	}
	assert_null(queue_overdue(q, &next));
	assert_in_range(next - begin, 1, 650);
	assert_ptr_equal(wait_for_overdue(q), &b[0]);
	assert_in_range(monotonic_ms() - begin, 1, SOON);
	for (size_t i = 1; i < PRESSURE; i++)
		wait_for_overdue(q);
	queue_free(q);
}

static bool probe_answers(void *context, int64_t deadline)
{
	bool *asked = context;

	assert_true(deadline > monotonic_ms());
	*asked = true;
	return true;
}

/* While a batch is in flight /health does not wait for its end. */
static void test_health_beside_a_batch(void **state)
{
	struct queue *q = queue_new(true, 0);
	bool asked = false;

	(void)state;
	queue_set_probe(q, probe_answers, &asked);
	queue_arm_wakeup(q, 0);
	assert_true(queue_healthy(q));
	assert_true(asked);
	asked = false;
	assert_true(queue_healthy(q));
	assert_false(asked);
	queue_free(q);
}

/* The drainer is told whether it may go on with the next files. */
static void test_answered(void **state)
{
	static const struct {
		bool ok;
		enum outcome outcome;
	} cases[] = {
		{ true, OUTCOME_RECORDED },
		{ true, OUTCOME_UNAVAILABLE }, /* its task is locked */
		{ false, OUTCOME_UNAVAILABLE }, /* so are all others */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct queue *q = queue_new(true, 0);
		struct submitter b = { .queue = q };
		pthread_t thread;

		start_draining(&thread, &b);
		queue_round_trip_done(q, cases[i].ok ? ROUND_TRIP_OK
						     : ROUND_TRIP_FAILED);
		finish(q, queue_take(q, 10), cases[i].outcome);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(b.outcome, cases[i].outcome);
		assert_int_equal(b.answered, cases[i].ok);
		queue_free(q);
	}
}

/* Live deliveries go first, but under load the spool has its turn. */
static void test_turns(void **state)
{
	enum { LIVE = 12, SPOOLED = 2, ALL = LIVE + SPOOLED };
	struct queue *q = queue_new(true, 0);
	struct submitter b[ALL];
	pthread_t threads[SPOOLED];
	struct batch *batches[ALL];
	size_t first = ALL, second = ALL;

	(void)state;
	for (size_t i = 0; i < ALL; i++) {
		b[i] = (struct submitter){ .queue = q };
		if (i < SPOOLED)
			start_draining(&threads[i], &b[i]);
		else
			assert_true(submit(&b[i], TEST_TIMEOUT_MS));
	}
	for (size_t i = 0; i < ALL; i++) {
		batches[i] = queue_take(q, 1);
		assert_non_null(batches[i]);
		if (batches[i]->jobs[0]->lock_retried) {
			second = first < ALL ? i : second;
			first = first < ALL ? first : i;
		}
	}
	assert_in_range(first, 2, LIVE / 2);
	assert_in_range(second, first + 2, LIVE);
	for (size_t i = 0; i < ALL; i++)
		queue_complete(q, batches[i]);
	for (size_t i = 0; i < SPOOLED; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	queue_free(q);
}

/* The shutdown releases a drainer at once. */
static void test_stop(void **state)
{
	struct queue *q = queue_new(false, 0);
	struct submitter b = { .queue = q };
	pthread_t thread;
	int64_t begin = monotonic_ms();

	(void)state;
	start_draining(&thread, &b);
	queue_set_stop_deadline(q, begin);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(b.outcome, OUTCOME_UNAVAILABLE);
	assert_false(b.answered);
	assert_true(monotonic_ms() - begin < TEST_TIMEOUT_MS / 2);
	assert_null(queue_take(q, 10));
	queue_free(q);
}

/* After a missing answer the next request does not wait for one, too. */
static void test_health_of_a_silent_database(void **state)
{
	struct queue *q = queue_new(true, 0);
	int64_t begin = monotonic_ms(), after;

	(void)state;
	assert_false(queue_healthy(q));
	after = monotonic_ms();
	assert_in_range(after - begin, 1000, TEST_TIMEOUT_MS);
	assert_true(queue_look(q).probe_wanted);
	for (int i = 0; i < 100; i++)
		assert_false(queue_healthy(q));
	assert_true(monotonic_ms() - after < 500);
	/* A late answer counts. */
	queue_round_trip_done(q, ROUND_TRIP_OK);
	assert_true(queue_healthy(q));
	queue_free(q);
}

/* During the shutdown deliveries wait for less if there is a spool. */
static void test_stop_live(void **state)
{
	enum { TIMEOUT = 2000, SOON = 1500 };

	(void)state;
	for (int breaker = 0; breaker <= 1; breaker++) {
		struct queue *q = queue_new(breaker, 0);
		struct submitter b = { .queue = q };
		int64_t begin = monotonic_ms();

		assert_true(submit(&b, TIMEOUT));
		queue_set_stop_deadline(q, begin + TEST_TIMEOUT_MS);
		assert_ptr_equal(wait_for_overdue(q), &b);
		if (breaker)
			assert_in_range(monotonic_ms() - begin, 1, SOON);
		else
			assert_true(monotonic_ms() - begin >= TIMEOUT);
		queue_free(q);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_health_of_a_silent_database),
		cmocka_unit_test(test_wakeup_threshold),
		cmocka_unit_test(test_outcome),
		cmocka_unit_test(test_drained),
		cmocka_unit_test(test_overdue),
		cmocka_unit_test(test_too_late),
		cmocka_unit_test(test_given_up),
		cmocka_unit_test(test_overdue_wakeup),
		cmocka_unit_test(test_few_wakeups),
		cmocka_unit_test(test_pressure),
		cmocka_unit_test(test_pressure_reorders),
		cmocka_unit_test(test_health_beside_a_batch),
		cmocka_unit_test(test_answered),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_stop_live),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
