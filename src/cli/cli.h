/*
 * The command line: what its verbs share. A verb is one file of verbs/, a
 * prototype here and a row of the table in main.c.
 */
#ifndef CLI_H
#define CLI_H

#include "base/buf.h"
#include "base/macros.h"
#include "config/settings.h"

#include <stdbool.h>
#include <stddef.h>
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
int cmd_gaps(const struct verb *v, int argc, char **argv);
int cmd_tasks(const struct verb *v, int argc, char **argv);
int cmd_unsubscribe(const struct verb *v, int argc, char **argv);
int cmd_task(const struct verb *v, int argc, char **argv);
int cmd_verify(const struct verb *v, int argc, char **argv);

/* Prints the verb's usage and summary on stdout. */
void cli_help(const struct verb *v);
/* Returns true if a word is so near to a name that this may be meant. */
bool cli_is_like(const char *word, const char *name) MUST_CHECK;

/* "humcli-webhook VERB: …" on stderr. */
void cli_error(const struct verb *v, const char *format, ...) PRINTF(2, 3);
/* The same, and the verb's usage; returns EX_USAGE. */
int cli_usage_error(const struct verb *v, const char *format, ...) PRINTF(2, 3);
/* The same for faults that came a line each; returns EX_CONFIG. */
int cli_config_errors(const struct verb *v, const struct buf *errors);

/*
 * Loads the settings and reports each fault. Returns EX_OK or EX_CONFIG. The
 * caller frees *s in both cases.
 */
int cli_load_settings(const struct verb *v, struct settings *s) MUST_CHECK;

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

/* A subcommand, as "dead list". */
struct cli_action {
	const char *name;
	int (*run)(void *context);
	int operands; /* how many it takes at most */
	const char *options; /* the names of those it takes, by spaces */
};

/*
 * As cli_options(), where the first operand is one of count actions: returns
 * it, and leaves its own operands in *argv. NULL: the verb is over and *code
 * its exit code.
 */
const struct cli_action *cli_choose_action(const struct verb *v, int *argc,
					   char ***argv,
					   const struct cli_option *options,
					   size_t option_count,
					   const struct cli_action *actions,
					   size_t count, int *code) MUST_CHECK;

/* A file, or stdin where path is NULL or "-": at most 16 MiB, any bytes. */
bool cli_read(const struct verb *v, const char *path, struct buf *b) MUST_CHECK;

/* Text from outside for a terminal: all but printable ASCII as \xHH. */
void cli_escape(struct buf *b, const char *text);

#endif
