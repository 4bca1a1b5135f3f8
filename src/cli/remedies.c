/*
 * Owns the advice on faults of the database, a table a question. Knows nothing
 * of connections. The first row that fits counts.
 */
#include "cli/remedies.h"

#include "base/macros.h"

#include <stddef.h>
#include <string.h>

struct remedy {
	const char *key;
	const char *text;
};

const char remedy_for_conninfo[] = "write it as key=value pairs, a value with "
				   "a space between ', or as a URI "
				   "postgresql://user@host/database";

#define OTHER_SCHEMA                                                    \
	"the schema humcli is missing in this database, or of another " \
	"version: run humcli-webhook init"

/* By how the SQLSTATE begins. */
static const struct remedy statements[] = {
	{ "42501",
	  "run it with sudo, or as a role that was granted "
	  "humcli_reader (to read), humcli_consumer (to listen, "
	  "replay and unsubscribe), humcli_admin (to purge and retry) or "
	  "humcli_reconciler (to reconcile)" },
	{ "42P01", OTHER_SCHEMA },
	{ "42703", OTHER_SCHEMA },
	{ "42883", OTHER_SCHEMA },
	{ "3F", "the schema humcli is missing in this database: run "
		"humcli-webhook init" },
	{ "22007", "a time is such as '2026-03-01 12:00', 'yesterday', 90min "
		   "or 7d; an interval such as '30 days'" },
	{ "57014", "the server canceled it: is it overloaded? See "
		   "pg_stat_activity" },
	{ "53", "the server is short of memory, disk or connections: "
		"PostgreSQL's own log says which" },
	{ "XX", "the server has an internal fault, perhaps a damaged "
		"page: PostgreSQL's own log says which relation" },
};

/* By words of the message. */
static const struct remedy connections[] = {
	{ "HUMCLI_WEBHOOK_DATABASE:", remedy_for_conninfo },
	{ "Peer authentication failed",
	  "the role must have the name of the system user; or give "
	  "user=, password= and host=localhost in "
	  "HUMCLI_WEBHOOK_DATABASE" },
	{ "Ident authentication failed",
	  "the role must have the name of the system user; or let "
	  "pg_hba.conf ask for a password" },
	{ "password authentication failed",
	  "correct user= and password= in HUMCLI_WEBHOOK_DATABASE; "
	  "ALTER ROLE ... PASSWORD sets a new one" },
	{ "no password supplied",
	  "add password= to HUMCLI_WEBHOOK_DATABASE, or a .pgpass to "
	  "the home of the user that connects" },
	{ "no pg_hba.conf entry",
	  "add a line for this role, database and address to "
	  "pg_hba.conf, and reload PostgreSQL" },
	{ "not permitted to log in", "ALTER ROLE ... LOGIN" },
	{ "role \"", "create the role: humcli-webhook init for the receiver's "
		     "own, or sudo -iu postgres createuser -g humcli_consumer "
		     "NAME for one that reads" },
	{ "permission denied for database",
	  "GRANT CONNECT ON DATABASE ... TO this role" },
	{ "database \"", "humcli-webhook init creates the database; or "
			 "correct dbname=" },
	{ "Connection refused",
	  "start PostgreSQL, or correct host= and port=" },
	{ "No such file or directory",
	  "no server listens on that socket: start PostgreSQL, or "
	  "correct host= (the socket's folder) and port=" },
	{ "Permission denied", "let the user that connects reach the "
			       "socket's folder, or use host=localhost" },
	{ "look up", "correct host=, or the machine's DNS" },
	{ "translate host name", "correct host=, or the machine's DNS" },
	{ "standby", "give the primary's address in "
		     "HUMCLI_WEBHOOK_DATABASE, or both, separated by a "
		     "comma" },
	{ "read-only", "ALTER ROLE ... SET "
		       "default_transaction_read_only = off, or connect "
		       "to the primary" },
	{ "too many", "raise max_connections, or close idle sessions" },
	{ "connection slots", "raise max_connections, or close idle sessions" },
	{ "SSL", "see sslmode= and sslrootcert= of libpq" },
	{ "certificate", "see sslmode= and sslrootcert= of libpq" },
	{ "in time", "does a firewall drop it? correct host= and "
		     "port=; connect_timeout= gives a distant server "
		     "more time" },
	{ "starting up", "PostgreSQL is starting: try again soon" },
};

const char *remedy_for_sqlstate(const char *sqlstate)
{
	for (size_t i = 0; i < ARRAY_SIZE(statements); i++) {
		const char *key = statements[i].key;

		if (strncmp(sqlstate, key, strlen(key)) == 0)
			return statements[i].text;
	}
	return NULL;
}

const char *remedy_for_connection(const char *failure)
{
	for (size_t i = 0; i < ARRAY_SIZE(connections); i++) {
		if (strstr(failure, connections[i].key))
			return connections[i].text;
	}
	return "does the server run, and are address, role and password in "
	       "HUMCLI_WEBHOOK_DATABASE correct?";
}
