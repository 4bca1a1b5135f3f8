#include "init.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_there(const struct init *i, const char *server,
		     const char *program, const char *other)
{
	if (i->server)
		return strcmp(i->server, server) == 0;
	return access(program, X_OK) == 0 ||
	       (other && access(other, X_OK) == 0);
}

static void advise_socket(void)
{
	puts("    systemctl daemon-reload\n"
	     "    systemctl enable --now humcli-webhook.socket");
}

/* Packages bring them along. */
static void advise_copy(const char *sample, const char *place)
{
	char *path = cli_data(sample);

	if (access(place, F_OK) != 0)
		printf("    cp %s \\\n        %s\n", path, place);
	free(path);
}

static void advise_apache(void)
{
	puts("\nApache, as root:\n");
	advise_socket();
	advise_copy("apache/proxy_fcgi.conf",
		    "/etc/apache2/conf-available/humcli-webhook.conf");
	puts("    a2enmod -q proxy proxy_fcgi rewrite ssl\n"
	     "    a2enconf -q humcli-webhook\n"
	     "    systemctl reload apache2");
}

static void advise_lighttpd(void)
{
	puts("\nlighttpd, as root:\n");
	advise_socket();
	advise_copy("lighttpd/socket.conf",
		    "/etc/lighttpd/conf-available/60-humcli-webhook.conf");
	puts("    lighty-enable-mod humcli-webhook\n"
	     "    systemctl restart lighttpd");
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
	char *sample = cli_data("apache/htaccess");
	char *program = cli_responder();

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
		advise_apache();
	if (lighttpd)
		advise_lighttpd();
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
	       url, i->home ? "" : "sudo ", i->secret);
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

void init_advise(const struct init *i)
{
	char *url = i->url ? xstrdup(i->url) : guess_url(i);

	advise_server(i);
	printf("\nThen this should find nothing wrong%s:\n\n"
	       "    %shumcli-webhook doctor %s\n",
	       i->url ? "" : " (give init --url, if yours is another)",
	       i->home ? "" : "sudo ", url);
	advise_task(i, url);
	free(url);
}
