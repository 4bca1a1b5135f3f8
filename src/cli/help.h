/*
 * The help of a verb, its part of the manual, and its part of the shells'
 * completion. All are made from the verb's one table of options.
 */
#ifndef HELP_H
#define HELP_H

#include "base/macros.h"
#include "cli/cli.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* A verb's options, and its subcommands if it has any. */
struct cli_table {
	const struct verb *verb;
	const struct cli_option *options;
	size_t count;
	const struct cli_action *actions; /* NULL: the verb has none */
	size_t action_count;
	int operands; /* how many the verb accepts at most */
};

/* Prints the usage; later lines start below the first one's options. */
void help_print_usage(FILE *to, const struct verb *v);

/*
 * Prints on stdout what --help=FORM asks for: the help for NULL, a list of
 * options for "mdoc", and a branch of a script for "bash" and "zsh". Returns
 * false for another form.
 */
bool help_print(const struct cli_table *t, const char *form) MUST_CHECK;

/* Returns true if the action accepts the option. */
bool help_action_has(const struct cli_action *a, const char *option) MUST_CHECK;

/* Prints a branch of the case for verbs in the shells' scripts. */
void completion_print_bash(const struct cli_table *t);
void completion_print_zsh(const struct cli_table *t);

#endif
