/* The queue: what the writer is told of the deliveries it takes. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/threads.h"
#include "store/queue.h"

enum { PATIENCE_MS = 10000 };

/* One delivery. Out of the spool, a thread of its own waits for it. */
struct bringer {
	struct queue *queue;
	enum outcome outcome;
	bool told; /* by the queue, of the outcome */
	bool answered; /* what queue_drain() said */
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
	struct bringer *b = context;

	assert_false(b->told);
	b->told = true;
	b->outcome = outcome;
}

static bool submit(struct bringer *b, int64_t patience)
{
	return queue_submit(b->queue, delivery(), clock_ms() + patience, answer,
			    b);
}

static void *drain(void *context)
{
	struct bringer *b = context;
	struct delivery *d = delivery();

	b->answered = queue_drain(b->queue, &d, 1, clock_ms() + PATIENCE_MS,
				  &b->outcome);
	return NULL;
}

/* Started, and in line. */
static void start_draining(pthread_t *thread, struct bringer *b)
{
	struct pollfd p = { .fd = queue_wake_fd(b->queue), .events = POLLIN };

	queue_asleep(b->queue, 1);
	assert_int_equal(pthread_create(thread, NULL, drain, b), 0);
	assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
	queue_awake(b->queue, true);
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* As a gateway waits: until the time it is told, or the alarm. */
static struct bringer *wait_for_overdue(struct queue *q)
{
	struct pollfd p = { .fd = queue_alarm_fd(q), .events = POLLIN };
	int64_t end = clock_ms() + PATIENCE_MS, next;
	struct bringer *b;

	while (!(b = queue_overdue(q, &next)) && clock_ms() < end) {
		int64_t left = later(earlier(next, end) - clock_ms(), 0);

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
	queue_finish(q, batch);
}

/* The writer is woken by as many as it asked for, and once; and counts them. */
static void test_enough(void **state)
{
	struct queue *q = queue_new(true, 0);
	struct bringer b[3];

	(void)state;
	queue_asleep(q, 2);
	for (size_t i = 0; i < 3; i++) {
		b[i] = (struct bringer){ .queue = q };
		assert_true(submit(&b[i], PATIENCE_MS));
		assert_int_equal(queue_lined_up(q), i + 1);
		assert_int_equal(readable(queue_wake_fd(q)), i == 1);
		if (i == 1)
			wakeup_clear(queue_wake_fd(q));
	}
	queue_awake(q, false);
	finish(q, queue_take(q, 2), OUTCOME_RECORDED);
	assert_int_equal(queue_lined_up(q), 1);
	finish(q, queue_take(q, 2), OUTCOME_RECORDED);
	assert_int_equal(queue_lined_up(q), 0);
	for (size_t i = 0; i < 3; i++)
		assert_true(b[i].told);
	queue_free(q);
}

/* Who brought it is told; a locked task is tried again. */
static void test_outcome(void **state)
{
	struct queue *q = queue_new(true, 0);
	struct bringer b = { .queue = q };
	struct batch *batch;
	int64_t next;

	(void)state;
	assert_true(submit(&b, PATIENCE_MS));
	batch = queue_take(q, 10);
	assert_int_equal(batch->count, 1);
	assert_false(batch->jobs[0]->was_busy);
	finish(q, batch, OUTCOME_DUPLICATE);
	assert_true(b.told);
	assert_int_equal(b.outcome, OUTCOME_DUPLICATE);
	assert_null(queue_overdue(q, &next));
	queue_free(q);
}

/* Out of the spool, a lock is no reason to try again. */
static void test_drained(void **state)
{
	struct queue *q = queue_new(true, 0);
	struct bringer b = { .queue = q };
	pthread_t thread;
	struct batch *batch;

	(void)state;
	start_draining(&thread, &b);
	batch = queue_take(q, 10);
	assert_int_equal(batch->count, 1);
	assert_true(batch->jobs[0]->was_busy);
	finish(q, batch, OUTCOME_DUPLICATE);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(b.outcome, OUTCOME_DUPLICATE);
	queue_free(q);
}

/* Its time is over while it is on its way, or in line. */
static void test_overdue(void **state)
{
	(void)state;
	for (int taken = 0; taken <= 1; taken++) {
		struct queue *q = queue_new(true, 0);
		struct bringer b = { .queue = q };
		struct batch *batch;

		assert_true(submit(&b, 50));
		batch = taken ? queue_take(q, 10) : NULL;
		assert_ptr_equal(wait_for_overdue(q), &b);
		if (batch)
			assert_null(queue_prune(q, batch));
		else
			assert_null(queue_take(q, 10));
		/* The breaker is open from then on. */
		assert_true(queue_is_open(q));
		assert_false(submit(&b, PATIENCE_MS));
		queue_committed(q);
		assert_false(queue_is_open(q));
		queue_free(q);
	}
}

/* What commits too late is nobody's any more. */
static void test_too_late(void **state)
{
	struct queue *q = queue_new(true, 0);
	struct bringer b = { .queue = q };
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

/* The writer gives it up: no answer, and no reason to open the breaker. */
static void test_given_up(void **state)
{
	struct queue *q = queue_new(true, 0);
	struct bringer b[2] = { { .queue = q }, { .queue = q } };
	struct batch *batch;
	int64_t next;

	(void)state;
	assert_true(submit(&b[0], PATIENCE_MS));
	batch = queue_take(q, 10);
	assert_true(submit(&b[1], PATIENCE_MS));
	assert_null(queue_overdue(q, &next));
	finish(q, batch, OUTCOME_UNAVAILABLE);
	assert_true(readable(queue_alarm_fd(q)));
	assert_ptr_equal(wait_for_overdue(q), &b[0]);
	assert_null(queue_overdue(q, &next));
	assert_false(queue_is_open(q));
	finish(q, queue_take(q, 10), OUTCOME_RECORDED);
	assert_true(b[1].told);
	queue_free(q);
}

/* Whoever waits learns of a shorter deadline, and of no other. */
static void test_alarm(void **state)
{
	static const struct {
		int64_t first, second; /* patience, ms */
		bool alarm;
	} cases[] = {
		{ 1000, 2000, false },
		{ 2000, 1000, true },
		{ 0, 1000, true }, /* it waits for nothing */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct queue *q = queue_new(true, 0);
		struct bringer b[2] = { { .queue = q }, { .queue = q } };
		int64_t now = clock_ms(), next;

		if (cases[i].first)
			assert_true(submit(&b[0], cases[i].first));
		/* Once more, since what came just before is expected again. */
		assert_null(queue_overdue(q, &next));
		assert_null(queue_overdue(q, &next));
		if (cases[i].first)
			assert_in_range(next - now, cases[i].first,
					cases[i].first + 500);
		else
			assert_true(next == INT64_MAX);
		assert_true(submit(&b[1], cases[i].second));
		assert_int_equal(readable(queue_alarm_fd(q)), cases[i].alarm);
		assert_null(queue_overdue(q, &next));
		assert_true(next - now <= 1500);
		finish(q, queue_take(q, 10), OUTCOME_RECORDED);
		queue_free(q);
	}
}

/* With one at a time there is no alarm for each. */
static void test_few_alarms(void **state)
{
	struct queue *q = queue_new(true, 0);
	struct bringer b;
	int64_t next;

	(void)state;
	for (int i = 0; i < 10; i++) {
		b = (struct bringer){ .queue = q };
		assert_true(submit(&b, PATIENCE_MS));
		assert_false(readable(queue_alarm_fd(q)));
		finish(q, queue_take(q, 10), OUTCOME_RECORDED);
		assert_null(queue_overdue(q, &next));
		assert_true(next < INT64_MAX);
	}
	assert_null(queue_overdue(q, &next));
	assert_true(next == INT64_MAX);
	queue_free(q);
}

/* Where all wait for the database, those behind them need the spool. */
static void test_crowd(void **state)
{
	enum { CROWD = 10, PATIENCE = 2000, SOON = 1500 };
	static const struct {
		bool breaker;
		size_t count;
		bool soon;
	} cases[] = {
		{ true, CROWD, true },
		{ true, CROWD - 1, false },
		{ false, CROWD, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct queue *q = queue_new(cases[i].breaker, CROWD);
		struct bringer b[CROWD];
		int64_t begin = clock_ms(), next;

		for (size_t n = 0; n < cases[i].count; n++) {
			b[n] = (struct bringer){ .queue = q };
			assert_true(submit(&b[n], PATIENCE));
			assert_null(queue_overdue(q, &next));
			wakeup_clear(queue_alarm_fd(q));
			if (n + 2 == cases[i].count)
				assert_true(next - begin >= PATIENCE);
		}
		for (size_t n = 0; n < cases[i].count; n++) {
			wait_for_overdue(q);
			/* All of them, and not before their time. */
			if (cases[i].soon)
				assert_in_range(clock_ms() - begin, 1, SOON);
			else
				assert_true(clock_ms() - begin >= PATIENCE);
		}
		assert_int_equal(queue_is_open(q), cases[i].breaker);
		queue_free(q);
	}
}

/* Whether the drainer should go on with those behind it. */
static void test_answered(void **state)
{
	static const struct {
		bool trip;
		enum outcome outcome;
	} cases[] = {
		{ true, OUTCOME_RECORDED },
		{ true, OUTCOME_UNAVAILABLE }, /* its task is locked */
		{ false, OUTCOME_UNAVAILABLE }, /* so are all others */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct queue *q = queue_new(true, 0);
		struct bringer b = { .queue = q };
		pthread_t thread;

		start_draining(&thread, &b);
		queue_note_trip(q, cases[i].trip);
		finish(q, queue_take(q, 10), cases[i].outcome);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(b.outcome, cases[i].outcome);
		assert_int_equal(b.answered, cases[i].trip);
		queue_free(q);
	}
}

/* Live ones go first, but however many come, the spool has its turn. */
static void test_turns(void **state)
{
	enum { LIVE = 12, SPOOLED = 2, ALL = LIVE + SPOOLED };
	struct queue *q = queue_new(true, 0);
	struct bringer b[ALL];
	pthread_t threads[SPOOLED];
	struct batch *batches[ALL];
	size_t first = ALL, second = ALL;

	(void)state;
	for (size_t i = 0; i < ALL; i++) {
		b[i] = (struct bringer){ .queue = q };
		if (i < SPOOLED)
			start_draining(&threads[i], &b[i]);
		else
			assert_true(submit(&b[i], PATIENCE_MS));
	}
	for (size_t i = 0; i < ALL; i++) {
		batches[i] = queue_take(q, 1);
		assert_non_null(batches[i]);
		if (batches[i]->jobs[0]->was_busy) {
			second = first < ALL ? i : second;
			first = first < ALL ? first : i;
		}
	}
	assert_in_range(first, 2, LIVE / 2);
	assert_in_range(second, first + 2, LIVE);
	for (size_t i = 0; i < ALL; i++)
		queue_finish(q, batches[i]);
	for (size_t i = 0; i < SPOOLED; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	queue_free(q);
}

/* Who still waits in line when the process ends is let go at once. */
static void test_hurry(void **state)
{
	struct queue *q = queue_new(false, 0);
	struct bringer b = { .queue = q };
	pthread_t thread;
	int64_t begin = clock_ms();

	(void)state;
	start_draining(&thread, &b);
	queue_hurry(q, begin);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(b.outcome, OUTCOME_UNAVAILABLE);
	assert_false(b.answered);
	assert_true(clock_ms() - begin < PATIENCE_MS / 2);
	assert_null(queue_take(q, 10));
	queue_free(q);
}

/* Whoever asks next does not wait as long, or many could hold all threads. */
static void test_health_of_a_silent_database(void **state)
{
	struct queue *q = queue_new(true, 0);
	int64_t begin = clock_ms(), after;

	(void)state;
	assert_false(queue_healthy(q));
	after = clock_ms();
	assert_in_range(after - begin, 1000, PATIENCE_MS);
	assert_true(queue_wants_probe(q));
	for (int i = 0; i < 100; i++)
		assert_false(queue_healthy(q));
	assert_true(clock_ms() - after < 500);
	/* The answer counts, however late. */
	queue_note_trip(q, true);
	assert_true(queue_healthy(q));
	queue_free(q);
}

/* Whoever comes after us waits at the door; with a spool nobody need wait. */
static void test_hurry_live(void **state)
{
	enum { PATIENCE = 2000, SOON = 1500 };

	(void)state;
	for (int breaker = 0; breaker <= 1; breaker++) {
		struct queue *q = queue_new(breaker, 0);
		struct bringer b = { .queue = q };
		int64_t begin = clock_ms();

		assert_true(submit(&b, PATIENCE));
		queue_hurry(q, begin + PATIENCE_MS);
		assert_ptr_equal(wait_for_overdue(q), &b);
		if (breaker)
			assert_in_range(clock_ms() - begin, 1, SOON);
		else
			assert_true(clock_ms() - begin >= PATIENCE);
		queue_free(q);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_health_of_a_silent_database),
		cmocka_unit_test(test_enough),
		cmocka_unit_test(test_outcome),
		cmocka_unit_test(test_drained),
		cmocka_unit_test(test_overdue),
		cmocka_unit_test(test_too_late),
		cmocka_unit_test(test_given_up),
		cmocka_unit_test(test_alarm),
		cmocka_unit_test(test_few_alarms),
		cmocka_unit_test(test_crowd),
		cmocka_unit_test(test_answered),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_hurry),
		cmocka_unit_test(test_hurry_live),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
