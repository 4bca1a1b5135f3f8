/*
 * Locks, condition variables and wake-ups. They only fail when misused, or
 * at the start for want of descriptors, and then the process ends; so
 * nothing here returns an error. Times are monotonic_ms().
 */
#ifndef THREADS_H
#define THREADS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

/* Ends the process if there is an error: what pthread functions return. */
void pthread_check(int error);

void mutex_init(pthread_mutex_t *m);
void mutex_destroy(pthread_mutex_t *m);
void mutex_lock(pthread_mutex_t *m);
void mutex_unlock(pthread_mutex_t *m);

void cond_init(pthread_cond_t *c);
void cond_destroy(pthread_cond_t *c);
void cond_signal(pthread_cond_t *c);
void cond_broadcast(pthread_cond_t *c);
/* Until signalled, or that time, or for no reason; the mutex is held. */
void cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until);

/* A descriptor that poll() finds readable from a send to the next clear. */
int wakeup_new(void) MUST_CHECK;
void wakeup_signal(int fd);
void wakeup_clear(int fd);

/*
 * Waits until the thread has ended, at most until the given time (ms,
 * monotonic). Returns true if it has ended and is joined; false if not.
 */
bool thread_join_until(pthread_t thread, int64_t until) MUST_CHECK;

#endif
