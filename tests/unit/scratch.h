/*
 * A directory of its own for a test that needs files: not on tmpfs, where
 * the receiver forgives what it refuses elsewhere, and gone afterwards.
 */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/macros.h"

struct scratch {
	char *path;
	bool tmpfs; /* nothing else was to be found */
};

void scratch_make(struct scratch *s);
/* The opposite: on tmpfs. False where there is none. */
bool scratch_make_in_memory(struct scratch *s) MUST_CHECK;
void scratch_remove(struct scratch *s);

/* PATH/name, to be freed. */
char *scratch_path(const struct scratch *s, const char *name) MUST_CHECK;
/* A file of exactly this mode, whatever the umask. */
void scratch_write(const struct scratch *s, const char *name, mode_t mode,
		   const char *text);
void scratch_write_bytes(const struct scratch *s, const char *name, mode_t mode,
			 const void *data, size_t length);
void scratch_mkdir(const struct scratch *s, const char *name, mode_t mode);
void scratch_symlink(const struct scratch *s, const char *target,
		     const char *name);
void scratch_unlink(const struct scratch *s, const char *name);
void scratch_rename(const struct scratch *s, const char *from, const char *to);
/* The whole file, "" if there is none; to be freed. */
char *scratch_read(const struct scratch *s, const char *name) MUST_CHECK;

/* How often needle stands in text. */
size_t count_of(const char *text, const char *needle) MUST_CHECK;

#endif
