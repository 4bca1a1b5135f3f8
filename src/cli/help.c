/*
 * Owns the form of a verb's help and of its options in the manual. Must not
 * know a verb. tests/check-manual compares the manual with what is printed
 * here, so both say the same.
 */
#include "cli/help.h"

#include "base/buf.h"

#include <ctype.h>
#include <string.h>

enum { HELP_COLUMN = 28, HELP_WIDTH = 79, MDOC_WIDTH = 78, USAGE_INDENT = 4 };

/* Returns the length of a word, a [group], or an --option with its VALUE. */
static size_t item_length(const char *item)
{
	bool option = *item == '-';
	size_t n = 0;
	int depth = 0;

	for (; item[n] && item[n] != '\n'; n++) {
		depth += (item[n] == '[') - (item[n] == ']');
		if (item[n] != ' ' || depth)
			continue;
		if (!option || strchr("-[", item[n + 1]))
			break;
		option = false;
	}
	return n;
}

/*
 * A line of the table begins another form of the verb. It belongs to the form
 * before it if it is indented, or if the verb has one form alone, of options.
 */
void help_print_usage(FILE *to, const struct verb *v)
{
	int start = fprintf(to, "usage: humcli-webhook %s ", v->name);
	bool one_form = *v->usage == '[';
	int column = start, indent = start + (one_form ? 0 : USAGE_INDENT);
	bool first = true;

	for (const char *p = v->usage; *p;) {
		int length = (int)item_length(p);

		if (*p == '\n' && !one_form && p[1] != ' ') {
			fprintf(to, "\n%*s", start, "");
			column = start;
			first = true;
		} else if (length > 0) {
			if (!first && column + 1 + length > HELP_WIDTH) {
				fprintf(to, "\n%*s", indent, "");
				column = indent;
				first = true;
			}
			column += fprintf(to, "%s%.*s", first ? "" : " ",
					  length, p);
			first = false;
		}
		p += length ? length : 1;
	}
	fputc('\n', to);
}

bool help_action_has(const struct cli_action *a, const char *option)
{
	return cli_list_has(a->options, option);
}

/* Appends "with list or retry: " to an option that not all actions accept. */
static void put_actions(struct buf *b, const struct cli_table *t,
			const char *option)
{
	size_t count = 0;

	for (size_t i = 0; i < t->action_count; i++)
		count += help_action_has(&t->actions[i], option);
	if (count == t->action_count)
		return;
	for (size_t i = 0; i < t->action_count; i++) {
		if (help_action_has(&t->actions[i], option))
			buf_printf(b, "%s%s", b->length ? " or " : "with ",
				   t->actions[i].name);
	}
	buf_printf(b, ": ");
}

/* Appends the sentence of an option, as the table has it. */
static void put_sentence(struct buf *b, const struct cli_table *t,
			 const struct cli_option *o)
{
	put_actions(b, t, o->name);
	buf_printf(b, "%s", o->help);
}

/*
 * Prints words in lines of at most width characters, of which the first starts
 * at column and the others at indent.
 */
static void print_wrapped(const char *text, size_t column, size_t indent,
			  size_t width)
{
	size_t start = column;

	while (*text) {
		size_t length = strcspn(text, " ");

		if (column > start && column + 1 + length > width) {
			printf("\n%*s", (int)indent, "");
			start = column = indent;
		}
		if (column > start) {
			putchar(' ');
			column++;
		}
		printf("%.*s", (int)length, text);
		column += length;
		text += length;
		text += strspn(text, " ");
	}
	putchar('\n');
}

static void print_options(const struct cli_table *t)
{
	if (t->count)
		putchar('\n');
	for (size_t i = 0; i < t->count; i++) {
		const struct cli_option *o = &t->options[i];
		int column = printf("  --%s%s%s", o->name,
				    o->argument ? " " : "",
				    o->argument ? o->argument : "");
		struct buf sentence = { 0 };

		put_sentence(&sentence, t, o);
		if (column + 2 > HELP_COLUMN) {
			putchar('\n');
			column = 0;
		}
		printf("%*s", HELP_COLUMN - column, "");
		print_wrapped(sentence.data, HELP_COLUMN, HELP_COLUMN,
			      HELP_WIDTH);
		buf_free(&sentence);
	}
}

static void print_examples(const struct verb *v)
{
	puts("\nexamples:");
	for (const char *line = v->examples; *line;) {
		size_t length = strcspn(line, "\n");

		printf("  humcli-webhook %.*s\n", (int)length, line);
		line += length + (line[length] == '\n');
	}
}

static void print_text(const struct cli_table *t)
{
	struct buf summary = { 0 };

	help_print_usage(stdout, t->verb);
	buf_printf(&summary, "%s; see humcli-webhook(1)", t->verb->summary);
	putchar('\n');
	print_wrapped(summary.data, 0, 0, HELP_WIDTH);
	buf_free(&summary);
	print_options(t);
	print_examples(t->verb);
}

/* Prints what an option's value is: words to choose from, or a name for it. */
static void print_argument(const char *argument)
{
	bool words = strchr(argument, '|');

	fputs(words ? " Cm " : " Ar ", stdout);
	for (const char *p = argument; *p; p++) {
		if (*p == '|')
			fputs(" | ", stdout);
		else
			putchar(words ? *p : tolower((unsigned char)*p));
	}
}

static void print_mdoc(const struct cli_table *t)
{
	if (t->count)
		printf(".Ss Options of %s\n", t->verb->name);
	for (size_t i = 0; i < t->count; i++) {
		struct buf sentence = { 0 };

		printf(".It Fl -%s", t->options[i].name);
		if (t->options[i].argument)
			print_argument(t->options[i].argument);
		putchar('\n');
		put_sentence(&sentence, t, &t->options[i]);
		buf_add(&sentence, ".", 1);
		sentence.data[0] =
			(char)toupper((unsigned char)sentence.data[0]);
		print_wrapped(sentence.data, 0, 0, MDOC_WIDTH);
		buf_free(&sentence);
	}
}

bool help_print(const struct cli_table *t, const char *form)
{
	static const struct {
		const char *form;
		void (*print)(const struct cli_table *t);
	} forms[] = { { "", print_text },
		      { "mdoc", print_mdoc },
		      { "bash", completion_print_bash },
		      { "zsh", completion_print_zsh } };

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		if (strcmp(form ? form : "", forms[i].form) == 0) {
			forms[i].print(t);
			return true;
		}
	}
	return false;
}
