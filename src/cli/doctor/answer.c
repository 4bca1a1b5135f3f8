/*
 * Tells the receiver's own answers, JSON, from pages of the web server, and
 * names the fix by the status: the rows of doc/trouble.md. Pure functions.
 */
#include "cli/doctor/answer.h"

#include "base/alloc.h"
#include "base/macros.h"

#include <stdlib.h>
#include <string.h>

enum { TITLE_MAX = 120, TEXT_MAX = 200 };

/* Returns true if the body is a page rather than JSON or a line of text. */
static bool is_page(const char *body)
{
	return body[strspn(body, " \t\r\n")] == '<';
}

/* Returns the title of a page, or its first heading; the caller frees it. */
static char *page_title(const char *page)
{
	static const char *const tags[] = { "<title>", "<h1>" };
	const char *start = NULL;
	char *title, *to;

	for (size_t i = 0; i < ARRAY_SIZE(tags) && !start; i++) {
		start = strcasestr(page, tags[i]);
		if (start)
			start += strlen(tags[i]);
	}
	if (!start)
		return xstrdup("without a title");
	title = xstrndup(start, strnlen(start, TITLE_MAX));
	title[strcspn(title, "<")] = '\0';
	to = title;
	/* White space of any kind and length becomes one space. */
	for (const char *from = title; *from; from++) {
		bool space = strchr(" \t\r\n", *from) != NULL;

		if (!space)
			*to++ = *from;
		else if (to != title && to[-1] != ' ')
			*to++ = ' ';
	}
	*to = '\0';
	return title;
}

char *answer_page(const struct http_answer *a)
{
	const char *body = a->body.data ? a->body.data : "";
	char *title, *text;

	if (!is_page(body))
		return NULL;
	title = page_title(body);
	text = xasprintf("a page of the web server: %s", title);
	free(title);
	return text;
}

char *answer_text(bool answered, const struct http_answer *a)
{
	const char *body = a->body.data ? a->body.data : "";
	char *page, *text;
	size_t length;

	if (!answered)
		return xasprintf("no answer: %s", a->reason);
	if (a->redirect)
		return xasprintf("%ld, a redirect to %s", a->status,
				 a->redirect);
	page = answer_page(a);
	if (page) {
		text = xasprintf("%ld, %s", a->status, page);
		free(page);
		return text;
	}
	length = strcspn(body, "\r\n");
	return xasprintf("%ld %.*s", a->status,
			 (int)(length < TEXT_MAX ? length : TEXT_MAX), body);
}

/* Returns the fix for one of the receiver's own answers. */
static const char *own_remedy(long status)
{
	switch (status) {
	case 400:
	case 422:
		return "something changes the body on its way: a filter, or "
		       "another program that answers";
	case 401:
		return "is this secret a file in the receiver's SECRET_DIR, "
		       "and does nothing change the body on its way? why= in "
		       "the log has the reason";
	case 405:
		return "the POST became a GET: is there a redirect on the "
		       "way?";
	case 503:
		return "the receiver's log has the reason; for CGI: "
		       "webhook.cgi --check-config";
	default:
		return "doc/trouble.md has a row for each answer; the "
		       "receiver's log has the reason";
	}
}

/* Returns the fix for a page of the web server. */
static const char *page_remedy(long status)
{
	switch (status) {
	case 200:
		return "another page answers at this URL: is it the "
		       "callback_url, and is the configuration enabled "
		       "(a2enconf humcli-webhook, lighty-enable-mod "
		       "humcli-webhook)?";
	case 401:
		return "the web server asks for a password: except this path "
		       "(Require all granted)";
	case 403:
	case 406:
		return "Require, Options, a file's mode or a ModSecurity rule "
		       "refuses it: the web server's error log names it";
	case 404:
		return "the path is not the configured one, the configuration "
		       "is not enabled, or the .htaccess is not read "
		       "(AllowOverride)";
	case 411:
		return "a proxy or a rule demands a Content-Length: switch "
		       "that off for this path";
	case 413:
		return "raise the web server's limit to 1 MiB "
		       "(LimitRequestBody, server.max-request-size)";
	case 500:
		return "the program did not start or ended: the web server's "
		       "error log and suexec.log have the reason; for CGI run "
		       "webhook.cgi --check-config";
	case 502:
	case 503:
	case 504:
		return "the web server got no answer at the receiver's "
		       "socket: systemctl status humcli-webhook.socket "
		       "humcli-webhook.service";
	default:
		return "the web server answers, not the receiver: its error "
		       "log has the reason";
	}
}

const char *answer_remedy(bool answered, const struct http_answer *a)
{
	if (!answered)
		return "does the web server run, and do the host's name, port "
		       "and firewall lead to it?";
	if (a->redirect)
		return "HumCLI's POST would lose its body: give HumCLI the URL "
		       "that it leads to, and except this path from the "
		       "redirect";
	return is_page(a->body.data ? a->body.data : "") || a->status == 502 ||
			       a->status == 504
		       ? page_remedy(a->status)
	       : a->status == 200
		       ? "an answer of the receiver has \"received\":true: "
			 "another program answers at this URL"
		       : own_remedy(a->status);
}

const char *answer_certificate_remedy(const char *reason)
{
	static const struct {
		const char *words;
		const char *remedy;
	} remedies[] = {
		{ "expired", "renew the certificate" },
		{ "not yet valid", "correct the machine's clock, or renew the "
				   "certificate" },
		{ "subject name", "the certificate is for another name: get "
				  "one for this host, or give the URL with the "
				  "certificate's name" },
		{ "hostname", "the certificate is for another name: get one "
			      "for this host, or give the URL with the "
			      "certificate's name" },
		{ "local issuer", "the chain is incomplete, or its authority "
				  "is private: serve the full chain of a "
				  "public one (fullchain.pem); --cacert FILE "
				  "trusts your own for a test" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(remedies); i++) {
		if (strstr(reason, remedies[i].words))
			return remedies[i].remedy;
	}
	return "HumCLI trusts public authorities only: get a certificate from "
	       "one (Let's Encrypt); --cacert FILE trusts your own for a test";
}
