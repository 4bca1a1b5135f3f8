/*
 * Owns what a folder of the spool has, and which errors say that a file is
 * damaged. Must not know what a file is for; it writes and logs nothing.
 * Any thread may call these functions.
 */
#include "store/spool_listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

enum {
	FILE_MAX = 17 * 1024 * 1024 /* the largest MAX_BODY, and the headers */
};

static const char *const folders[] = { [SPOOL_NEW] = "new",
				       [SPOOL_FAILED] = "failed",
				       [SPOOL_REFUSED] = "refused" };

/* Opens a folder for readdir(). Returns NULL with errno set. */
static DIR *open_listing(const struct spool_disk *d, enum spool_folder folder)
{
	int fd = spool_folders_open(d, folders[folder]);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

/*
 * Returns the next file of a folder, without hidden ones, and its status.
 * Returns NULL at the end.
 */
static const char *next_file(DIR *dir, struct stat *st)
{
	const struct dirent *e;

	while ((e = readdir(dir))) {
		if (*e->d_name != '.' && fstatat(dirfd(dir), e->d_name, st,
						 AT_SYMLINK_NOFOLLOW) == 0)
			return e->d_name;
	}
	return NULL;
}

bool spool_listing_sum(const struct spool_disk *d, enum spool_folder folder,
		       struct spool_sum *found)
{
	DIR *dir = open_listing(d, folder);
	struct stat st;

	if (!dir)
		return false;
	while (next_file(dir, &st))
		spool_sum_add(found, (uint64_t)st.st_size);
	closedir(dir);
	return true;
}

bool spool_listing_has_file(const struct spool_disk *d,
			    enum spool_folder folder)
{
	DIR *dir = open_listing(d, folder);
	struct stat st;
	bool found = dir && next_file(dir, &st);

	if (dir)
		closedir(dir);
	return found;
}

static int compare_age(const void *a, const void *b)
{
	const struct spool_item *x = a, *y = b;

	if (x->mtime != y->mtime)
		return x->mtime < y->mtime ? -1 : 1;
	return strcmp(x->name, y->name);
}

static void add_item(struct spool_list *list, const char *name,
		     const struct stat *st)
{
	list->items =
		array_grow(list->items, list->count, sizeof(*list->items));
	list->items[list->count++] = (struct spool_item){
		.name = xstrdup(name),
		.mtime = spool_time(&st->st_mtim),
		.size = (uint64_t)st->st_size,
	};
}

bool spool_listing_read(const struct spool_disk *d, enum spool_folder folder,
			struct spool_list *list)
{
	DIR *dir = open_listing(d, folder);
	const char *name;
	struct stat st;

	*list = (struct spool_list){ 0 };
	if (!dir)
		return false;
	while ((name = next_file(dir, &st)))
		add_item(list, name, &st);
	closedir(dir);
	if (list->count)
		qsort(list->items, list->count, sizeof(list->items[0]),
		      compare_age);
	return true;
}

void spool_list_free(struct spool_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i].name);
	free(list->items);
	*list = (struct spool_list){ 0 };
}

/*
 * Returns what errno says of a file: permanent errors mean that it is damaged,
 * all others that it is read again later.
 */
static enum spool_read classify_read_error(int error)
{
	switch (error) {
	case ENOENT:
		return SPOOL_READ_GONE;
	case ELOOP: /* a symbolic link */
	case ENXIO: /* a socket */
	case EACCES:
	case EPERM:
	case EFBIG:
		return SPOOL_READ_DAMAGED;
	default:
		return SPOOL_READ_LATER;
	}
}

enum spool_read spool_listing_read_file(const struct spool_disk *d,
					enum spool_folder folder,
					const char *name,
					struct spool_file *file)
{
	char *path = xasprintf("%s/%s/%s", d->path, folders[folder], name);
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	enum spool_read got = SPOOL_READ_DAMAGED;
	int error;

	free(path);
	*file = (struct spool_file){ 0 };
	if (fd < 0)
		return classify_read_error(errno);
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		if (!read_all(fd, FILE_MAX, &file->text))
			got = classify_read_error(errno);
		else if (spool_file_parse(file) &&
			 strcmp(file->entry.signature, name) == 0)
			got = SPOOL_READ_OK;
	}
	error = errno;
	close(fd);
	errno = error;
	return got;
}
