/*
 * Owns how the secrets of the settings are found, and whether the receiver
 * accepts each. Knows neither how they are shown nor who asks.
 */
#include "cli/verbs/found_secrets.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "config/secrets.h"

static void add_found(struct found_secrets *all, const char *name, char *path)
{
	all->list = array_grow(all->list, all->count, sizeof(*all->list));
	all->list[all->count++] =
		(struct found_secret){ .name = xstrdup(name), .path = path };
}

void found_secrets_free(struct found_secrets *all)
{
	for (size_t i = 0; i < all->count; i++) {
		free(all->list[i].name);
		free(all->list[i].path);
		free(all->list[i].problem);
	}
	free(all->list);
	*all = (struct found_secrets){ 0 };
}

char *secret_file_problem(const struct settings *s, const char *path)
{
	/* The same file alone, as a setting. Neither is freed by this copy. */
	struct settings one = { .secret_file = (char *)path,
				.credentials_dir = s->credentials_dir };
	struct buf errors = { 0 };
	struct secrets *secrets = secrets_open(&one, &errors);
	size_t length = strlen(path);
	char *problem = NULL;

	if (!secrets && errors.data) {
		const char *text = errors.data;

		if (strncmp(text, path, length) == 0)
			text += length;
		text += strspn(text, ": ");
		problem = xstrndup(text, strcspn(text, "\n"));
	}
	secrets_close(secrets);
	buf_free(&errors);
	return problem;
}

static int compare_found(const void *a, const void *b)
{
	const struct found_secret *x = a, *y = b;

	return strcmp(x->name, y->name);
}

int report_secret_dir(const struct verb *v, const struct settings *s)
{
	const char *folder = s->secret_dir;

	if (errno == ENOENT)
		cli_error(v,
			  "the folder of secrets %s does not exist; "
			  "humcli-webhook init makes it",
			  folder);
	else
		cli_error(v, "can't read %s: %s%s", folder, strerror(errno),
			  errno == EACCES ? "; run it with sudo, or as the "
					    "receiver's user"
					  : "");
	return errno == ENOENT ? EX_CONFIG : EX_NOPERM;
}

/* Adds the files of SECRET_DIR: all names but folders and hidden ones. */
static int find_files(const struct verb *v, const struct settings *s,
		      struct found_secrets *all)
{
	const char *folder = s->secret_dir;
	DIR *directory = opendir(folder);
	const struct dirent *entry;
	struct stat st;

	if (!directory)
		return s->secret_dir_given || errno != ENOENT
			       ? report_secret_dir(v, s)
			       : EX_OK;
	while ((entry = readdir(directory))) {
		char *path = xasprintf("%s/%s", folder, entry->d_name);

		if (entry->d_name[0] == '.' ||
		    (stat(path, &st) == 0 && S_ISDIR(st.st_mode)))
			free(path);
		else
			add_found(all, entry->d_name, path);
	}
	closedir(directory);
	return EX_OK;
}

void found_secrets_judge(struct found_secrets *all, const struct settings *s)
{
	for (size_t i = 0; i < all->count; i++) {
		struct found_secret *f = &all->list[i];

		if (f->path)
			f->problem = secret_file_problem(s, f->path);
	}
}

int find_secrets(const struct verb *v, const struct settings *s,
		 struct found_secrets *all)
{
	int code = EX_OK;

	if (s->secret)
		add_found(all, "default", NULL);
	if (s->secret_file) {
		const char *slash = strrchr(s->secret_file, '/');

		add_found(all, slash ? slash + 1 : s->secret_file,
			  xstrdup(s->secret_file));
	}
	if (s->secret_dir)
		code = find_files(v, s, all);
	if (all->count)
		qsort(all->list, all->count, sizeof(*all->list), compare_found);
	return code;
}

const struct found_secret *found_secret(const struct found_secrets *all,
					const char *name)
{
	for (size_t i = 0; i < all->count; i++) {
		if (strcmp(all->list[i].name, name) == 0)
			return &all->list[i];
	}
	return NULL;
}
