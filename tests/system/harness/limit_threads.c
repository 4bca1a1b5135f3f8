/*
 * A library for LD_PRELOAD. pthread_create() fails after THREAD_LIMIT threads,
 * as on a host that limits the number of processes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *),
		      void *);

int pthread_create(pthread_t *thread, const pthread_attr_t *a,
		   void *(*start)(void *), void *context)
{
	static atomic_int started;
	create_fn *real = (create_fn *)dlsym(RTLD_NEXT, "pthread_create");

	if (atomic_fetch_add(&started, 1) >= atoi(getenv("THREAD_LIMIT")))
		return EAGAIN;
	return real(thread, a, start, context);
}
