/*
 * Owns the threads of a leader/follower pool: which one leads, and how many
 * there are. Must not know what the work is.
 *
 * leader_lock is held by the leader. A worker that wants to lead waits for that
 * lock; such workers are the followers. Idle workers are the leader and the
 * followers. The leader keeps the lead while it does work that does not block,
 * because a wake-up of a follower costs as much as a usual request. Before it
 * may block, worker_pool_hand_over() makes it busy. A worker that becomes busy
 * as the last idle one starts another, up to max_threads, so that somebody
 * leads.
 */
#include "responder/worker_pool.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/threads.h"

enum { STACK_BYTES = 256 * 1024 };

struct worker_pool {
	const struct worker_pool_calls *calls;
	void *context;
	unsigned max_threads;
	int leader_wakeup; /* makes the leader's poll() return */
	pthread_mutex_t leader_lock; /* held by the leader */

	pthread_mutex_t lock; /* over the rest */
	unsigned started;
	unsigned running; /* of them have not ended */
	unsigned idle; /* of these lead or follow */
	bool leader_waits; /* for a second idle worker */
	bool limit_known; /* the last thread could not be started */
	int limit_error; /* why one could not be started; 0: nothing to log */
	pthread_t *threads; /* the first `started` are set */
	unsigned joined; /* of the main thread */
};

struct worker_pool *worker_pool_new(unsigned max_threads,
				    const struct worker_pool_calls *calls,
				    void *context)
{
	struct worker_pool *p = xmalloc(sizeof(*p));

	*p = (struct worker_pool){ .calls = calls,
				   .context = context,
				   .max_threads = max_threads,
				   .leader_wakeup = wakeup_new() };
	mutex_init(&p->leader_lock);
	mutex_init(&p->lock);
	p->threads = xcalloc(max_threads, sizeof(p->threads[0]));
	return p;
}

void worker_pool_free(struct worker_pool *p)
{
	mutex_destroy(&p->lock);
	mutex_destroy(&p->leader_lock);
	close(p->leader_wakeup);
	free(p->threads);
	free(p);
}

void worker_pool_wake_leader(struct worker_pool *p)
{
	wakeup_signal(p->leader_wakeup);
}

int worker_pool_leader_fd(const struct worker_pool *p)
{
	return p->leader_wakeup;
}

static void *worker_main(void *context);

/* Returns 0 or an error number. Call with p->lock held. */
static int start_worker(struct worker_pool *p)
{
	pthread_attr_t a;
	int error;

	pthread_check(pthread_attr_init(&a));
	pthread_check(pthread_attr_setstacksize(&a, STACK_BYTES));
	error = pthread_create(&p->threads[p->started], &a, worker_main, p);
	pthread_check(pthread_attr_destroy(&a));
	if (error)
		return error;
	p->started++;
	p->running++;
	p->idle++;
	return 0;
}

/*
 * Starts another worker unless max_threads is reached. Remembers the first
 * failure for worker_pool_log_limit(). Call with p->lock held.
 */
static bool add_worker(struct worker_pool *p)
{
	int error;

	if (p->running >= p->max_threads)
		return false;
	error = start_worker(p);
	if (error && !p->limit_known)
		p->limit_error = error;
	p->limit_known = error != 0;
	return error == 0;
}

void worker_pool_log_limit(struct worker_pool *p)
{
	unsigned running;
	int error;

	mutex_lock(&p->lock);
	error = p->limit_error;
	p->limit_error = 0;
	running = p->running;
	mutex_unlock(&p->lock);
	if (!error)
		return;
	errno = error;
	log_message(LEVEL_WARNING, "can't start more than %u of %u threads: %m",
		    running, p->max_threads);
}

bool worker_pool_can_spare_leader(struct worker_pool *p, unsigned in_flight)
{
	bool can;

	mutex_lock(&p->lock);
	can = p->idle > 1 || in_flight < p->running || add_worker(p);
	p->leader_waits = !can;
	mutex_unlock(&p->lock);
	return can;
}

/*
 * Makes the leader busy, and starts a worker if none is left to take the lead.
 * Call with p->leader_lock held, so that the next leader sees it.
 */
static void become_busy(struct worker_pool *p)
{
	mutex_lock(&p->lock);
	p->idle--;
	if (!p->idle)
		(void)add_worker(p);
	mutex_unlock(&p->lock);
	worker_pool_log_limit(p);
}

static void become_idle(struct worker_pool *p)
{
	mutex_lock(&p->lock);
	p->idle++;
	if (p->leader_waits && p->idle == 2)
		wakeup_signal(p->leader_wakeup);
	mutex_unlock(&p->lock);
}

void worker_pool_hand_over(struct worker_pool *p, struct work_item *item)
{
	if (!item->leads)
		return;
	item->leads = false;
	become_busy(p);
	mutex_unlock(&p->leader_lock);
}

static void *worker_main(void *context)
{
	struct worker_pool *p = context;
	struct work_item item;

	mutex_lock(&p->leader_lock);
	while (p->calls->find_work(p->context, &item)) {
		item.leads = true;
		p->calls->do_work(p->context, &item);
		if (!item.leads) {
			become_idle(p);
			mutex_lock(&p->leader_lock);
		}
	}
	mutex_unlock(&p->leader_lock);
	mutex_lock(&p->lock);
	p->idle--;
	p->running--;
	mutex_unlock(&p->lock);
	return NULL;
}

bool worker_pool_start(struct worker_pool *p)
{
	int error;

	mutex_lock(&p->lock);
	error = start_worker(p);
	mutex_unlock(&p->lock);
	errno = error;
	return error == 0;
}

/* Returns true if there is a worker that has not been joined yet. */
static bool next_to_join(struct worker_pool *p, pthread_t *thread)
{
	bool more;

	mutex_lock(&p->lock);
	more = p->joined < p->started;
	if (more)
		*thread = p->threads[p->joined];
	mutex_unlock(&p->lock);
	return more;
}

bool worker_pool_join(struct worker_pool *p, int64_t until)
{
	pthread_t thread;

	/*
	 * Joined, because thread-local destructors of libraries may still run
	 * when a worker has finished; exit() would destroy locks that they use.
	 */
	while (next_to_join(p, &thread)) {
		if (!thread_join_until(thread, until))
			return false;
		p->joined++;
	}
	return true;
}
