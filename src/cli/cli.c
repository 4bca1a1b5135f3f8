/*
 * Owns the command line's options, its messages on stderr, and its input from
 * files and stdin. Must not know the verbs or the database. Each verb describes
 * its options by a table; getopt_long() reads them, and the functions here
 * report what is wrong, with the verb's usage.
 */
#include "cli/cli.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/macros.h"
#include "cli/help.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INPUT_MAX = 16 << 20 };

static void print_error(const struct verb *v, const char *format, va_list args)
	PRINTF(2, 0);

static void print_error(const struct verb *v, const char *format, va_list args)
{
	fprintf(stderr, "humcli-webhook %s: ", v->name);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): the caller's */
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

/* Returns Levenshtein's distance of two words; SIZE_MAX if b is too long. */
static size_t distance(const char *a, const char *b)
{
	enum { LONGEST = 32 };
	size_t row[LONGEST + 1], n = strlen(b);

	if (n > LONGEST)
		return SIZE_MAX;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t before = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t changed = before + (a[i - 1] != b[j - 1]);
			size_t moved =
				(row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

			before = row[j];
			row[j] = changed < moved ? changed : moved;
		}
	}
	return row[n];
}

bool cli_is_like(const char *word, const char *name)
{
	size_t length = strlen(name);

	if (strlen(word) >= 3 && strncmp(word, name, strlen(word)) == 0)
		return true;
	return distance(word, name) <= (length > 3 ? 2 : 1);
}

int cli_usage_error(const struct verb *v, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_error(v, format, args);
	va_end(args);
	help_print_usage(stderr, v);
	return EX_USAGE;
}

int cli_config_errors(const struct verb *v, const struct buf *errors)
{
	size_t at = 0, length;
	const char *line;

	while ((line = buf_next_line(errors, &at, &length)))
		cli_error(v, "%.*s", (int)length, line);
	return EX_CONFIG;
}

int cli_load_settings(const struct verb *v, struct settings *s)
{
	struct settings_sources sources = settings_sources();
	struct buf errors = { 0 };
	int code = EX_OK;

	if (!settings_load(s, &sources, &errors))
		code = cli_config_errors(v, &errors);
	if (code != EX_OK && geteuid() != 0 &&
	    strstr(errors.data, strerror(EACCES)))
		cli_error(v, "run it with sudo, or as a user of the group that "
			     "may read the settings");
	buf_free(&errors);
	return code;
}

int cli_run_help(const struct verb *v, const char *form)
{
	char *name = xstrdup(v->name), *option = xasprintf("--help=%s", form);
	int code = v->run(v, 2, (char *[]){ name, option, NULL });

	free(option);
	free(name);
	return code;
}

/* Returns the options for getopt_long(), --help last. The caller frees them. */
static struct option *long_options(const struct cli_table *t)
{
	struct option *list = xcalloc(t->count + 2, sizeof(*list));

	for (size_t i = 0; i < t->count; i++) {
		list[i].name = t->options[i].name;
		list[i].has_arg = t->options[i].value ? required_argument
						      : no_argument;
	}
	list[t->count] =
		(struct option){ "help", optional_argument, NULL, 'h' };
	return list;
}

static int unknown_option(const struct cli_table *t, const char *given)
{
	const char *like = NULL;
	char *name = xstrdup(given + strspn(given, "-"));
	int code;

	name[strcspn(name, "=")] = '\0';
	for (size_t i = 0; strlen(name) > 1 && i < t->count && !like; i++) {
		if (cli_is_like(name, t->options[i].name))
			like = t->options[i].name;
	}
	code = like ? cli_usage_error(
			      t->verb,
			      "unknown option '%s'; did you mean '--%s'?",
			      given, like)
		    : cli_usage_error(t->verb, "unknown option '%s'", given);
	free(name);
	return code;
}

/*
 * Reads options by getopt_long(). Returns -1 if the verb goes on; otherwise the
 * exit code, after --help or a reported error.
 */
static int read_options(const struct cli_table *t, int argc, char **argv)
{
	struct option *list = long_options(t);
	int picked, index;

	optind = 0;
	opterr = 0;
	while ((picked = getopt_long(argc, argv, ":h", list, &index)) == 0) {
		if (t->options[index].value)
			*t->options[index].value = optarg;
		else
			*t->options[index].flag = true;
	}
	free(list);
	if (picked == 'h' && help_print(t, optarg))
		return EX_OK;
	if (picked == ':')
		return cli_usage_error(t->verb, "option '%s' needs a value",
				       argv[optind - 1]);
	return picked == -1 ? -1 : unknown_option(t, argv[optind - 1]);
}

