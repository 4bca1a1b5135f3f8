/*
 * Locks, condition variables, wake-ups and joins. Their errors are misuse, or a
 * lack of descriptors at the start; both end the process, so no function here
 * returns an error. Times are ms, monotonic.
 */
#ifndef THREADS_H
#define THREADS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

/* Ends the process unless error, the result of a pthread function, is 0. */
void pthread_check(int error);

void mutex_init(pthread_mutex_t *m);
void mutex_destroy(pthread_mutex_t *m);
void mutex_lock(pthread_mutex_t *m);
void mutex_unlock(pthread_mutex_t *m);

void cond_init(pthread_cond_t *c);
void cond_destroy(pthread_cond_t *c);
void cond_signal(pthread_cond_t *c);
void cond_broadcast(pthread_cond_t *c);
/*
 * Waits until c is signalled or the time until is reached; may return earlier.
 * Call with *m held; it is held again afterwards.
 */
void cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until);

/*
 * Returns a wake-up: an eventfd that poll() finds readable from wakeup_signal()
 * to the next wakeup_clear(). The caller closes it.
 */
int wakeup_new(void) MUST_CHECK;
void wakeup_signal(int fd);
void wakeup_clear(int fd);

/*
 * Joins a thread. Returns true if it ended before the time until; false if it
 * still runs, and then it is not joined.
 */
bool thread_join_until(pthread_t thread, int64_t until) MUST_CHECK;

#endif
