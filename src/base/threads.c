/*
 * Owns the checks of pthread's results, the monotonic clock of all waits, and
 * wake-ups by eventfd. Must not know what its callers protect.
 */
#include "base/threads.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>

#include "base/clock.h"
#include "base/fatal.h"

/* GCC defines a macro for ThreadSanitizer; clang answers __has_feature(). */
#ifdef __has_feature
#define THREAD_SANITIZER __has_feature(thread_sanitizer)
#elif defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#else
#define THREAD_SANITIZER 0
#endif

void pthread_check(int error)
{
	if (error)
		abort();
}

static struct timespec timespec_of(int64_t ms)
{
	return (struct timespec){ .tv_sec = ms / 1000,
				  .tv_nsec = ms % 1000 * 1000000 };
}

void mutex_init(pthread_mutex_t *m)
{
	pthread_check(pthread_mutex_init(m, NULL));
}

void mutex_destroy(pthread_mutex_t *m)
{
	pthread_check(pthread_mutex_destroy(m));
}

void mutex_lock(pthread_mutex_t *m)
{
	pthread_check(pthread_mutex_lock(m));
}

void mutex_unlock(pthread_mutex_t *m)
{
	pthread_check(pthread_mutex_unlock(m));
}

void cond_init(pthread_cond_t *c)
{
	pthread_condattr_t a;

	pthread_check(pthread_condattr_init(&a));
	pthread_check(pthread_condattr_setclock(&a, CLOCK_MONOTONIC));
	pthread_check(pthread_cond_init(c, &a));
	pthread_check(pthread_condattr_destroy(&a));
}

void cond_destroy(pthread_cond_t *c)
{
	pthread_check(pthread_cond_destroy(c));
}

void cond_signal(pthread_cond_t *c)
{
	pthread_check(pthread_cond_signal(c));
}

void cond_broadcast(pthread_cond_t *c)
{
	pthread_check(pthread_cond_broadcast(c));
}

void cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until)
{
	struct timespec t = timespec_of(until);
	int error = pthread_cond_timedwait(c, m, &t);

	if (error != ETIMEDOUT)
		pthread_check(error);
}

int wakeup_new(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		fatal("no descriptor is left for a wake-up");
	return fd;
}

void wakeup_signal(int fd)
{
	/* EAGAIN: the counter is full, so the descriptor is readable. */
	if (eventfd_write(fd, 1) < 0 && errno != EAGAIN)
		abort();
}

void wakeup_clear(int fd)
{
	eventfd_t count;

	if (eventfd_read(fd, &count) < 0 && errno != EAGAIN)
		abort();
}

bool thread_join_until(pthread_t thread, int64_t until)
{
#if THREAD_SANITIZER
	/*
	 * The ThreadSanitizers of GCC 12 and clang 14 do not know
	 * pthread_clockjoin_np(). They would report a leaked thread, and a data
	 * race on all that the thread wrote.
	 */
	struct timespec t =
		timespec_of(wall_clock_us() / 1000 + until - monotonic_ms());
	int error = pthread_timedjoin_np(thread, NULL, &t);
#else
	struct timespec t = timespec_of(until);
	int error = pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &t);
#endif

	if (error != ETIMEDOUT)
		pthread_check(error);
	return !error;
}
