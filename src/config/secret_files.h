/*
 * The files that hold secrets: SECRET_FILE and those of SECRET_DIR, as they are
 * at one moment. For secrets.c alone.
 */
#ifndef SECRET_FILES_H
#define SECRET_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include "base/buf.h"
#include "base/macros.h"
#include "config/secret_set.h"
#include "config/settings.h"

/* Tells two states of a file apart without reading it. */
struct file_stamp {
	int error; /* of stat(); 0: the other members are set */
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec modified, changed;
};

/* The faults of the files, a line each. */
struct secret_report {
	struct buf errors, warnings;
	bool folder_unusable; /* an error is of SECRET_DIR itself */
};

struct secret_file {
	char *path;
	const char *name; /* points into path */
	struct file_stamp stamp;
	bool settled; /* an equal stamp proves that the file is the same */
	bool loaded; /* the next two are set */
	struct buf key; /* empty if the file is invalid */
	struct secret_report report;
};

/* The files that hold secrets, as listed at one moment. */
struct secret_files {
	struct secret_file *list; /* by name */
	size_t count;
	int directory_error; /* of reading SECRET_DIR; 0: it was read */
	bool directory_writable; /* others can create files in SECRET_DIR */
};

void secret_report_free(struct secret_report *r);

/* Lists the files that s names, by name, without reading them. */
void secret_files_list(struct secret_files *f, const struct settings *s);
void secret_files_free(struct secret_files *f);
/* Returns true if no file came, changed or went, as far as stamps tell. */
bool secret_files_equal(const struct secret_files *a,
			const struct secret_files *b) MUST_CHECK;
/* Returns true if an equal stamp proves of each file that it is the same. */
bool secret_files_settled(const struct secret_files *f) MUST_CHECK;
/* Takes over what is known of files that are the same as in old. */
void secret_files_keep_unchanged(struct secret_files *now,
				 const struct secret_files *old);
/*
 * Reads the files that are not known, and SECRET. Returns a set of all secrets
 * without fault, with one reference; each fault is a line in the report.
 * Returns NULL if a file could not be read for a reason that will pass.
 */
struct secret_set *secret_files_load(const struct settings *s,
				     struct secret_files *f,
				     struct secret_report *report) MUST_CHECK;

#endif
