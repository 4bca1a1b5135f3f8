/*
 * The drainer's memory of files that no active secret fits. The drainer does
 * not verify these files again until other secrets are active, because that
 * costs a hash for each secret.
 */
#ifndef DRAIN_MEMORY_H
#define DRAIN_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/hmac.h"
#include "base/macros.h"
#include "config/secrets.h"

/* Starts as { 0 }; of one thread. */
struct drain_memory {
	const struct secret_set
		*set; /* held, so that no other has its address */
	struct foreign_file {
		char name[HMAC_HEX + 1];
	} * foreign; /* sorted by name, up to the last drain */
	size_t sorted; /* of them */
	size_t count;
	size_t failed_tried; /* of failed/, the oldest, by these secrets */
	bool failed_left; /* there are others */
};

/*
 * Forgets all if the active secrets are others than at the last call. Returns
 * true if files of failed/ are to be tried. Without a memory (NULL) that is
 * always so.
 */
bool drain_memory_renew(struct drain_memory *m,
			struct secrets *secrets) MUST_CHECK;
void drain_memory_free(struct drain_memory *m, struct secrets *secrets);

/*
 * Returns true if no active secret fits the file, up to the last drain. In this
 * function and those below m may be NULL.
 */
bool drain_memory_knows(const struct drain_memory *m,
			const char *name) MUST_CHECK;
void drain_memory_add(struct drain_memory *m, const char *name);
/* Ends a drain. Returns how many files were added in it. */
size_t drain_memory_settle(struct drain_memory *m);

#endif
