/*
 * The command line: what its verbs share. A verb is one file, cmd_*.c, a
 * prototype here and a row of the table in cli.c.
 */
#ifndef CLI_H
#define CLI_H

#include "config/secrets.h"

#include <sysexits.h>

/* Beside those of sysexits.h: the answer is no. */
enum { EXIT_NEGATIVE = 1 };

struct verb {
	const char *name;
	/* argv[0] is the verb's name; returns the exit code. */
	int (*run)(const struct verb *v, int argc, char **argv);
	const char *usage; /* what follows the name */
	const char *summary;
};

int cmd_dead(const struct verb *v, int argc, char **argv);
int cmd_doctor(const struct verb *v, int argc, char **argv);
int cmd_init(const struct verb *v, int argc, char **argv);
int cmd_events(const struct verb *v, int argc, char **argv);
int cmd_listen(const struct verb *v, int argc, char **argv);
int cmd_probe(const struct verb *v, int argc, char **argv);
int cmd_purge(const struct verb *v, int argc, char **argv);
int cmd_quarantine(const struct verb *v, int argc, char **argv);
int cmd_replay(const struct verb *v, int argc, char **argv);
int cmd_send(const struct verb *v, int argc, char **argv);
int cmd_sign(const struct verb *v, int argc, char **argv);
int cmd_spool(const struct verb *v, int argc, char **argv);
int cmd_subscriptions(const struct verb *v, int argc, char **argv);
int cmd_task(const struct verb *v, int argc, char **argv);
int cmd_verify(const struct verb *v, int argc, char **argv);

/* "humcli-webhook VERB: …" on stderr. */
void cli_error(const struct verb *v, const char *format, ...) PRINTF(2, 3);
/* The same, and the verb's usage; returns EX_USAGE. */
int cli_usage_error(const struct verb *v, const char *format, ...) PRINTF(2, 3);
/* The same for faults that came a line each; returns EX_CONFIG. */
int cli_config_errors(const struct verb *v, const struct buf *errors);

/* --NAME VALUE puts the value into *value, --NAME sets *flag. */
struct cli_option {
	const char *name;
	const char **value;
	bool *flag;
};

/*
 * Takes the options, count of them, and leaves the operands, at most
 * operands many, in *argv. False: the verb is over and *code its exit code
 * (--help, or an error that was said).
 */
bool cli_options(const struct verb *v, int *argc, char ***argv,
		 const struct cli_option *options, size_t count, int operands,
		 int *code) MUST_CHECK;

/* A file, or stdin where path is NULL or "-": at most 16 MiB, any bytes. */
bool cli_read(const struct verb *v, const char *path, struct buf *b) MUST_CHECK;

/*
 * A file or folder of our data: beside the program where that was moved as
 * a whole (DESTDIR, the hosting bundle), else where it was installed.
 */
char *cli_data_path(const char *name) MUST_CHECK;
/* The same for humcli-webhook.fcgi. */
char *cli_responder_path(void) MUST_CHECK;
/* How to type this program: its name, where PATH leads to it, else its path. */
char *cli_program_name(void) MUST_CHECK;

/* Becomes a user for good, where we are root. */
bool cli_switch_user(const char *user) MUST_CHECK;
/*
 * Calls run in a process of its own, as that user; *code is its exit code.
 * False: there is no such user, or we may not.
 */
bool cli_run_as(const char *user, int (*run)(void *context), void *context,
		int *code) MUST_CHECK;
/* Runs a program by PATH; false: it failed. */
bool cli_run_program(char *const *argv) MUST_CHECK;

/* Text from outside for a terminal: all but printable ASCII as \xHH. */
void cli_escape(struct buf *b, const char *text);

/* Which secrets to use; both NULL: all of the settings'. */
struct secret_choice {
	const char *file;
	const char *name;
};
/* For --secret-file and --secret-name, in the verb's usage. */
#define SECRET_USAGE "[--secret-file FILE | --secret-name NAME]"

struct signing_keys {
	struct settings settings;
	struct secrets *secrets;
	const struct secret_set *set;
	/* Those chosen, a part of the set. */
	const struct secret *list;
	size_t count;
};

/* EX_OK, or the exit code of an error that was said. */
int signing_keys_open(struct signing_keys *k, const struct verb *v,
		      const struct secret_choice *choice) MUST_CHECK;
/* The same where there must be exactly one, list[0]. */
int signing_keys_open_one(struct signing_keys *k, const struct verb *v,
			  const struct secret_choice *choice) MUST_CHECK;
/* Also after one of them failed. */
void signing_keys_close(struct signing_keys *k);

#endif
