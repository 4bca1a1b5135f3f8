/*
 * A folder for the files of one test. It is not on tmpfs if possible, because
 * the receiver accepts modes on tmpfs that it refuses elsewhere.
 */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/macros.h"

struct scratch {
	char *path;
	bool tmpfs; /* only tmpfs was found */
};

void scratch_make(struct scratch *s);
/*
 * Makes a folder on tmpfs. Returns true if it did; false if there is no tmpfs.
 */
bool scratch_make_in_memory(struct scratch *s) MUST_CHECK;
void scratch_remove(struct scratch *s);

/* Returns PATH/name. The caller frees it. */
char *scratch_path(const struct scratch *s, const char *name) MUST_CHECK;
/* Writes a file of exactly this mode, whatever the umask. */
void scratch_write(const struct scratch *s, const char *name, mode_t mode,
		   const char *text);
void scratch_write_bytes(const struct scratch *s, const char *name, mode_t mode,
			 const void *data, size_t length);
void scratch_mkdir(const struct scratch *s, const char *name, mode_t mode);
void scratch_symlink(const struct scratch *s, const char *target,
		     const char *name);
void scratch_unlink(const struct scratch *s, const char *name);
void scratch_rename(const struct scratch *s, const char *from, const char *to);
/* Returns the text of a file, "" if there is none. The caller frees it. */
char *scratch_read(const struct scratch *s, const char *name) MUST_CHECK;

/* Returns how often needle is in text. */
size_t count_of(const char *text, const char *needle) MUST_CHECK;

#endif
