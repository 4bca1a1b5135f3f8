/*
 * The notes in the spool's refused/, one beside each file of new/ that the
 * database refused. A note's mtime is the time to try again.
 */
#ifndef SPOOL_NOTE_H
#define SPOOL_NOTE_H

#include <stdbool.h>

#include "base/macros.h"
#include "store/spool_disk.h"
#include "store/spool_file.h"

/* Returns false if there is no note, or none that can be read. */
bool spool_note_read(const struct spool_disk *d, const char *name,
		     struct spool_refusal *refusal) MUST_CHECK;
/*
 * Writes a note without a sync, because without a note the file is only tried
 * again sooner. Returns false with errno set.
 */
bool spool_note_write(const struct spool_disk *d, const char *name,
		      const struct spool_refusal *refusal) MUST_CHECK;
/* Returns true if there is no note any more; false with errno set. */
bool spool_note_remove(const struct spool_disk *d, const char *name) MUST_CHECK;

#endif
