/*
 * Creates the database, the schema and the receiver's role: as the superuser
 * of this machine, or by --admin. Knows libpq itself, because it quotes names,
 * hashes a password, and prints the server's notices.
 */
#include "cli/init/init.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/parse.h"
#include "cli/program.h"
#include "postgres/connector.h"
#include "postgres/conninfo.h"
#include "postgres/query.h"

#include <fcntl.h>
#include <libpq-fe.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SQL_LIMIT = 1 << 20, STATEMENT_MS = 60000, CONNECT_MS = 30000 };

/* The database to set up, and who sets it up. */
struct target {
	struct init *init;
	PQconninfoOption *options; /* of the settings' DATABASE */
	const char *name; /* of the database */
	const char *role; /* the receiver's; NULL: the installing role */
	const char *admin; /* conninfo; NULL: this machine's superuser */
};

static const char *option(const struct target *t, const char *keyword)
{
	for (const PQconninfoOption *o = t->options; o->keyword; o++) {
		if (strcmp(o->keyword, keyword) == 0)
			return o->val && *o->val ? o->val : NULL;
	}
	return NULL;
}

/* Prints a notice, such as that roles are left out. */
static void print_notice(void *context, const PGresult *notice)
{
	const struct init *i = context;
	char text[512];

	pq_one_line(text, sizeof(text), PQresultErrorMessage(notice));
	cli_error(i->verb, "%s", text);
}

static void print_error(const struct target *t, const char *what,
			const char *message)
{
	char text[512];

	pq_one_line(text, sizeof(text), message);
	cli_error(t->init->verb, "%s: %s", what, text);
}

/*
 * Returns the conninfo of the database name: by --admin, or at the settings'
 * address. NULL if libpq refuses --admin. The caller frees it.
 */
static char *admin_conninfo(const struct target *t, const char *name)
{
	PQconninfoOption *options = t->admin ? PQconninfoParse(t->admin, NULL)
					     : NULL;
	struct buf text = { 0 };

	if (t->admin && !options)
		return NULL;
	conninfo_add(&text, "fallback_application_name", "humcli-webhook init");
	for (const PQconninfoOption *o = options; o && o->keyword; o++)
		conninfo_add(&text, o->keyword, o->val);
	PQconninfoFree(options);
	if (!t->admin) {
		conninfo_add(&text, "host", option(t, "host"));
		conninfo_add(&text, "port", option(t, "port"));
	}
	conninfo_add(&text, "dbname", name);
	return text.data;
}

/* Connects by a connector, within CONNECT_MS. NULL: that was printed. */
static PGconn *connect_admin(const struct target *t, const char *conninfo)
{
	struct connector *c = connector_new(conninfo);
	PGconn *conn = connector_open_quietly(c, CONNECT_WRITABLE,
					      monotonic_ms() + CONNECT_MS);

	if (!conn)
		print_error(t, "can't connect to install the schema",
			    connector_failure(c));
	connector_free(c);
	return conn;
}

static void print_result_error(const struct target *t, const char *what,
			       PGconn *conn, const PGresult *result)
{
	char text[512];

	pq_error(conn, result, text, sizeof(text));
	cli_error(t->init->verb, "%s: %s", what, text);
}

static bool run(const struct target *t, PGconn *conn, const char *what,
		const char *sql)
{
	PGresult *r = pq_script(conn, sql, monotonic_ms() + STATEMENT_MS, -1);
	bool ok = pq_succeeded(r);

	if (!ok)
		print_result_error(t, what, conn, r);
	PQclear(r);
	return ok;
}

/*
 * Connects to the database name. What a role or database sets for its sessions
 * does not count in this one.
 */
static PGconn *open_database(const struct target *t, const char *name)
{
	static const char settings[] =
		"SELECT pg_catalog.set_config(name, value, false) FROM (VALUES"
		" ('statement_timeout', '0'), ('lock_timeout', '0'),"
		" ('idle_in_transaction_session_timeout', '0'),"
		" ('transaction_timeout', '0'),"
		" ('restrict_nonsystem_relation_kind', ''),"
		" ('exit_on_error', 'off'),"
		" ('default_transaction_isolation', 'read committed'),"
		" ('default_transaction_read_only', 'off'),"
		" ('search_path', 'pg_catalog, pg_temp'),"
		" ('client_min_messages', 'notice')) AS v (name, value)"
		" WHERE pg_catalog.current_setting(name, true) IS NOT NULL";
	char *conninfo = admin_conninfo(t, name);
	PGconn *conn = conninfo ? connect_admin(t, conninfo) : NULL;

	if (!conninfo)
		cli_error(t->init->verb,
			  "can't parse --admin: give key=value pairs, or a URI "
			  "postgresql://user@host/database");
	else
		explicit_bzero(conninfo, strlen(conninfo));
	free(conninfo);
	if (!conn)
		return NULL;
	PQsetNoticeReceiver(conn, print_notice, t->init);
	if (run(t, conn, "can't set the session", settings))
		return conn;
	PQfinish(conn);
	return NULL;
}

