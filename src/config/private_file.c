/*
 * Owns the rules for the modes of files with secrets. secret_files.c and
 * settings.c ask here after opening a file. Knows neither settings nor secrets.
 */
#include "config/private_file.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static bool is_below(const char *path, const char *directory)
{
	size_t length = strlen(directory);

	return strncmp(path, directory, length) == 0 && path[length] == '/';
}

bool private_file_in_protected_place(int fd, const char *path,
				     const char *credentials_dir)
{
	struct statfs fs;
	char *real, *credentials = NULL;
	bool guarded;

	if (fstatfs(fd, &fs) == 0 &&
	    (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC))
		return true;
	real = realpath(path, NULL);
	if (!real)
		return false;
	if (credentials_dir)
		credentials = realpath(credentials_dir, NULL);
	guarded = is_below(real, "/run/secrets") ||
		  (credentials && is_below(real, credentials));
	free(credentials);
	free(real);
	return guarded;
}

bool private_file_check(int fd, const char *path, const char *credentials_dir,
			struct buf *errors, struct buf *warnings)
{
	struct stat st;
	const char *fault = "its group can write it";
	/* A file of an account's own is for no group. */
	mode_t refused = strstr(path, "/.humcli-webhook/") ? S_IRWXG | S_IRWXO
							   : S_IWGRP | S_IRWXO;
	bool guarded;

	if (fstat(fd, &st) < 0) {
		buf_printf(errors, "%s: %s\n", path, strerror(errno));
		return false;
	}
	if (!(st.st_mode & (S_IROTH | S_IWOTH | S_IWGRP)))
		return true;
	if (st.st_mode & S_IROTH)
		fault = "others can read it";
	if (st.st_mode & S_IWOTH)
		fault = "others can write it";
	guarded = private_file_in_protected_place(fd, path, credentials_dir);
	buf_printf(guarded ? warnings : errors,
		   "%s holds a secret and %s; fix: chmod %04o %s\n", path,
		   fault, (unsigned)st.st_mode & 07777 & ~(unsigned)refused,
		   path);
	return guarded;
}
