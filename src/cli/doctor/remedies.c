/*
 * Owns the doctor's advice on the database, a table a question. Knows nothing
 * of connections. The first row that fits counts.
 */
#include "cli/doctor/remedies.h"

#include "base/macros.h"

#include <stddef.h>
#include <string.h>

struct remedy {
	const char *key;
	const char *text;
};

/* By how the SQLSTATE begins. */
static const struct remedy statements[] = {
	{ "42501", "GRANT humcli_writer to the role that the receiver "
		   "connects as; --reader names another role to read "
		   "the events" },
	{ "42", "humcli-webhook init, or sql/install.sql, in this "
		"database: the schema is missing or of another "
		"version" },
	{ "3F", "humcli-webhook init, or sql/install.sql, in this "
		"database" },
	{ "57014", "the server canceled it: is it overloaded? See "
		   "pg_stat_activity" },
	{ "53", "the server is short of memory, disk or connections: "
		"PostgreSQL's own log says which" },
	{ "XX", "the server has an internal fault, perhaps a damaged "
		"page: PostgreSQL's own log says which relation" },
};

/* By words of the message. */
static const struct remedy connections[] = {
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
	  "the home of the receiver's user" },
	{ "no pg_hba.conf entry",
	  "add a line for this role, database and address to "
	  "pg_hba.conf, and reload PostgreSQL" },
	{ "role \"", "humcli-webhook init creates the role; or CREATE ROLE ... "
		     "LOGIN, and GRANT humcli_writer" },
	{ "database \"", "humcli-webhook init creates the database; or "
			 "correct dbname=" },
	{ "Connection refused",
	  "start PostgreSQL, or correct host= and port=" },
	{ "No such file or directory",
	  "no server listens on that socket: start PostgreSQL, or "
	  "correct host= (the socket's folder) and port=" },
	{ "Permission denied", "let the receiver's user reach the "
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
	return "PostgreSQL's own log says more";
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
