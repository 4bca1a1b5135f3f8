/* The queue: what the writer is told of the deliveries it takes. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "queue.h"

enum { PATIENCE_MS = 10000 };

/* One delivery, brought by a thread of its own. */
struct bringer {
	struct queue *queue;
	bool drained;
	int64_t patience; /* ms */
	enum outcome outcome;
	bool answered; /* what queue_drain() said */
};

static struct delivery *delivery(void)
{
	struct delivery *d = delivery_new();

	d->payload = xstrdup("{}");
	d->length = 2;
	return d;
}

static void *bring(void *context)
{
	struct bringer *b = context;
	struct delivery *d = delivery();
	int64_t until = clock_ms() + b->patience;

	if (b->drained)
		b->answered = queue_drain(b->queue, &d, 1, until, &b->outcome);
	else
		b->outcome = queue_submit(b->queue, d, until);
	return NULL;
}

/* As the writer does: sleeps until there is something. */
static struct batch *wait_for_batch(struct queue *q)
{
	int64_t end = clock_ms() + PATIENCE_MS;
	struct batch *b;

	while (!(b = queue_take(q, 10)) && clock_ms() < end) {
		struct pollfd p = { .fd = queue_wake_fd(q), .events = POLLIN };

		queue_asleep(q, 1);
		/* It may have come before we said that we sleep. */
		if (!queue_has_work(q))
			(void)poll(&p, 1, 100);
		queue_awake(q, p.revents & POLLIN);
	}
	assert_non_null(b);
	return b;
}

static void start(pthread_t *thread, struct bringer *b)
{
	assert_int_equal(pthread_create(thread, NULL, bring, b), 0);
}

/* Started, and in line. */
static void line_up(pthread_t *thread, struct bringer *b)
{
	struct pollfd p = { .fd = queue_wake_fd(b->queue), .events = POLLIN };

	queue_asleep(b->queue, 1);
	start(thread, b);
	assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
	queue_awake(b->queue, true);
}

/* The writer is woken by as many as it asked for, and once; and counts them. */
static void test_enough(void **state)
{
	struct queue *q = queue_new(true, 0);
	struct bringer b[3];
	pthread_t threads[3];
	struct pollfd p = { .fd = queue_wake_fd(q), .events = POLLIN };
	struct batch *batch;

	(void)state;
	queue_asleep(q, 2);
	for (size_t i = 0; i < 3; i++) {
		b[i] = (struct bringer){ .queue = q, .patience = PATIENCE_MS };
		start(&threads[i], &b[i]);
		while (queue_lined_up(q) <= i)
			(void)poll(NULL, 0, 1);
		assert_int_equal(poll(&p, 1, 0), i == 1);
		if (i == 1) {
			uint64_t count;

			assert_int_equal(read(p.fd, &count, sizeof(count)),
					 sizeof(count));
		}
	}
	queue_awake(q, false);
	batch = queue_take(q, 2);
	assert_int_equal(queue_lined_up(q), 1);
	queue_finish(q, batch);
	batch = queue_take(q, 2);
	assert_int_equal(queue_lined_up(q), 0);
	queue_finish(q, batch);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	queue_free(q);
}

/* Who brought it is told; out of the spool, a lock is no reason to try again. */
static void test_outcome(void **state)
{
	(void)state;
	for (int drained = 0; drained <= 1; drained++) {
		struct queue *q = queue_new(true, 0);
		struct bringer b = { .queue = q,
				     .drained = drained,
				     .patience = PATIENCE_MS };
		pthread_t thread;
		struct batch *batch;

		start(&thread, &b);
		batch = wait_for_batch(q);
		assert_int_equal(batch->count, 1);
		assert_int_equal(batch->jobs[0]->was_busy, drained);
		batch->jobs[0]->outcome = OUTCOME_DUPLICATE;
		queue_finish(q, batch);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(b.outcome, OUTCOME_DUPLICATE);
		queue_free(q);
	}
}

/* Nobody waits any more: pruned, and the breaker is open from then on. */
static void test_abandoned(void **state)
{
	struct queue *q = queue_new(true, 0);
	struct bringer b = { .queue = q, .patience = 50 };
	pthread_t thread;
	struct batch *batch;

	(void)state;
	start(&thread, &b);
	batch = wait_for_batch(q);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(b.outcome, OUTCOME_UNAVAILABLE);
	assert_null(queue_prune(q, batch));
	assert_true(queue_is_open(q));
	assert_int_equal(queue_submit(q, delivery(), clock_ms() + PATIENCE_MS),
			 OUTCOME_UNAVAILABLE);
	queue_committed(q);
	assert_false(queue_is_open(q));
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
		pthread_t threads[CROWD];
		int64_t begin = clock_ms();

		for (size_t n = 0; n < cases[i].count; n++) {
			b[n] = (struct bringer){ .queue = q,
						 .patience = PATIENCE };
			line_up(&threads[n], &b[n]);
		}
		for (size_t n = 0; n < cases[i].count; n++) {
			assert_int_equal(pthread_join(threads[n], NULL), 0);
			assert_int_equal(b[n].outcome, OUTCOME_UNAVAILABLE);
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
		struct bringer b = { .queue = q,
				     .drained = true,
				     .patience = PATIENCE_MS };
		pthread_t thread;
		struct batch *batch;

		start(&thread, &b);
		batch = wait_for_batch(q);
		batch->jobs[0]->outcome = cases[i].outcome;
		queue_note_trip(q, cases[i].trip);
		queue_finish(q, batch);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(b.outcome, cases[i].outcome);
		assert_int_equal(b.answered, cases[i].trip);
		queue_free(q);
	}
}

/* Live ones go first, but however many come, the spool has its turn. */
static void test_turns(void **state)
{
	enum { LIVE = 12, ALL = LIVE + 2 };
	struct queue *q = queue_new(true, 0);
	struct bringer b[ALL];
	pthread_t threads[ALL];
	struct batch *batches[ALL];
	size_t first = ALL, second = ALL;

	(void)state;
	for (size_t i = 0; i < ALL; i++) {
		b[i] = (struct bringer){ .queue = q,
					 .drained = i < 2,
					 .patience = PATIENCE_MS };
		line_up(&threads[i], &b[i]);
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
	for (size_t i = 0; i < ALL; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	queue_free(q);
}

/* Who still waits in line when the process ends is let go at once. */
static void test_hurry(void **state)
{
	struct queue *q = queue_new(false, 0);
	struct bringer b = { .queue = q,
			     .drained = true,
			     .patience = PATIENCE_MS };
	pthread_t thread;
	int64_t begin = clock_ms();

	(void)state;
	start(&thread, &b);
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
		struct bringer b = { .queue = q, .patience = PATIENCE };
		pthread_t thread;
		int64_t begin = clock_ms();

		line_up(&thread, &b);
		queue_hurry(q, begin + PATIENCE_MS);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(b.outcome, OUTCOME_UNAVAILABLE);
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
		cmocka_unit_test(test_abandoned),
		cmocka_unit_test(test_crowd),
		cmocka_unit_test(test_answered),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_hurry),
		cmocka_unit_test(test_hurry_live),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
