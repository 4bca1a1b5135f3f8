/* Random bytes of the kernel, good enough for keys. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

/* Fills length bytes at data. Returns true if it did; false with errno set. */
bool random_bytes(void *data, size_t length) MUST_CHECK;

#endif
