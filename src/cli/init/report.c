/*
 * Prints what init did and which steps are left, as commands that work when
 * they are pasted: with or without systemd, with or without sudo, for the web
 * servers that are installed. Runs none of them.
 */
#include "cli/init/init.h"

#include "base/alloc.h"
#include "cli/new_secret.h"
#include "cli/program.h"

#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static bool has_systemd(void)
{
	return access("/run/systemd/system", F_OK) == 0;
}

static bool is_installed(const struct init *i, const char *server,
			 const char *program, const char *other)
{
	if (i->server)
		return strcmp(i->server, server) == 0;
	return access(program, X_OK) == 0 ||
	       (other && access(other, X_OK) == 0);
}

/* Returns "sudo " unless root runs init without it: sudo may be missing. */
static const char *as_root(const struct init *i)
{
	if (i->home || (geteuid() == 0 && !getenv("SUDO_USER")))
		return "";
	return "sudo ";
}

static void advise(const struct init *i, const char *command)
{
	printf("    %s%s\n", as_root(i), command);
}

/* Prints how to copy a sample, unless a package has installed it. */
static void advise_copy(const struct init *i, const char *sample,
			const char *place)
{
	char *path = cli_data_path(sample);

	if (access(place, F_OK) != 0)
		printf("    %scp %s \\\n        %s\n", as_root(i), path, place);
	free(path);
}

/* Prints how to start the receiver, for a web server with its socket. */
static void advise_service(const struct init *i)
{
	if (has_systemd()) {
		advise(i, "systemctl daemon-reload");
		advise(i, "systemctl enable --now humcli-webhook.socket");
		return;
	}
	advise_copy(i, "sysv/humcli-webhook", "/etc/init.d/humcli-webhook");
	advise(i, "chmod 755 /etc/init.d/humcli-webhook");
	if (access("/usr/sbin/update-rc.d", X_OK) == 0)
		advise(i, "update-rc.d humcli-webhook defaults");
	advise(i, "/etc/init.d/humcli-webhook start");
}

static void advise_reload(const struct init *i, const char *by_systemd,
			  const char *otherwise)
{
	advise(i, has_systemd() ? by_systemd : otherwise);
}

/* Returns true if the web server itself starts the receiver, as --user. */
static bool is_started_by_server(const struct init *i)
{
	return strcmp(i->user, INIT_USER) != 0;
}

static void advise_apache(const struct init *i)
{
	static const char place[] =
		"/etc/apache2/conf-available/humcli-webhook.conf";

	puts("\nApache:\n");
	if (is_started_by_server(i)) {
		advise_copy(i, "apache/fcgid.conf", place);
		advise(i, "a2enmod -q alias fcgid rewrite ssl");
	} else {
		advise_service(i);
		advise_copy(i, "apache/proxy_fcgi.conf", place);
		advise(i, "a2enmod -q proxy proxy_fcgi rewrite ssl");
	}
	advise(i, "a2enconf -q humcli-webhook");
	advise_reload(i, "systemctl reload apache2", "apachectl graceful");
}

static void advise_lighttpd(const struct init *i)
{
	static const char place[] =
		"/etc/lighttpd/conf-available/60-humcli-webhook.conf";

	puts("\nlighttpd:\n");
	if (is_started_by_server(i)) {
		advise_copy(i, "lighttpd/spawn.conf", place);
	} else {
		advise_service(i);
		advise_copy(i, "lighttpd/socket.conf", place);
	}
	advise(i, "lighty-enable-mod humcli-webhook");
	advise_reload(i, "systemctl restart lighttpd",
		      "/etc/init.d/lighttpd restart");
}

/* Returns true if webhook.cgi exists, as the hosting bundle installs it. */
static bool has_cgi(const struct init *i)
{
	char *folder = xstrdup(i->config);
	char *path = xasprintf("%s/public_html/humcli/webhook.cgi",
			       dirname(dirname(folder)));
	bool found = access(path, X_OK) == 0;

	if (found)
		printf("\nThe web server: %s is there, at the URL of the "
		       "folder humcli of your site.\n",
		       path);
	free(path);
	free(folder);
	return found;
}

static void advise_hosting(void)
{
	char *sample = cli_data_path("apache/htaccess");
	char *program = cli_responder_path();

	printf("\nThe web server, with the site in ~/public_html:\n\n"
	       "    mkdir -p ~/public_html/humcli && cd ~/public_html/humcli\n"
	       "    cp %s .htaccess\n"
	       "    cp %s webhook.cgi\n"
	       "    chmod 755 . webhook.cgi && ./webhook.cgi --check-config\n",
	       sample, program);
	free(program);
	free(sample);
}

static void advise_server(const struct init *i)
{
	bool apache = is_installed(i, "apache", "/usr/sbin/apache2",
				   "/usr/sbin/httpd");
	bool lighttpd = is_installed(i, "lighttpd", "/usr/sbin/lighttpd", NULL);

	if (i->home) {
		if (!has_cgi(i))
			advise_hosting();
		return;
	}
	if (apache)
		advise_apache(i);
	if (lighttpd)
		advise_lighttpd(i);
	if (apache || lighttpd)
		return;
	puts("\nNo Apache or lighttpd was found here. For another web server, "
	     "this starts the\nreceiver, FastCGI at "
	     "/run/humcli-webhook/sock:\n");
	advise_service(i);
}

/* Prints the steps after an upgrade, when all that init creates existed. */
static void advise_upgrade(const struct init *i)
{
	puts("\nAll exists already. After an upgrade of the programs:\n");
	if (i->home) {
		char *program = cli_responder_path();

		printf("    cd ~/public_html/humcli && cp %s new.cgi && "
		       "mv new.cgi webhook.cgi\n",
		       program);
		free(program);
	} else if (is_started_by_server(i)) {
		advise_reload(i, "systemctl reload apache2",
			      "apachectl graceful");
	} else if (has_systemd()) {
		advise(i, "systemctl daemon-reload");
		advise(i, "systemctl try-restart humcli-webhook.service");
	} else {
		advise(i, "/etc/init.d/humcli-webhook restart");
	}
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
	       callback_url, as_root(i), i->secret);
	free(callback_url);
}

void init_print_next_steps(const struct init *i)
{
	char *url = i->url ? xstrdup(i->url) : secret_guess_url(i->home);
	const char *program = cli_program_name();
	bool upgrade = !*i->made && !i->steps;

	if (upgrade)
		advise_upgrade(i);
	else
		advise_server(i);
	printf("\nThen this should find nothing wrong%s:\n\n"
	       "    %s%s doctor %s\n",
	       i->url ? "" : " (give init --url, if yours is another)",
	       as_root(i), program, url);
	if (upgrade)
		printf("\nAll steps of the installation again: %s%s init "
		       "--steps\n",
		       as_root(i), program);
	else
		advise_task(i, url);
	free(url);
}