/*
 * Asks whether the query finds a row for a name. Returns false if the query
 * failed and that was printed.
 */
static bool exists(const struct target *t, PGconn *conn, const char *query,
		   const char *name, bool *found)
{
	const char *values[] = { name };
	PGresult *r = pq_query(conn, query, values, 1,
			       monotonic_ms() + STATEMENT_MS, -1);
	bool ok = pq_succeeded(r);

	*found = ok && PQntuples(r) == 1;
	if (!ok)
		print_result_error(t, "can't look up a name", conn, r);
	PQclear(r);
	return ok;
}

/* Quotes a name as SQL; NULL if that failed and was printed. */
static char *quote_name(const struct target *t, PGconn *conn, const char *name)
{
	char *quoted = PQescapeIdentifier(conn, name, strlen(name));

	if (!quoted)
		print_error(t, "can't quote a name", PQerrorMessage(conn));
	return quoted;
}

static bool create_database(const struct target *t, PGconn *conn)
{
	char *name = quote_name(t, conn, t->name), *sql;
	bool ok;

	if (!name)
		return false;
	sql = xasprintf("CREATE DATABASE %s ENCODING 'UTF8' TEMPLATE template0",
			name);
	ok = run(t, conn, "can't create the database", sql);
	free(sql);
	PQfreemem(name);
	return ok;
}

static bool ensure_database(const struct target *t)
{
	PGconn *conn = open_database(t, "postgres");
	bool found, ok;

	if (!conn)
		return false;
	ok = exists(t, conn,
		    "SELECT 1 FROM pg_catalog.pg_database "
		    "WHERE datname = $1::pg_catalog.text",
		    t->name, &found);
	if (ok) {
		init_report(t->init, found, "the database %s", t->name);
		ok = found || create_database(t, conn);
	}
	PQfinish(conn);
	return ok;
}

/* Asks for a number; 0 for NULL and if the query failed. */
static uint64_t query_number(PGconn *conn, const char *query)
{
	PGresult *r = pq_query(conn, query, NULL, 0,
			       monotonic_ms() + STATEMENT_MS, -1);
	uint64_t number = 0;

	if (!pq_succeeded(r) || PQntuples(r) != 1 ||
	    !parse_u64(PQgetvalue(r, 0, 0), 0, INT_MAX, &number))
		number = 0;
	PQclear(r);
	return number;
}

/* Returns the version of the schema, 0 if there is none. */
static int schema_version(PGconn *conn)
{
	/* A missing table would be an error even where it is not read. */
	if (query_number(conn, "SELECT pg_catalog.count(pg_catalog.to_regclass("
			       "'humcli.schema_version'))") == 0)
		return 0;
	return (int)query_number(conn, "SELECT pg_catalog.max(version) "
				       "FROM humcli.schema_version");
}

/* Runs the SQL that installs or upgrades the schema. */
static bool run_file(const struct target *t, PGconn *conn, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct buf sql = { 0 };
	bool ok = fd >= 0 && read_all(fd, SQL_LIMIT, &sql);

	if (!ok)
		cli_error(t->init->verb, "can't read %s: %m", path);
	else
		ok = run(t, conn, "can't install the schema", sql.data);
	if (fd >= 0)
		close(fd);
	buf_free(&sql);
	return ok;
}

static bool install(const struct target *t, PGconn *conn)
{
	char *path = cli_data_path("sql/humcli.sql");
	int before = schema_version(conn);
	bool ok = run_file(t, conn, path);
	int after = ok ? schema_version(conn) : 0;

	if (ok && before == after)
		init_report(t->init, true, "the schema humcli, version %d",
			    after);
	else if (ok && before)
		init_report(t->init, false,
			    "the schema humcli, version %d from %d", after,
			    before);
	else if (ok)
		init_report(t->init, false,
			    "the schema humcli, version %d, by %s", after,
			    path);
	free(path);
	return ok;
}

/*
 * Returns the hash of a password, which the caller frees; NULL if that fails.
 * Asks for the method by itself, because libpq would ask without a deadline.
 */
static char *hash_password(const struct target *t, PGconn *conn,
			   const char *password)
{
	PGresult *r = pq_query(conn,
			       "SELECT pg_catalog.current_setting("
			       "'password_encryption')",
			       NULL, 0, monotonic_ms() + STATEMENT_MS, -1);
	char *hash = NULL;

	if (pq_succeeded(r) && PQntuples(r) == 1)
		hash = PQencryptPasswordConn(conn, password, t->role,
					     PQgetvalue(r, 0, 0));
	PQclear(r);
	return hash;
}

/*
 * Hashes the role's password here, because the server's log could show the
 * statement. Returns " PASSWORD '...'", or "" without a password; NULL if that
 * failed and was printed. The caller frees it.
 */
