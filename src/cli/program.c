/*
 * Owns how this program finds its own files, runs others, and becomes another
 * user. Must not know settings or verbs. A path is first looked for beside the
 * program, because the hosting bundle and a staged installation are moved as a
 * whole.
 */
#include "cli/program.h"

#include "base/alloc.h"
#include "base/macros.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

/*
 * Returns a path beside this program, if it exists; NULL otherwise. The caller
 * frees it.
 */
static char *relocated_path(const char *relative)
{
	char program[4096];
	ssize_t length =
		readlink("/proc/self/exe", program, sizeof(program) - 1);
	char *slash, *path = NULL;

	program[length > 0 ? length : 0] = '\0';
	slash = strrchr(program, '/');
	if (slash) {
		*slash = '\0';
		slash = strrchr(program, '/');
	}
	if (slash) {
		*slash = '\0';
		path = xasprintf("%s/%s", program, relative);
	}
	if (path && access(path, F_OK) == 0)
		return path;
	free(path);
	return NULL;
}

char *cli_data_path(const char *name)
{
	char *relative = xasprintf("share/humcli-webhook/%s", name);
	char *path = relocated_path(relative);

	free(relative);
	return path ? path : xasprintf(PKGDATADIR "/%s", name);
}

char *cli_responder_path(void)
{
	char *path =
		relocated_path("libexec/humcli-webhook/humcli-webhook.fcgi");

	return path ? path : xstrdup(FCGIDIR "/humcli-webhook.fcgi");
}

char *cli_page_path(const char *name)
{
	/* The second place is that of the hosting bundle. */
	static const char *const folders[] = { "share/doc/humcli-webhook/doc",
					       "manual" };
	char *path = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(folders) && !path; i++) {
		char *relative = xasprintf("%s/%s", folders[i], name);

		path = relocated_path(relative);
		free(relative);
	}
	return path ? path : xasprintf(PAGESDIR "/%s", name);
}

const char *cli_program_name(void)
{
	/* argv[0]: without a slash the shell found the name in PATH. */
	return program_invocation_name;
}

char *cli_owner_name(const char *path)
{
	const struct passwd *owner;
	struct stat st;

	if (stat(path, &st) < 0)
		return xstrdup("");
	owner = getpwuid(st.st_uid);
	return owner ? xstrdup(owner->pw_name)
		     : xasprintf("%lu", (unsigned long)st.st_uid);
}

char *cli_receiver_user(void)
{
	static const char usual[] = "humcli-webhook";
	const struct group *group;
	struct stat st;

	if (getenv("HUMCLI_WEBHOOK_CONFIG") ||
	    stat(SYSCONFDIR "/humcli-webhook.conf", &st) < 0)
		return NULL;
	group = st.st_gid ? getgrgid(st.st_gid) : NULL;
	if (group && getpwnam(group->gr_name))
		return xstrdup(group->gr_name);
	return getpwnam(usual) ? xstrdup(usual) : NULL;
}

bool cli_switch_user(const char *name)
{
	const struct passwd *user = getpwnam(name);

	/* libpq looks for .pgpass in HOME. */
	return user && initgroups(user->pw_name, user->pw_gid) == 0 &&
	       setgid(user->pw_gid) == 0 && setuid(user->pw_uid) == 0 &&
	       setenv("HOME", user->pw_dir, 1) == 0;
}

static bool wait_for(pid_t child, int *code)
{
	int status;

	while (waitpid(child, &status, 0) < 0) {
		if (errno != EINTR)
			return false;
	}
	*code = WIFEXITED(status) ? WEXITSTATUS(status) : EX_SOFTWARE;
	return true;
}

bool cli_run_as(const char *user, int (*run)(void *context), void *context,
		int *code)
{
	pid_t child;

	if (geteuid() != 0 || !getpwnam(user))
		return false;
	/* Otherwise parent and child would both write the buffered output. */
	fflush(stdout);
	child = fork();
	if (child < 0)
		return false;
	if (child == 0) {
		int own = cli_switch_user(user) ? run(context) : EX_NOPERM;

		_exit(fflush(stdout) == 0 ? own : EX_IOERR);
	}
	return wait_for(child, code);
}

int cli_take_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC);
}

bool cli_has_systemd(void)
{
	return access("/run/systemd/system", F_OK) == 0;
}

bool cli_run_program(char *const *argv)
{
	pid_t child;
	int code = EX_SOFTWARE;

	fflush(stdout);
	if (posix_spawnp(&child, argv[0], NULL, NULL, argv, environ) != 0)
		return false;
	return wait_for(child, &code) && code == EX_OK;
}
