/*
 * init: reads the options, runs the parts of cli/init/ in their order, and
 * checks the way to the database by the doctor at the end.
 */
#include "cli/init/init.h"

#include "base/buf.h"
#include "base/macros.h"
#include "cli/doctor/doctor.h"
#include "cli/program.h"
#include "config/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Checks the database as the receiver's user. Returns the exit code. */
static int check_database(void *context)
{
	const struct settings *s = context;
	struct findings f;

	if (!findings_begin(&f, FINDINGS_TEXT))
		return EX_OSERR;
	doctor_database(&f, s->database, NULL);
	return findings_end(&f) == 2 ? EXIT_NEGATIVE : EX_OK;
}

static int check(const struct init *i, struct settings *s)
{
	int code;

	puts("\nThe connection to the database, as the receiver makes it:\n");
	if (i->home || !cli_run_as(i->user, check_database, s, &code))
		code = check_database(s);
	return code;
}

/* Reads the conninfo from stdin if it is "-": ps shows a command line. */
static int read_database(struct init *i, struct buf *line)
{
	if (!i->database || strcmp(i->database, "-") != 0)
		return EX_OK;
	if (!cli_read(i->verb, "-", line))
		return EX_NOINPUT;
	i->database = line->data;
	line->data[strcspn(line->data, "\r\n")] = '\0';
	return EX_OK;
}

static int set_up(struct init *i)
{
	struct settings settings = { 0 };
	struct buf line = { 0 };
	int code = read_database(i, &line);

	if (code == EX_OK)
		code = init_files(i, &settings);
	if (code == EX_OK)
		code = init_database(i, &settings);
	if (code == EX_OK && !i->dry_run)
		code = check(i, &settings);
	if (code == EX_OK)
		init_print_next_steps(i);
	settings_free(&settings);
	buf_wipe(&line);
	free(i->config);
	free(i->secret);
	return code;
}

/* Returns memory that a child process shares; NULL on failure. */
static bool *shared_flag(void)
{
	void *flag = mmap(NULL, sizeof(bool), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return flag == MAP_FAILED ? NULL : flag;
}

/* Refuses values that init can't use. */
static int check_options(const struct verb *v, const struct init *i)
{
	if (i->server && !init_knows_server(i->server))
		return cli_usage_error(
			v, "--server is apache, lighttpd, nginx or caddy");
	if (i->server && i->user && !init_server_starts_programs(i->server))
		return cli_usage_error(
			v, "leave out --user: it is for a web server that "
			   "starts the receiver, and this one starts none");
	if (i->url && strncmp(i->url, "https://", 8) != 0)
		return cli_usage_error(
			v, "--url has to start with https://: HumCLI "
			   "accepts no other callback_url");
	if (i->home && i->user)
		return cli_usage_error(v, "give --home or --user, not both");
	if (!i->home && !i->dry_run && geteuid() != 0) {
		cli_error(v, "run it with sudo, for the whole system, or give "
			     "--home, for this account alone");
		return EX_NOPERM;
	}
	return EX_OK;
}

int cmd_init(const struct verb *v, int argc, char **argv)
{
	struct init i = { .verb = v };
	const struct cli_option options[] = {
		{ "home", NULL, &i.home, NULL,
		  "set up this account alone, in ~/.humcli-webhook (default: "
		  "the whole system)" },
		{ "dry-run", NULL, &i.dry_run, NULL,
		  "print what would be done, and do nothing" },
		{ "url", &i.url, NULL, "URL",
		  "print this callback_url (default: a guess by the host's "
		  "name)" },
		{ "database", &i.database, NULL, "CONNINFO",
		  "use this database if no settings file names one; - reads "
		  "it from stdin (default: dbname=humcli)" },
		{ "admin", &i.admin, NULL, "CONNINFO",
		  "install the schema by this connection (default: as the "
		  "user postgres)" },
		{ "server", &i.server, NULL, "apache|lighttpd|nginx|caddy",
		  "print the commands for this web server (default: those "
		  "installed)" },
		{ "user", &i.user, NULL, "NAME",
		  "set up the receiver for this user (default: humcli-webhook)" },
		{ "steps", NULL, &i.steps, NULL,
		  "print all commands, also if all exists already" },
	};
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	code = check_options(v, &i);
	if (code != EX_OK)
		return code;
	if (!i.user)
		i.user = INIT_USER;
	i.made = shared_flag();
	if (!i.made) {
		cli_error(v, "can't get memory: %s", strerror(errno));
		return EX_OSERR;
	}
	code = set_up(&i);
	munmap(i.made, sizeof(*i.made));
	return code;
}
