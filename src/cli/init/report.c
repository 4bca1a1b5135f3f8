/*
 * Prints what init did and which steps are left, as commands that work when
 * they are pasted. Runs none of them. Those of the web servers are in steps.c.
 */
#include "cli/init/init.h"

#include "base/alloc.h"
#include "cli/new_secret.h"
#include "cli/program.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void init_report(struct init *i, bool done, const char *format, ...)
{
	va_list args;

	if (!done)
		*i->made = true;
	printf("%-11s ", done ? "kept:" : i->dry_run ? "would make:" : "made:");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

/* Prints the task of HumCLI's documentation, as in doc/humcli.md. */
static void advise_task(const struct init *i, const char *url)
{
	const char *name = strrchr(i->secret, '/') + 1;
	char *callback_url = secret_url(url, name);

	printf("\nA task of HumCLI, with this receiver and secret:\n\n"
	       "curl -sS https://api.humcli.com/api/v1/tasks "
	       "-H \"X-API-Key: $HUMCLI_API_KEY\" \\\n"
	       "    -H 'Content-Type: application/json' "
	       "--data-binary @- <<END\n"
	       "{\n"
	       "  \"title\": \"Verify store opening\",\n"
	       "  \"description\": \"Photograph the front door and the opening "
	       "hours.\",\n"
	       "  \"reward_usd\": 5,\n"
	       "  \"deadline\": \"$(date -u -d '+2 days' "
	       "+%%Y-%%m-%%dT%%H:%%M:%%S.000Z)\",\n"
	       "  \"proof_requirements\": [\"photo\"],\n"
	       "  \"task_type\": \"PHOTO\",\n"
	       "  \"location\": {\"lat\": 40.7128, \"lng\": -74.006, "
	       "\"address\": \"123 Main St, New York\"},\n"
	       "  \"callback_url\": \"%s\",\n"
	       "  \"callback_secret\": \"$(%scat %s)\"\n"
	       "}\n"
	       "END\n",
	       callback_url, init_sudo(i), i->secret);
	free(callback_url);
}

/* Prints what an account without a shell gives HumCLI. */
static void advise_values(const struct init *i, const char *url)
{
	const char *name = strrchr(i->secret, '/') + 1;
	char *callback_url = secret_url(url, name);

	printf("\nGive HumCLI these two values with each task:\n\n"
	       "    callback_url:    %s\n"
	       "    callback_secret: the text in %s\n",
	       callback_url, i->secret);
	free(callback_url);
}

void init_print_next_steps(const struct init *i)
{
	char *url = i->url ? xstrdup(i->url) : secret_guess_url(i->home);
	const char *program = cli_program_name();
	bool upgrade = !*i->made && !i->steps;

	if (upgrade)
		init_print_upgrade_steps(i);
	else
		init_print_server_steps(i);
	printf("\nThen this should find nothing wrong%s:\n\n"
	       "    %s%s doctor %s\n",
	       i->url ? "" : " (give init --url, if yours is another)",
	       init_sudo(i), program, url);
	if (upgrade)
		printf("\nAll steps of the installation again: %s%s init "
		       "--steps\n",
		       init_sudo(i), program);
	else if (i->home && init_has_cgi(i))
		advise_values(i, url);
	else
		advise_task(i, url);
	free(url);
}
