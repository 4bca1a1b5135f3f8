/*
 * Prints the commands that are left for the web servers that are installed, and
 * those after an upgrade: with or without systemd, with or without sudo.
 */
#include "cli/init/init.h"

#include "base/alloc.h"
#include "base/macros.h"
#include "cli/program.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *init_sudo(const struct init *i)
{
	if (i->home || (geteuid() == 0 && !getenv("SUDO_USER")))
		return "";
	return "sudo ";
}

static void advise(const struct init *i, const char *command)
{
	printf("    %s%s\n", init_sudo(i), command);
}

/* Prints how to copy a sample, unless a package has installed it. */
static void advise_copy(const struct init *i, const char *sample,
			const char *place)
{
	char *path = cli_data_path(sample);

	if (access(place, F_OK) != 0)
		printf("    %scp %s \\\n        %s\n", init_sudo(i), path,
		       place);
	free(path);
}

/* Prints how to start the receiver, for a web server with its socket. */
static void advise_service(const struct init *i)
{
	if (cli_has_systemd()) {
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
	advise(i, cli_has_systemd() ? by_systemd : otherwise);
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

/* Prints the lines that the user adds to a file of the web server. */
static void advise_lines(const char *where, const char *line)
{
	printf("    # %s:\n    #     %s\n", where, line);
}

static void advise_nginx(const struct init *i)
{
	puts("\nnginx:\n");
	advise_service(i);
	advise_copy(i, "nginx/socket.conf",
		    "/etc/nginx/snippets/humcli-webhook.conf");
	advise_lines("add to the site's server block with TLS, before its "
		     "locations",
		     "include snippets/humcli-webhook.conf;");
	advise(i, "nginx -t");
	advise_reload(i, "systemctl reload nginx", "nginx -s reload");
}

static void advise_caddy(const struct init *i)
{
	puts("\nCaddy:\n");
	advise_service(i);
	advise(i, "usermod -a -G www-data caddy");
	advise_copy(i, "caddy/socket.conf", "/etc/caddy/humcli-webhook.conf");
	advise_lines("add to the top of /etc/caddy/Caddyfile",
		     "import /etc/caddy/humcli-webhook.conf");
	advise_lines("and to the site's block", "import humcli-webhook");
	/* A reload would leave Caddy in the groups that it had. */
	if (cli_has_systemd()) {
		advise(i, "systemctl restart caddy");
	} else {
		advise(i, "caddy stop");
		advise(i, "caddy start --config /etc/caddy/Caddyfile");
	}
}

static const struct server {
	const char *name;
	const char *programs[2];
	void (*advise)(const struct init *);
	bool starts_programs; /* by FastCGI or CGI, as its own user */
} servers[] = {
	{ "apache",
	  { "/usr/sbin/apache2", "/usr/sbin/httpd" },
	  advise_apache,
	  true },
	{ "lighttpd", { "/usr/sbin/lighttpd" }, advise_lighttpd, true },
	{ "nginx", { "/usr/sbin/nginx" }, advise_nginx, false },
	{ "caddy", { "/usr/bin/caddy" }, advise_caddy, false },
};

static const struct server *find_server(const char *name)
{
	for (size_t n = 0; n < ARRAY_SIZE(servers); n++) {
		if (strcmp(servers[n].name, name) == 0)
			return &servers[n];
	}
	return NULL;
}

bool init_knows_server(const char *name)
{
	return find_server(name) != NULL;
}

bool init_server_starts_programs(const char *name)
{
	const struct server *server = find_server(name);

	return server && server->starts_programs;
}

/* Returns true for the server of --server; without it, for an installed one. */
static bool is_wanted(const struct init *i, const struct server *server)
{
	if (i->server)
		return strcmp(i->server, server->name) == 0;
	if (is_started_by_server(i) && !server->starts_programs)
		return false;
	for (size_t n = 0; n < ARRAY_SIZE(server->programs); n++) {
		if (server->programs[n] &&
		    access(server->programs[n], X_OK) == 0)
			return true;
	}
	return false;
}

bool init_has_cgi(const struct init *i)
{
	char *folder = xstrdup(i->config);
	char *path = xasprintf("%s/public_html/humcli/webhook.cgi",
			       dirname(dirname(folder)));
	bool found = access(path, X_OK) == 0;

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

void init_print_server_steps(const struct init *i)
{
	bool found = false;

	if (i->home) {
		if (init_has_cgi(i))
			puts("\nThe web server: public_html/humcli/webhook.cgi "
			     "exists, at the URL of the\nfolder humcli of your "
			     "site.");
		else
			advise_hosting();
		return;
	}
	for (size_t n = 0; n < ARRAY_SIZE(servers); n++) {
		if (is_wanted(i, &servers[n])) {
			servers[n].advise(i);
			found = true;
		}
	}
	if (found)
		return;
	puts("\nNo web server was found here that init knows. For another one "
	     "this starts the\nreceiver, FastCGI at "
	     "/run/humcli-webhook/sock:\n");
	advise_service(i);
}

void init_print_upgrade_steps(const struct init *i)
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
	} else if (cli_has_systemd()) {
		advise(i, "systemctl daemon-reload");
		advise(i, "systemctl try-restart humcli-webhook.service");
	} else {
		advise(i, "/etc/init.d/humcli-webhook restart");
	}
}
