/*
 * The parts of humcli-webhook init, a file each: the user, files, the database,
 * the report, and the remaining steps for the web servers.
 */
#ifndef INIT_H
#define INIT_H

#include "base/macros.h"
#include "cli/cli.h"
#include "config/settings.h"

#include <stdbool.h>
#include <sys/types.h>

/* The usual user of the receiver. */
#define INIT_USER "humcli-webhook"

struct init {
	const struct verb *verb;
	bool home; /* all below ~/.humcli-webhook */
	bool dry_run;
	const char *url; /* the callback_url; NULL: a guess */
	const char *database; /* conninfo; NULL: a default */
	const char *admin; /* conninfo to install with; NULL: see there */
	const char *server; /* known; NULL: those that are installed */
	const char *user; /* the receiver's user, for the whole system */
	bool steps; /* print all steps, also if all exists */

	char *config; /* path of the settings file */
	char *secret; /* path of the secret HumCLI is to be given */
	uid_t uid; /* the receiver's user and group, who read both */
	gid_t gid;
	/* Something did not exist; shared with the process of postgres. */
	bool *made;
};

/*
 * Prints "kept: …" if done, else "made: …" or "would make: …", and sets
 * *i->made then.
 */
void init_report(struct init *i, bool done, const char *format, ...)
	PRINTF(3, 4);

/*
 * Finds or creates the receiver's user. Returns EX_OK, or the exit code of an
 * error that was printed.
 */
int init_ensure_user(struct init *i) MUST_CHECK;

/*
 * Creates the settings file, a secret and the spool if they are missing. Fills
 * config, secret and *s. Returns EX_OK, or the exit code of an error that was
 * printed.
 */
int init_files(struct init *i, struct settings *s) MUST_CHECK;

/*
 * Creates the database, the schema and the role that the settings name.
 * Returns EX_OK, or the exit code of an error that was printed.
 */
int init_database(struct init *i, const struct settings *s) MUST_CHECK;

/* Prints what is left to do, as commands to paste. */
void init_print_next_steps(const struct init *i);

/* Prints the commands for the web servers that are installed, or the one given. */
void init_print_server_steps(const struct init *i);

bool init_knows_server(const char *name);

/* Returns false for a web server that speaks to a socket only. */
bool init_server_starts_programs(const char *name);

/* Returns true if webhook.cgi exists, as the hosting bundle installs it. */
bool init_has_cgi(const struct init *i);

/* Prints the commands after an upgrade, when all that init creates existed. */
void init_print_upgrade_steps(const struct init *i);

/* Returns "sudo " unless root runs init without it: sudo may be missing. */
const char *init_sudo(const struct init *i);

#endif
