#include "cli/cli.h"

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { INPUT_MAX = 16 << 20 };

static const struct verb verbs[] = {
	{ "init", cmd_init,
	  "[--home] [--dry-run] [--url URL] [--database CONNINFO]\n"
	  "[--admin CONNINFO] [--server apache|lighttpd]",
	  "set up settings, a secret and the database; say what is left" },
	{ "doctor", cmd_doctor,
#ifdef HAVE_CURL
	  "[--nagios] [--reader CONNINFO] [--user NAME]\n"
	  "[--web-config PATTERN] [--http URL]\n"
	  "[--cacert FILE | --insecure] " SECRET_USAGE "\n"
	  "[URL]",
#else
	  "[--nagios] [--reader CONNINFO] [--user NAME]\n"
	  "[--web-config PATTERN]",
#endif
	  "look at all that the receiver needs, and say what helps" },
	{ "sign", cmd_sign, SECRET_USAGE " [FILE]",
	  "print the signature of a file or of stdin" },
	{ "verify", cmd_verify, "--signature HEX " SECRET_USAGE " [FILE]",
	  "say which secret a signature was made with" },
#ifdef HAVE_CURL
	{ "send", cmd_send,
	  "[--lifecycle main|rejected-estimate|disputed|cancelled]\n"
	  "[--task-id ID] [--status STATUS] [--previous-status STATUS]\n"
	  "[--event EVENT] [--body FILE]\n"
	  "[--duplicate] [--restamp] [--shuffle [--seed N]]\n"
	  "[--bad-signature] [--cacert FILE | --insecure]\n"
	  "" SECRET_USAGE " URL",
	  "sign and POST the documented event, or a simulated task's life" },
	{ "probe", cmd_probe,
	  "[--json] [--http URL] [--vectors FOLDER]\n"
	  "[--cacert FILE | --insecure]\n"
	  "" SECRET_USAGE " URL",
	  "test whether any receiver takes and refuses what it should" },
#endif
	{ "listen", cmd_listen,
	  "--subscription NAME [--exec COMMAND] [--once | --poll-only]\n"
	  "    [--from now|beginning] [--status LIST]\n"
	  "--pool NAME [--concurrency N] [--lease DURATION]\n"
	  "    [... as above]\n"
	  "[--count N] [--timeout DURATION]",
	  "hand out the events of a subscription or pool, or notifications" },
	{ "events", cmd_events,
	  "[--task ID] [--status LIST] [--since TIME] [--until TIME]\n"
	  "[--limit N] [--json]",
	  "list what is recorded" },
	{ "task", cmd_task, "[--json] ID",
	  "tell a task's history, with its gaps and repeats" },
	{ "subscriptions", cmd_subscriptions, "[--json]",
	  "list who listens, and how far each is" },
	{ "replay", cmd_replay,
	  "--subscription NAME [--id LIST] [--task ID] [--status LIST]\n"
	  "[--since TIME] [--until TIME]",
	  "hand events out once more to a subscription" },
	{ "dead", cmd_dead,
	  "list [--pool NAME] [--json]\n"
	  "redrive --pool NAME [--id ID]",
	  "list what a pool has given up on, or try it again" },
	{ "purge", cmd_purge, "--older-than INTERVAL",
	  "take old tasks out of the database" },
	{ "quarantine", cmd_quarantine, "list [--json] [ID...]\nretry [ID...]",
	  "list what was signed but is no event, or try it again" },
	{ "spool", cmd_spool, "list [--json]\ndrain\nretry-failed [NAME...]",
	  "show and empty the spool, where events wait for the database" },
};

static void print_error(const struct verb *v, const char *format, va_list args)
	PRINTF(2, 0);

