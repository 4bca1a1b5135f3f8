/*
 * Owns the shells' scripts, as far as they tell of one verb: a branch of
 * "case $verb". Must not know a verb. verbs/completion.c prints what is around
 * the branches.
 *
 * An option's argument says what its value is: words to choose from ("a|b"),
 * the documented statuses ("STATUS", with "," several), a FILE or a FOLDER. All
 * other values can't be completed.
 */
#include "cli/help.h"

#include "base/buf.h"
#include "cli/statuses.h"

#include <string.h>

enum kind { KIND_FLAG, KIND_VALUE, KIND_WORDS, KIND_FILE, KIND_FOLDER };

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static enum kind kind_of(const struct cli_option *o)
{
	if (!o->argument)
		return KIND_FLAG;
	if (strchr(o->argument, '|') || starts(o->argument, "STATUS"))
		return KIND_WORDS;
	if (strcmp(o->argument, "FILE") == 0)
		return KIND_FILE;
	return strcmp(o->argument, "FOLDER") == 0 ? KIND_FOLDER : KIND_VALUE;
}

/* Prints the words that a value may be, with spaces between. */
static void print_words(const struct cli_option *o)
{
	const char *status;

	if (!starts(o->argument, "STATUS")) {
		for (const char *p = o->argument; *p; p++)
			putchar(*p == '|' ? ' ' : *p);
		return;
	}
	for (size_t i = 0; (status = cli_documented_status(i)); i++)
		printf("%s%s", i ? " " : "", status);
}

static void print_option_names(const struct cli_table *t,
			       const struct cli_action *a)
{
	for (size_t i = 0; i < t->count; i++) {
		if (!a || help_action_has(a, t->options[i].name))
			printf("--%s ", t->options[i].name);
	}
	fputs("--help", stdout);
}

/* Prints one pattern for all options whose value is of a kind. */
static void print_bash_kind(const struct cli_table *t, enum kind kind,
			    const char *name)
{
	size_t count = 0;

	for (size_t i = 0; i < t->count; i++) {
		if (kind_of(&t->options[i]) == kind)
			printf("%s--%s", count++ ? " | " : "\t\t",
			       t->options[i].name);
	}
	if (count)
		printf(") kind=%s ;;\n", name);
}

static void print_bash_words(const struct cli_option *o)
{
	printf("\t\t--%s) kind=words words=\"", o->name);
	print_words(o);
	puts("\" ;;");
}

static bool has_values(const struct cli_table *t)
{
	for (size_t i = 0; i < t->count; i++) {
		if (t->options[i].argument)
			return true;
	}
	return false;
}

/* Prints how the values of options are completed. */
static void print_bash_values(const struct cli_table *t)
{
	if (!has_values(t))
		return;
	puts("\t\tcase $before in");
	for (size_t i = 0; i < t->count; i++) {
		if (kind_of(&t->options[i]) == KIND_WORDS)
			print_bash_words(&t->options[i]);
	}
	print_bash_kind(t, KIND_FILE, "files");
	print_bash_kind(t, KIND_FOLDER, "folders");
	print_bash_kind(t, KIND_VALUE, "value");
	puts("\t\tesac");
}

/* Prints the subcommands, and which options each accepts. */
static void print_bash_actions(const struct cli_table *t)
{
	fputs("\t\tactions=\"", stdout);
	for (size_t i = 0; i < t->action_count; i++)
		printf("%s%s", i ? " " : "", t->actions[i].name);
	puts("\"");
	puts("\t\tcase $(_humcli_webhook_action \"$actions\") in");
	for (size_t i = 0; i < t->action_count; i++) {
		printf("\t\t%s) actions='' options=\"", t->actions[i].name);
		print_option_names(t, &t->actions[i]);
		puts("\" ;;");
	}
	puts("\t\tesac");
}

/* Returns true if an operand is a file: the usage says so. */
static bool has_file_operand(const struct cli_table *t)
{
	return strstr(t->verb->usage, " [FILE]");
}

void completion_print_bash(const struct cli_table *t)
{
	printf("\t%s)\n\t\toptions=\"", t->verb->name);
	print_option_names(t, NULL);
	puts("\"");
	if (has_file_operand(t))
		puts("\t\toperand=files");
	else if (!t->operands && !t->actions)
		puts("\t\toperand=none");
	if (t->actions)
		print_bash_actions(t);
	print_bash_values(t);
	puts("\t\t;;");
}

/* Prints text for single quotes, and within a zsh's [explanation]. */
static void print_zsh_text(const char *text)
{
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", stdout);
		else if (strchr("[]\\:", *text))
			printf("\\%c", *text);
		else
			putchar(*text);
	}
}

static void print_zsh_value(const struct cli_option *o)
{
	switch (kind_of(o)) {
	case KIND_FLAG:
		break;
	case KIND_VALUE:
		printf(":%s: ", o->argument);
		break;
	case KIND_WORDS:
		if (strchr(o->argument, ',')) {
			printf(":%s:_values -s , status ", o->name);
			print_words(o);
		} else {
			printf(":%s:(", o->name);
			print_words(o);
			putchar(')');
		}
		break;
	case KIND_FILE:
		fputs(":file:_files", stdout);
		break;
	case KIND_FOLDER:
		fputs(":folder:_files -/", stdout);
		break;
	}
}

void completion_print_zsh(const struct cli_table *t)
{
	printf("\t%s)\n\t\t_arguments -S \\\n", t->verb->name);
	for (size_t i = 0; i < t->count; i++) {
		const struct cli_option *o = &t->options[i];

		printf("\t\t\t'--%s%s[", o->name, o->argument ? "=" : "");
		print_zsh_text(o->help);
		putchar(']');
		print_zsh_value(o);
		puts("' \\");
	}
	if (t->actions) {
		fputs("\t\t\t'1:subcommand:(", stdout);
		for (size_t i = 0; i < t->action_count; i++)
			printf("%s%s", i ? " " : "", t->actions[i].name);
		puts(")' '*: : ' \\");
	} else if (has_file_operand(t)) {
		puts("\t\t\t'1:file:_files' \\");
	} else if (t->operands) {
		puts("\t\t\t'*: : ' \\");
	}
	puts("\t\t\t'(- *)--help[print this verb'\\''s help]'\n\t\t;;");
}
