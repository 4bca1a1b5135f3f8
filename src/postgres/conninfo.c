/*
 * Owns the reading of connection strings. Connects to nothing and looks up no
 * name. libpq has no function that says what it makes of a service file, so
 * conninfo_read() starts a connection with one invalid option, which libpq
 * checks after it has read all options and before it looks up a host.
 */
#include "postgres/conninfo.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/macros.h"
#include "base/parse.h"
#include "postgres/query.h"

enum { DEFAULT_TIMEOUT_MS = 5000, LONGEST_TIMEOUT_S = 86400 };

static const char invalid_option[] = "target_session_attrs";

const char *conninfo_option(const struct conninfo *c, const char *keyword)
{
	for (const PQconninfoOption *o = c->options; o->keyword; o++) {
		if (strcmp(o->keyword, keyword) == 0)
			return o->val;
	}
	return NULL;
}

char *conninfo_item(const char *list, size_t n)
{
	size_t length;

	if (!list)
		return NULL;
	for (; n && strchr(list, ','); n--)
		list = strchr(list, ',') + 1;
	length = strcspn(list, ",");
	return length ? xstrndup(list, length) : NULL;
}

static size_t list_length(const char *list)
{
	size_t n = 1;

	for (; list && *list; list++)
		n += *list == ',';
	return n;
}

/*
 * Returns the timeout as libpq takes it: whole seconds, and 2 at least. 0 means
 * for ever there, and our default here, because a server that never answers
 * would otherwise hold up the next attempt for ever.
 */
static int64_t timeout_ms(const char *text)
{
	uint64_t seconds;

	if (!text || !parse_u64(text, 1, LONGEST_TIMEOUT_S, &seconds))
		return DEFAULT_TIMEOUT_MS;
	return (int64_t)(seconds < 2 ? 2 : seconds) * 1000;
}

/* Returns true if text is a name, up to its closing quote. */
static bool is_name(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (!isalnum((unsigned char)text[i]) && text[i] != '_')
			return false;
	}
	return length > 0 && length < 64;
}

/*
 * Says why PQconninfoParse() refused text, by its message. Only the message
 * about an unknown parameter is used, because others quote values. In a URI
 * with an @ behind the ? the parameter may be a part of the password.
 */
static void explain_refusal(const char *text, const char *message,
			    char fault[CONNINFO_FAULT_SIZE])
{
	static const char *const openings[] = {
		"invalid URI query parameter: \"",
		"invalid connection option \""
	};
	const char *query = strchr(text, '?');

	snprintf(fault, CONNINFO_FAULT_SIZE,
		 "the connection string can't be parsed");
	if (query && strchr(query, '@'))
		return;
	for (size_t i = 0; message && i < ARRAY_SIZE(openings); i++) {
		const char *name = message + strlen(openings[i]);

		if (strncmp(message, openings[i], strlen(openings[i])) == 0 &&
		    is_name(name, strcspn(name, "\"")))
			snprintf(fault, CONNINFO_FAULT_SIZE,
				 "the connection string can't be parsed: "
				 "PostgreSQL has no parameter %.*s",
				 (int)strcspn(name, "\""), name);
	}
}

/* Fills in the options as libpq takes them together. */
static bool read_options(const char *text, struct conninfo *c,
			 char fault[CONNINFO_FAULT_SIZE])
{
	/* The last of two options counts; a password spares ~/.pgpass. */
	const char *const keywords[] = { "dbname", "password", invalid_option,
					 NULL };
	const char *const values[] = { text, "-", "none of them", NULL };
	PGconn *conn = PQconnectStartParams(keywords, values, 1);

	c->options = conn ? PQconninfo(conn) : NULL;
	if (c->options && strstr(PQerrorMessage(conn), invalid_option)) {
		PQfinish(conn);
		return true;
	}
	pq_one_line(fault, CONNINFO_FAULT_SIZE,
		    c->options ? PQerrorMessage(conn) : "out of memory");
	PQfinish(conn);
	return false;
}

/* Returns true for an integer as libpq reads it: spaces may be around it. */
static bool is_integer(const char *text, long min, long max)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	return end > text && !errno && value >= min && value <= max &&
	       end[strspn(end, " \t\n\r\f\v")] == '\0';
}

static bool check_ports(const struct conninfo *c,
			char fault[CONNINFO_FAULT_SIZE])
{
	bool ok = true;

	for (size_t i = 0; ok && i < list_length(c->port); i++) {
		char *port = conninfo_item(c->port, i);

		ok = !port || is_integer(port, 1, UINT16_MAX);
		free(port);
	}
	if (!ok)
		snprintf(fault, CONNINFO_FAULT_SIZE,
			 "the value of port is not a number from 1 to 65535");
	return ok;
}

/*
 * Checks the options that libpq reads as integers, because it does so only when
 * it connects, and then refuses every attempt.
 */
static bool check_integers(const struct conninfo *c,
			   char fault[CONNINFO_FAULT_SIZE])
{
	static const char *const keywords[] = {
		"connect_timeout",     "keepalives",	   "keepalives_idle",
		"keepalives_interval", "keepalives_count", "tcp_user_timeout"
	};

	for (size_t i = 0; i < ARRAY_SIZE(keywords); i++) {
		const char *value = conninfo_option(c, keywords[i]);

		if (!value || !*value || is_integer(value, INT_MIN, INT_MAX))
			continue;
		snprintf(fault, CONNINFO_FAULT_SIZE,
			 "the value of %s is not a number", keywords[i]);
		return false;
	}
	return check_ports(c, fault);
}

bool conninfo_read(const char *text, struct conninfo *c,
		   char fault[CONNINFO_FAULT_SIZE])
{
	char *message = NULL;
	PQconninfoOption *parsed = PQconninfoParse(text, &message);

	*c = (struct conninfo){ 0 };
	if (!parsed) {
		explain_refusal(text, message, fault);
		PQfreemem(message);
		return false;
	}
	PQconninfoFree(parsed);
	if (!read_options(text, c, fault)) {
		conninfo_free(c);
		return false;
	}
	c->host = conninfo_option(c, "host");
	c->hostaddr = conninfo_option(c, "hostaddr");
	c->port = conninfo_option(c, "port");
	c->hosts = list_length(c->hostaddr && *c->hostaddr ? c->hostaddr
							   : c->host);
	c->connect_timeout = timeout_ms(conninfo_option(c, "connect_timeout"));
	if (check_integers(c, fault))
		return true;
	conninfo_free(c);
	return false;
}

void conninfo_free(struct conninfo *c)
{
	PQconninfoFree(c->options);
	*c = (struct conninfo){ 0 };
}

bool conninfo_check(const char *text, char fault[CONNINFO_FAULT_SIZE])
{
	struct conninfo c;
	bool ok = conninfo_read(text, &c, fault);

	conninfo_free(&c);
	return ok;
}

void conninfo_add(struct buf *to, const char *keyword, const char *value)
{
	if (!value)
		return;
	buf_printf(to, "%s='", keyword);
	for (; *value; value++) {
		if (*value == '\'' || *value == '\\')
			buf_add(to, "\\", 1);
		buf_add(to, value, 1);
	}
	buf_printf(to, "' ");
}
