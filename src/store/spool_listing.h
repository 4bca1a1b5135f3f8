/*
 * The files in a folder of the spool, and the content of one. For spool.c,
 * which adds the log and the sums.
 */
#ifndef SPOOL_LISTING_H
#define SPOOL_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "store/spool_count.h"
#include "store/spool_disk.h"
#include "store/spool_file.h"

/*
 * refused/ has a note for each file of new/ that the database refused though
 * its event is not at fault. The note's mtime is the time to try again.
 */
enum spool_folder { SPOOL_NEW, SPOOL_FAILED, SPOOL_REFUSED };

/* The files of a folder, oldest first. */
struct spool_list {
	struct spool_item {
		char *name;
		int64_t mtime; /* us since 1970 */
		uint64_t size; /* bytes */
		int64_t retry_at; /* for the drainer: us, 0 if not refused */
	} * items;
	size_t count;
};

void spool_list_free(struct spool_list *list);

/* Lists a folder. Returns false with errno set if it can't be read. */
bool spool_listing_read(const struct spool_disk *d, enum spool_folder folder,
			struct spool_list *list) MUST_CHECK;
/* Adds the files of a folder to found. Returns as spool_listing_read(). */
bool spool_listing_sum(const struct spool_disk *d, enum spool_folder folder,
		       struct spool_sum *found) MUST_CHECK;
/* Returns true if a file is in the folder; false if none is, or on failure. */
bool spool_listing_has_file(const struct spool_disk *d,
			    enum spool_folder folder) MUST_CHECK;

enum spool_read {
	SPOOL_READ_OK,
	SPOOL_READ_GONE, /* another process removed it */
	SPOOL_READ_LATER, /* no descriptor left, or a fault of the disk */
	SPOOL_READ_DAMAGED /* not a file of this form or version */
};

/*
 * Reads a file, and tells whether it has the form and the name of one. Sets
 * errno for SPOOL_READ_LATER. The caller frees the file by spool_file_free(),
 * whatever came.
 */
enum spool_read spool_listing_read_file(const struct spool_disk *d,
					enum spool_folder folder,
					const char *name,
					struct spool_file *file) MUST_CHECK;

#endif
