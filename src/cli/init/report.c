#include "cli/init/init.h"

#include "base/alloc.h"
#include "cli/program.h"

#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void init_report(const struct init *i, bool done, const char *format, ...)
{
	va_list args;

	printf("%-11s ", done ? "kept:" : i->dry_run ? "would make:" : "made:");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

static bool is_there(const struct init *i, const char *server,
		     const char *program, const char *other)
{
	if (i->server)
		return strcmp(i->server, server) == 0;
	return access(program, X_OK) == 0 ||
	       (other && access(other, X_OK) == 0);
}

/* Who came as root without sudo may not have it. */
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

static void advise_socket(const struct init *i)
{
	advise(i, "systemctl daemon-reload");
	advise(i, "systemctl enable --now humcli-webhook.socket");
}

/* Packages bring them along. */
static void advise_copy(const struct init *i, const char *sample,
			const char *place)
{
	char *path = cli_data_path(sample);

	if (access(place, F_OK) != 0)
		printf("    %scp %s \\\n        %s\n", as_root(i), path, place);
	free(path);
}

static void advise_apache(const struct init *i)
{
	puts("\nApache:\n");
	advise_socket(i);
	advise_copy(i, "apache/proxy_fcgi.conf",
		    "/etc/apache2/conf-available/humcli-webhook.conf");
	advise(i, "a2enmod -q proxy proxy_fcgi rewrite ssl");
	advise(i, "a2enconf -q humcli-webhook");
	advise(i, "systemctl reload apache2");
}

static void advise_lighttpd(const struct init *i)
{
	puts("\nlighttpd:\n");
	advise_socket(i);
	advise_copy(i, "lighttpd/socket.conf",
		    "/etc/lighttpd/conf-available/60-humcli-webhook.conf");
	advise(i, "lighty-enable-mod humcli-webhook");
	advise(i, "systemctl restart lighttpd");
}

/* The hosting bundle brings it along. */
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
	bool apache =
		is_there(i, "apache", "/usr/sbin/apache2", "/usr/sbin/httpd");
	bool lighttpd = is_there(i, "lighttpd", "/usr/sbin/lighttpd", NULL);

	if (i->home) {
		if (!has_cgi(i))
			advise_hosting();
		return;
	}
	if (apache)
		advise_apache(i);
	if (lighttpd)
		advise_lighttpd(i);
	if (!apache && !lighttpd)
		puts("\nNo Apache or lighttpd was found here. For another web "
		     "server: the responder\nis FastCGI at "
		     "/run/humcli-webhook/sock (humcli-webhook.socket).");
}

/* The task of HumCLI's documentation; README has the same. */
static void advise_task(const struct init *i, const char *url)
{
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
	       url, as_root(i), i->secret);
}

static char *guess_url(const struct init *i)
{
	char host[256];

	if (gethostname(host, sizeof(host)) < 0)
		snprintf(host, sizeof(host), "hooks.example.org");
	host[sizeof(host) - 1] = '\0';
	return xasprintf("https://%s/humcli%s", host,
			 i->home ? "/webhook.cgi" : "");
}

void init_print_next_steps(const struct init *i)
{
	char *url = i->url ? xstrdup(i->url) : guess_url(i);
	const char *program = cli_program_name();

	advise_server(i);
	printf("\nThen this should find nothing wrong%s:\n\n"
	       "    %s%s doctor %s\n",
	       i->url ? "" : " (give init --url, if yours is another)",
	       as_root(i), program, url);
	advise_task(i, url);
	free(url);
}
