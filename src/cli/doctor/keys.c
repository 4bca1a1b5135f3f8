/*
 * Checks that nobody but their owner reads the API keys of reconcile: above all
 * not the receiver and the web server, which face the network. Root tries as
 * each of these users; another user tries as itself. Keys are opened, and not
 * read.
 */
#include "cli/doctor/doctor.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/macros.h"
#include "cli/program.h"
#include "config/private_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The users that web servers run as on the usual systems. */
static const char *const web_users[] = { "www-data", "apache", "nginx",
					 "lighttpd", "caddy",  "http",
					 "wwwrun",   "nobody" };

struct key_files {
	const struct settings *settings;
	char **paths;
	size_t count;
};

/* Returns how many keys this process can open; a callback of cli_run_as(). */
static int count_readable(void *context)
{
	const struct key_files *k = context;
	int readable = 0;

	for (size_t i = 0; i < k->count && readable < 100; i++) {
		int fd = open(k->paths[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);

		if (fd >= 0) {
			readable++;
			close(fd);
		}
	}
	return readable;
}

/* Reports a user that can read keys. Returns false if there was one. */
static bool check_user(struct findings *f, struct key_files *k,
		       const char *user)
{
	const char *folder = k->settings->key_dir;
	char *remedy;
	int readable;

	if (!cli_run_as(user, count_readable, k, &readable) || readable == 0)
		return true;
	remedy = xasprintf("chown -R humcli-reconcile %s && chmod -R "
			   "go-rwx %s: a key can spend money",
			   folder, folder);
	report_finding(f, FINDING_FAILURE, "keys", remedy,
		       "the user %s can read %d key%s in %s", user, readable,
		       PLURAL_S(readable), folder);
	free(remedy);
	return false;
}

/* Lists the keys. Returns false with errno set. */
static bool list_keys(struct key_files *k)
{
	const char *folder = k->settings->key_dir;
	DIR *directory = opendir(folder);
	const struct dirent *entry;

	if (!directory)
		return false;
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		k->paths = array_grow(k->paths, k->count, sizeof(*k->paths));
		k->paths[k->count++] =
			xasprintf("%s/%s", folder, entry->d_name);
	}
	closedir(directory);
	return true;
}

/* Checks the modes by the rules for secrets. */
static bool check_modes(struct findings *f, const struct key_files *k)
{
	struct buf errors = { 0 }, warnings = { 0 };
	bool good = true;

	for (size_t i = 0; i < k->count; i++) {
		int fd = open(k->paths[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);

		if (fd < 0)
			continue;
		if (!private_file_check(fd, k->paths[i],
					k->settings->credentials_dir, &errors,
					&warnings))
			good = false;
		close(fd);
	}
	doctor_error_lines(f, "keys", &errors, "run the command in that line");
	buf_free(&errors);
	buf_free(&warnings);
	return good;
}

static void check_as_root(struct findings *f, struct key_files *k,
			  const char *user)
{
	char *owner = cli_owner_name(k->settings->key_dir);
	bool good = check_modes(f, k);

	if (user)
		good = check_user(f, k, user) && good;
	for (size_t i = 0; i < ARRAY_SIZE(web_users); i++) {
		if (getpwnam(web_users[i]) &&
		    !(user && strcmp(user, web_users[i]) == 0))
			good = check_user(f, k, web_users[i]) && good;
	}
	if (good && strcmp(owner, "root") == 0)
		report_finding(f, FINDING_WARNING, "keys",
			       "give the folder and its files to a user of "
			       "their own, such as humcli-reconcile, which "
			       "reconcile then becomes",
			       "%s belongs to root", k->settings->key_dir);
	else if (good)
		report_finding(
			f, FINDING_OK, "keys", NULL,
			"%zu key%s of %s; neither the receiver nor a web "
			"server can read them",
			k->count, PLURAL_S(k->count), owner);
	free(owner);
}

static void check_as_self(struct findings *f, struct key_files *k)
{
	const char *folder = k->settings->key_dir;
	struct stat st;
	bool own = stat(folder, &st) == 0 && st.st_uid == geteuid();

	if (count_readable(k) == 0)
		report_finding(f, FINDING_OK, "keys", NULL,
			       "this user can read none in %s", folder);
	else if (own)
		report_finding(f, FINDING_SKIPPED, "keys",
			       "run doctor as root, or as the receiver's user",
			       "this user owns the keys in %s; others were not "
			       "tried",
			       folder);
	else
		report_finding(f, FINDING_FAILURE, "keys",
			       "let only the user of reconcile read them: a "
			       "key can spend money",
			       "this user can read the keys in %s", folder);
}

void doctor_keys(struct findings *f, const struct settings *s, const char *user)
{
	struct key_files k = { .settings = s };
	bool listed;

	if (!s->key_dir)
		return;
	listed = list_keys(&k);
	if (!listed && errno == ENOENT && !s->key_dir_given)
		goto out;
	if (!listed && errno == EACCES)
		report_finding(f, FINDING_OK, "keys", NULL,
			       "this user can't read %s", s->key_dir);
	else if (!listed)
		report_finding(f, FINDING_FAILURE, "keys",
			       "HUMCLI_WEBHOOK_KEY_DIR names the folder of the "
			       "API keys",
			       "%s: %s", s->key_dir, strerror(errno));
	else if (geteuid() == 0)
		check_as_root(f, &k, user);
	else
		check_as_self(f, &k);
out:
	for (size_t i = 0; i < k.count; i++)
		free(k.paths[i]);
	free(k.paths);
}
