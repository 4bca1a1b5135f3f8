/*
 * Options, messages and input, for all verbs. A verb is one file of verbs/, a
 * prototype here, a row of the table in main.c, and an entry and "Options of
 * VERB" in doc/humcli-webhook.1. "humcli-webhook help --mdoc" prints the
 * latter.
 */
#ifndef CLI_H
#define CLI_H

#include "base/buf.h"
#include "base/macros.h"
#include "config/settings.h"

#include <stdbool.h>
#include <stddef.h>
#include <sysexits.h>

/* An exit code besides those of sysexits.h: the answer is no. */
enum { EXIT_NEGATIVE = 1 };

struct verb {
	const char *name;
	/* Runs the verb; argv[0] is its name. Returns the exit code. */
	int (*run)(const struct verb *v, int argc, char **argv);
	const char *usage; /* the options and operands */
	const char *summary;
	const char *examples; /* a command a line, without our own name */
};

int cmd_completion(const struct verb *v, int argc, char **argv);
int cmd_dead(const struct verb *v, int argc, char **argv);
int cmd_doctor(const struct verb *v, int argc, char **argv);
int cmd_init(const struct verb *v, int argc, char **argv);
int cmd_events(const struct verb *v, int argc, char **argv);
int cmd_listen(const struct verb *v, int argc, char **argv);
int cmd_metrics(const struct verb *v, int argc, char **argv);
int cmd_probe(const struct verb *v, int argc, char **argv);
int cmd_purge(const struct verb *v, int argc, char **argv);
int cmd_quarantine(const struct verb *v, int argc, char **argv);
int cmd_reconcile(const struct verb *v, int argc, char **argv);
int cmd_replay(const struct verb *v, int argc, char **argv);
int cmd_report(const struct verb *v, int argc, char **argv);
int cmd_secret(const struct verb *v, int argc, char **argv);
int cmd_send(const struct verb *v, int argc, char **argv);
int cmd_sign(const struct verb *v, int argc, char **argv);
int cmd_spool(const struct verb *v, int argc, char **argv);
int cmd_subscriptions(const struct verb *v, int argc, char **argv);
int cmd_gaps(const struct verb *v, int argc, char **argv);
int cmd_tasks(const struct verb *v, int argc, char **argv);
int cmd_unsubscribe(const struct verb *v, int argc, char **argv);
int cmd_task(const struct verb *v, int argc, char **argv);
int cmd_verify(const struct verb *v, int argc, char **argv);
int cmd_wait(const struct verb *v, int argc, char **argv);

/* Returns the table of verbs, which is *count long. */
const struct verb *cli_verbs(size_t *count) MUST_CHECK;
/* Prints one form of a verb's help; see help_print(). Returns its exit code. */
int cli_run_help(const struct verb *v, const char *form) MUST_CHECK;

/* Returns true if a word is so near to a name that this may be meant. */
bool cli_is_like(const char *word, const char *name) MUST_CHECK;

/* Returns true if name is a word of list, whose words spaces separate. */
bool cli_list_has(const char *list, const char *name) MUST_CHECK;

/* Prints "humcli-webhook VERB: ..." on stderr. */
void cli_error(const struct verb *v, const char *format, ...) PRINTF(2, 3);
/* Prints like cli_error(), then the verb's usage. Returns EX_USAGE. */
int cli_usage_error(const struct verb *v, const char *format, ...) PRINTF(2, 3);
/* Prints each line of errors like cli_error(). Returns EX_CONFIG. */
int cli_config_errors(const struct verb *v, const struct buf *errors);

/*
 * Loads the settings and reports each fault. Returns EX_OK or EX_CONFIG. The
 * caller frees *s in both cases.
 */
int cli_load_settings(const struct verb *v, struct settings *s) MUST_CHECK;

/*
 * An option of a verb: --NAME VALUE stores the value in *value; --NAME alone
 * sets *flag. The verb's table of options is the only place that tells of them.
 * --help, the shells' completion and the lists of the manual are made from it;
 * tests/check-manual compares the manual. Before it reads its options, a verb
 * does nothing, because --help and the completion run it, too.
 */
struct cli_option {
	const char *name;
	const char **value;
	bool *flag;
	/*
	 * The name of the value; NULL for a flag. "a|b" are the words that the
	 * value may be. The completion knows STATUS, "STATUS,...", FILE and
	 * FOLDER.
	 */
	const char *argument;
	/*
	 * The effect and the default: one sentence, lower case, without a full
	 * stop.
	 */
	const char *help;
};

/*
 * Reads the options of a verb and leaves its operands in *argc and *argv, at
 * most as many as operands says. Returns true if the verb goes on; false if it
 * ends with exit code *code, after --help or a reported error.
 */
bool cli_options(const struct verb *v, int *argc, char ***argv,
		 const struct cli_option *options, size_t count, int operands,
		 int *code) MUST_CHECK;

/* A subcommand, as "dead list". */
struct cli_action {
	const char *name;
	int (*run)(void *context);
	int operands; /* how many it accepts at most */
	const char *
		options; /* the names of those it accepts, with spaces between */
};

/*
 * Reads the options like cli_options(), and chooses the action that the first
 * operand names. Returns the action, with its own operands in *argc and *argv;
 * NULL if the verb ends with exit code *code.
 */
const struct cli_action *cli_choose_action(const struct verb *v, int *argc,
					   char ***argv,
					   const struct cli_option *options,
					   size_t option_count,
					   const struct cli_action *actions,
					   size_t count, int *code) MUST_CHECK;

/*
 * Reads a file, or stdin if path is NULL or "-", at most 16 MiB. Returns true
 * if all was read; false if an error was reported.
 */
bool cli_read(const struct verb *v, const char *path, struct buf *b) MUST_CHECK;

/* Appends text from outside for a terminal, all but printable ASCII as \xHH. */
void cli_escape(struct buf *b, const char *text);

#endif