static void print_error(const struct verb *v, const char *format, va_list args)
{
	fprintf(stderr, "humcli-webhook %s: ", v->name);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

void cli_error(const struct verb *v, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_error(v, format, args);
	va_end(args);
}

/* Lines of the usage after the first stand under the first one's start. */
static void print_usage(FILE *to, const struct verb *v)
{
	int column = fprintf(to, "usage: humcli-webhook %s ", v->name);

	for (const char *p = v->usage; *p; p++) {
		fputc(*p, to);
		if (*p == '\n')
			fprintf(to, "%*s", column, "");
	}
	fputc('\n', to);
}

int cli_usage_error(const struct verb *v, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_error(v, format, args);
	va_end(args);
	print_usage(stderr, v);
	return EX_USAGE;
}

int cli_config_errors(const struct verb *v, const struct buf *errors)
{
	const char *line = errors->data ? errors->data : "";

	while (*line) {
		size_t length = strcspn(line, "\n");

		cli_error(v, "%.*s", (int)length, line);
		line += length + (line[length] == '\n');
	}
	return EX_CONFIG;
}

/* As getopt_long() wants them, --help at the end. */
static struct option *long_options(const struct cli_option *options,
				   size_t count)
{
	struct option *list = xcalloc(count + 2, sizeof(*list));

	for (size_t i = 0; i < count; i++) {
		list[i].name = options[i].name;
		list[i].has_arg = options[i].value ? required_argument
						   : no_argument;
	}
	list[count] = (struct option){ "help", no_argument, NULL, 'h' };
	return list;
}

bool cli_options(const struct verb *v, int *argc, char ***argv,
		 const struct cli_option *options, size_t count, int operands,
		 int *code)
{
	struct option *list = long_options(options, count);
	int picked, index;

	optind = 0;
	opterr = 0;
	while ((picked = getopt_long(*argc, *argv, ":", list, &index)) == 0) {
		if (options[index].value)
			*options[index].value = optarg;
		else
			*options[index].flag = true;
	}
	free(list);
	if (picked == 'h') {
		print_usage(stdout, v);
		printf("\n%s; see humcli-webhook(1)\n", v->summary);
		*code = EX_OK;
		return false;
	}
	if (picked != -1) {
		*code = cli_usage_error(v,
					picked == ':'
						? "option '%s' needs a value"
						: "unknown option '%s'",
					(*argv)[optind - 1]);
		return false;
	}
	*argc -= optind;
	*argv += optind;
	if (*argc > operands) {
		*code = cli_usage_error(v, "'%s' is one argument too many",
					(*argv)[operands]);
		return false;
	}
	return true;
}

bool cli_read(const struct verb *v, const char *path, struct buf *b)
{
	bool from_stdin = !path || strcmp(path, "-") == 0;
	const char *name = from_stdin ? "stdin" : path;
	int fd = from_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	bool done = false;

	if (fd < 0)
		cli_error(v, "can't open %s: %s", name, strerror(errno));
	else if (!read_all(fd, INPUT_MAX, b))
		cli_error(v, "can't read %s: %s", name,
			  errno == EFBIG ? "it is larger than 16 MiB"
					 : strerror(errno));
	else
		done = true;
	if (fd > STDIN_FILENO)
		close(fd);
	return done;
}

/* Where the programs and their data were moved to; NULL: not there. */
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

/* The program that a shell would run by this name. */
static bool find_in_path(const char *name, struct stat *st)
{
	const char *folder = getenv("PATH");
	bool found = false;

	while (folder && *folder && !found) {
		int length = (int)strcspn(folder, ":");
		char *path = xasprintf("%.*s/%s", length, folder, name);

		found = length && access(path, X_OK) == 0 &&
			stat(path, st) == 0 && S_ISREG(st->st_mode);
		folder += length;
		folder += *folder == ':';
		free(path);
	}
	return found;
}

char *cli_program_name(void)
{
	/* In the hosting bundle it starts through a script. */
	char *path = relocated_path("bin/humcli-webhook");
	struct stat ours, first;

	if (path && stat(path, &ours) == 0 &&
	    !(find_in_path("humcli-webhook", &first) &&
	      first.st_dev == ours.st_dev && first.st_ino == ours.st_ino))
		return path;
	free(path);
	return xstrdup("humcli-webhook");
}

bool cli_switch_user(const char *name)
{
	const struct passwd *user = getpwnam(name);

	/* HOME: where libpq looks for a .pgpass. */
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
	/* Or both would write what waits to be written. */
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

bool cli_run_program(char *const *argv)
{
	pid_t child;
	int code = EX_SOFTWARE;

	fflush(stdout);
	if (posix_spawnp(&child, argv[0], NULL, NULL, argv, environ) != 0)
		return false;
	return wait_for(child, &code) && code == EX_OK;
}

void cli_escape(struct buf *b, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < ' ' || c >= 0x7f)
			buf_printf(b, "\\x%02x", c);
		else
			buf_add(b, text, 1);
	}
}

static void print_help(FILE *to)
{
	fputs("usage: humcli-webhook VERB [options]\n"
	      "       humcli-webhook VERB --help\n"
	      "       humcli-webhook --help | --version\n\n",
	      to);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		fprintf(to, "  %-13s %s\n", verbs[i].name, verbs[i].summary);
	fputs("\nSettings: humcli-webhook.conf(5). More: humcli-webhook(1).\n",
	      to);
}

static int run(int argc, char **argv)
{
	if (argc < 2) {
		print_help(stderr);
		return EX_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0) {
		print_help(stdout);
		return EX_OK;
	}
	if (strcmp(argv[1], "--version") == 0) {
		puts(PACKAGE_STRING);
		return EX_OK;
	}
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(argv[1], verbs[i].name) == 0)
			return verbs[i].run(&verbs[i], argc - 1, argv + 1);
	}
	fprintf(stderr,
		"humcli-webhook: there is no verb '%s'; "
		"'humcli-webhook --help' lists them\n",
		argv[1]);
	return EX_USAGE;
}

int main(int argc, char **argv)
{
	int code = run(argc, argv);

	/* What was printed must have arrived: a full disk is no success. */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "humcli-webhook: can't write to stdout: %s\n",
			strerror(errno));
		code = EX_IOERR;
	}
	return code;
}
