/* Allocates memory; ends the process where there is none. */
#ifndef ALLOC_H
#define ALLOC_H

#include <stddef.h>

#include "base/macros.h"

/*
 * Allocate memory and never return NULL. Without memory they end the process,
 * because the supervisor restarts it and no unanswered event was acknowledged.
 * Callers limit the sizes that a sender can choose. The caller frees the
 * result.
 */
void *xmalloc(size_t size) MUST_CHECK;
void *xcalloc(size_t count, size_t size) MUST_CHECK;
void *xrealloc(void *old, size_t size) MUST_CHECK;
char *xstrdup(const char *s) MUST_CHECK;
char *xstrndup(const char *s, size_t length) MUST_CHECK;
char *xasprintf(const char *format, ...) PRINTF(1, 2) MUST_CHECK;

/* Overwrites *text, frees it, and sets it to NULL: for secrets. */
void wipe_text(char **text);

/*
 * Returns list, moved if necessary, with room for one element more than
 * count. The room doubles each time that count is a power of two, so the
 * caller keeps no capacity. All room of the list must come from this
 * function, one element at a time; an empty list starts as NULL.
 */
void *array_grow(void *list, size_t count, size_t element_size) MUST_CHECK;

#endif