static char *password_clause(const struct target *t, PGconn *conn)
{
	const char *password = option(t, "password");
	char *hash, *literal, *clause = NULL;

	if (!password)
		return xstrdup("");
	hash = hash_password(t, conn, password);
	literal = hash ? PQescapeLiteral(conn, hash, strlen(hash)) : NULL;
	if (literal)
		clause = xasprintf(" PASSWORD %s", literal);
	else
		print_error(t, "can't hash the role's password",
			    PQerrorMessage(conn));
	PQfreemem(literal);
	PQfreemem(hash);
	return clause;
}

/* Creates the role; name is quoted. */
static bool create_role(const struct target *t, PGconn *conn, const char *name)
{
	char *clause = password_clause(t, conn), *sql;
	bool ok;

	if (!clause)
		return false;
	sql = xasprintf("CREATE ROLE %s LOGIN%s", name, clause);
	ok = run(t, conn, "can't create the role", sql);
	explicit_bzero(sql, strlen(sql));
	explicit_bzero(clause, strlen(clause));
	free(sql);
	free(clause);
	return ok;
}

/* Grants humcli_writer, unless the role has it: the server would notice. */
static bool grant_writer(const struct target *t, PGconn *conn, const char *name)
{
	static const char query[] =
		"SELECT 1 FROM pg_catalog.pg_auth_members m "
		"JOIN pg_catalog.pg_roles g ON g.oid = m.roleid "
		"JOIN pg_catalog.pg_roles r ON r.oid = m.member "
		"WHERE g.rolname = 'humcli_writer' "
		"AND r.rolname = $1::pg_catalog.text";
	char *sql;
	bool found, ok = exists(t, conn, query, t->role, &found);

	if (!ok || found)
		return ok;
	sql = xasprintf("GRANT humcli_writer TO %s", name);
	ok = run(t, conn, "can't grant humcli_writer", sql);
	free(sql);
	return ok;
}

static bool ensure_role(const struct target *t, PGconn *conn)
{
	static const char query[] = "SELECT 1 FROM pg_catalog.pg_roles "
				    "WHERE rolname = $1::pg_catalog.text";
	char *name;
	bool found, ok;

	/* Without our roles all works as the role that installed. */
	if (!t->role || strcmp(t->role, PQuser(conn)) == 0)
		return true;
	ok = exists(t, conn, query, "humcli_writer", &found);
	if (!ok || !found)
		return ok;
	name = quote_name(t, conn, t->role);
	ok = name && exists(t, conn, query, t->role, &found);
	if (ok) {
		init_report(t->init, found, "the role %s", t->role);
		ok = (found || create_role(t, conn, name)) &&
		     grant_writer(t, conn, name);
	}
	PQfreemem(name);
	return ok;
}

static int set_up(void *context)
{
	const struct target *t = context;
	PGconn *conn = NULL;
	bool ok = t->admin || ensure_database(t);

	if (ok)
		conn = open_database(t, t->name);
	ok = conn && install(t, conn) && ensure_role(t, conn);
	PQfinish(conn);
	return ok ? EX_OK : EX_UNAVAILABLE;
}

static bool is_local(const struct target *t)
{
	const char *host = option(t, "host");

	return (!host || *host == '/') && !option(t, "hostaddr") &&
	       !option(t, "service");
}

static int set_up_as_superuser(struct target *t)
{
	int code;

	if (!is_local(t)) {
		t->admin = t->init->database ? t->init->database : "";
		return set_up(t);
	}
	if (cli_run_as("postgres", set_up, t, &code))
		return code;
	cli_error(t->init->verb,
		  "there is no system user postgres to install the schema as: "
		  "give --admin CONNINFO of a role that may install it");
	return EX_NOUSER;
}

static void report_plan(const struct target *t)
{
	const char *name = t->name ? t->name : "of the settings";

	if (!t->admin)
		init_report(t->init, false, "the database %s, unless it exists",
			    name);
	init_report(t->init, false, "in the database %s the schema humcli",
		    name);
	if (t->role)
		init_report(t->init, false,
			    "the role %s, unless it exists, which may record",
			    t->role);
}

int init_database(struct init *i, const struct settings *s)
{
	struct target t = { .init = i };
	int code;

	t.options = PQconninfoParse(s->database, NULL);
	if (!t.options) {
		/* libpq's message can quote what may be a password. */
		cli_error(
			i->verb,
			"can't parse HUMCLI_WEBHOOK_DATABASE: give key=value "
			"pairs, or a URI postgresql://user@host/database; put "
			"a value with a space between ', and a \\ before each "
			"' or \\ in it");
		return EX_CONFIG;
	}
	t.name = option(&t, "dbname");
	/* In a home the role that records owns the database. */
	t.admin = i->admin ? i->admin : i->home ? s->database : NULL;
	if (!i->home || i->admin)
		t.role = option(&t, "user");
	if (!i->home && !t.role)
		t.role = i->user;
	if (!i->home && !t.name)
		t.name = t.role;
	if (i->dry_run) {
		report_plan(&t);
		code = EX_OK;
	} else if (t.admin) {
		code = set_up(&t);
	} else {
		code = set_up_as_superuser(&t);
	}
	PQconninfoFree(t.options);
	return code;
}