/* Does what cli_options() says, for a verb with or without actions. */
static bool read_command_line(const struct cli_table *t, int *argc,
			      char ***argv, int *code)
{
	*code = read_options(t, *argc, *argv);
	if (*code != -1)
		return false;
	*argc -= optind;
	*argv += optind;
	if (*argc > t->operands) {
		*code = cli_usage_error(t->verb, "unexpected argument '%s'",
					(*argv)[t->operands]);
		return false;
	}
	return true;
}

bool cli_options(const struct verb *v, int *argc, char ***argv,
		 const struct cli_option *options, size_t count, int operands,
		 int *code)
{
	const struct cli_table t = { .verb = v,
				     .options = options,
				     .count = count,
				     .operands = operands };

	return read_command_line(&t, argc, argv, code);
}

bool cli_list_has(const char *list, const char *name)
{
	size_t length = strlen(name);

	while (*list) {
		size_t word = strcspn(list, " ");

		if (word == length && strncmp(list, name, length) == 0)
			return true;
		list += word;
		list += strspn(list, " ");
	}
	return false;
}

/* Appends "a, b or c": the actions that accept option; NULL: all of them. */
static void put_names(struct buf *b, const struct cli_action *actions,
		      size_t count, const char *option)
{
	size_t left = 0;

	for (size_t i = 0; i < count; i++)
		left += !option || help_action_has(&actions[i], option);
	for (size_t i = 0; i < count; i++) {
		if (option && !help_action_has(&actions[i], option))
			continue;
		left--;
		buf_printf(b, "%s%s", actions[i].name,
			   left > 1    ? ", "
			   : left == 1 ? " or "
				       : "");
	}
}

static const struct cli_action *find_action(const struct verb *v,
					    const char *name,
					    const struct cli_action *actions,
					    size_t count, int *code)
{
	struct buf names = { 0 };
	const char *like = NULL;

	for (size_t i = 0; name && i < count; i++) {
		if (strcmp(actions[i].name, name) == 0)
			return &actions[i];
	}
	put_names(&names, actions, count, NULL);
	for (size_t i = 0; name && i < count; i++) {
		if (!like && cli_is_like(name, actions[i].name))
			like = actions[i].name;
	}
	if (like)
		*code = cli_usage_error(
			v, "unknown subcommand '%s'; did you mean '%s'?", name,
			like);
	else if (name)
		*code = cli_usage_error(v, "unknown subcommand '%s': %s", name,
					names.data);
	else
		*code = cli_usage_error(v, "missing subcommand: %s",
					names.data);
	buf_free(&names);
	return NULL;
}

static bool is_given(const struct cli_option *option)
{
	return option->value ? *option->value != NULL : *option->flag;
}

/* Refuses an option that the chosen action does not take. */
static bool check_options(const struct verb *v, const struct cli_action *chosen,
			  const struct cli_option *options, size_t option_count,
			  const struct cli_action *actions, size_t count)
{
	struct buf names = { 0 };

	for (size_t i = 0; i < option_count; i++) {
		if (!is_given(&options[i]) ||
		    help_action_has(chosen, options[i].name))
			continue;
		put_names(&names, actions, count, options[i].name);
		(void)cli_usage_error(v, "--%s goes with %s", options[i].name,
				      names.data);
		buf_free(&names);
		return false;
	}
	return true;
}

const struct cli_action *
cli_choose_action(const struct verb *v, int *argc, char ***argv,
		  const struct cli_option *options, size_t option_count,
		  const struct cli_action *actions, size_t count, int *code)
{
	const struct cli_table t = { v,	      options, option_count,
				     actions, count,   INT_MAX };
	const struct cli_action *chosen;

	if (!read_command_line(&t, argc, argv, code))
		return NULL;
	chosen = find_action(v, (*argv)[0], actions, count, code);
	if (!chosen)
		return NULL;
	*argc -= 1;
	*argv += 1;
	*code = EX_USAGE;
	if (!check_options(v, chosen, options, option_count, actions, count))
		return NULL;
	if (*argc > chosen->operands) {
		*code = cli_usage_error(v, "unexpected argument '%s'",
					(*argv)[chosen->operands]);
		return NULL;
	}
	return chosen;
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
