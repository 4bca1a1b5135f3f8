#include "cli/init/init.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "cli/program.h"
#include "postgres/query.h"

#include <fcntl.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SQL_LIMIT = 1 << 20, STATEMENT_MS = 60000 };

/* The database to set up, and by whom. */
struct target {
	struct init *init;
	PQconninfoOption *options; /* of the settings' DATABASE */
	const char *name; /* of the database */
	const char *role; /* the receiver's; NULL: who installs */
	const char *admin; /* conninfo; NULL: the superuser of this machine */
};

static const char *option(const struct target *t, const char *keyword)
{
	for (const PQconninfoOption *o = t->options; o->keyword; o++) {
		if (strcmp(o->keyword, keyword) == 0)
			return o->val && *o->val ? o->val : NULL;
	}
	return NULL;
}

/* What a server says beside its answers: that roles are left out. */
static void say_notice(void *context, const char *message)
{
	const struct init *i = context;
	char text[512];

	pq_one_line(text, sizeof(text), message);
	cli_error(i->verb, "%s", text);
}

static void say_error(const struct target *t, const char *what,
		      const char *message)
{
	char text[512];

	pq_one_line(text, sizeof(text), message);
	cli_error(t->init->verb, "%s: %s", what, text);
}

/* The settings' address, or --admin's; always this database. */
static PGconn *open_database(const struct target *t, const char *name)
{
	const char *keywords[8] = { "connect_timeout", "client_encoding",
				    "fallback_application_name", "dbname" };
	const char *values[8] = { "10", "UTF8", "humcli-webhook init",
				  t->admin };
	size_t n = t->admin ? 4 : 3;
	PGconn *conn;

	if (!t->admin) {
		keywords[n] = "host";
		values[n++] = option(t, "host");
		keywords[n] = "port";
		values[n++] = option(t, "port");
	}
	/* The last of them counts, and only the first is taken apart. */
	keywords[n] = "dbname";
	values[n++] = name;
	keywords[n] = NULL;
	conn = PQconnectdbParams(keywords, values, t->admin != NULL);
	if (PQstatus(conn) == CONNECTION_OK) {
		PQsetNoticeProcessor(conn, say_notice, t->init);
		return conn;
	}
	say_error(t, "can't connect to install the schema",
		  PQerrorMessage(conn));
	PQfinish(conn);
	return NULL;
}

static bool run(const struct target *t, PGconn *conn, const char *what,
		const char *sql)
{
	PGresult *r = pq_script(conn, sql, monotonic_ms() + STATEMENT_MS, -1);
	bool ok = pq_succeeded(r);
	char text[512];

	if (!ok) {
		pq_error(conn, r, text, sizeof(text));
		say_error(t, what, text);
	}
	PQclear(r);
	return ok;
}

/* Whether the query of one name finds a row. */
static bool exists(PGconn *conn, const char *query, const char *name)
{
	const char *values[] = { name };
	PGresult *r = pq_query(conn, query, values, 1,
			       monotonic_ms() + STATEMENT_MS, -1);
	bool found = pq_succeeded(r) && PQntuples(r) == 1;

	PQclear(r);
	return found;
}

/* Runs a statement that has the name, quoted, between before and after. */
static bool run_with_name(const struct target *t, PGconn *conn,
			  const char *what, const char *before,
			  const char *name, const char *after)
{
	char *quoted = PQescapeIdentifier(conn, name, strlen(name));
	char *sql;
	bool ok;

	if (!quoted) {
		say_error(t, what, PQerrorMessage(conn));
		return false;
	}
	sql = xasprintf("%s%s%s", before, quoted, after);
	ok = run(t, conn, what, sql);
	free(sql);
	PQfreemem(quoted);
	return ok;
}

static bool make_database(const struct target *t)
{
	PGconn *conn = open_database(t, "postgres");
	bool ok = true;

	if (!conn)
		return false;
	if (exists(conn, "SELECT 1 FROM pg_database WHERE datname = $1::text",
		   t->name)) {
		init_report(t->init, true, "the database %s", t->name);
	} else {
		init_report(t->init, false, "the database %s", t->name);
		ok = run_with_name(t, conn, "can't make the database",
				   "CREATE DATABASE ", t->name,
				   " ENCODING 'UTF8' TEMPLATE template0");
	}
	PQfinish(conn);
	return ok;
}

static bool install(const struct target *t, PGconn *conn)
{
	char *path = cli_data_path("sql/humcli.sql");
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct buf sql = { 0 };
	bool ok = fd >= 0 && read_all(fd, SQL_LIMIT, &sql);

	init_report(t->init, false, "the schema humcli, or up to date, by %s",
		    path);
	if (!ok)
		cli_error(t->init->verb, "%s: %m", path);
	else
		ok = run(t, conn, "can't install the schema", sql.data);
	if (fd >= 0)
		close(fd);
	buf_free(&sql);
	free(path);
	return ok;
}

/*
 * Returns the hash of a password, which the caller frees; NULL if that fails.
 * It is made here, because the server's log would hold the password. libpq
 * would ask for the method without a deadline.
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
 * Returns the statement that makes the role, which the caller wipes and frees;
 * NULL if its password can't be hashed.
 */
static char *role_statement(const struct target *t, PGconn *conn)
{
	const char *password = option(t, "password");
	char *name = PQescapeIdentifier(conn, t->role, strlen(t->role));
	char *hash = NULL, *literal = NULL, *sql = NULL;

	if (password)
		hash = hash_password(t, conn, password);
	if (hash)
		literal = PQescapeLiteral(conn, hash, strlen(hash));
	if (name && (literal || !password))
		sql = xasprintf("CREATE ROLE %s LOGIN%s%s", name,
				literal ? " PASSWORD " : "",
				literal ? literal : "");
	else
		say_error(t, "can't make the role", PQerrorMessage(conn));
	PQfreemem(literal);
	PQfreemem(hash);
	PQfreemem(name);
	return sql;
}

static bool grant(const struct target *t, PGconn *conn)
{
	static const char find[] =
		"SELECT 1 FROM pg_roles WHERE rolname = $1::text";
	static const char find_grant[] =
		"SELECT 1 FROM pg_auth_members m "
		"JOIN pg_roles g ON g.oid = m.roleid "
		"JOIN pg_roles r ON r.oid = m.member "
		"WHERE g.rolname = 'humcli_writer' AND r.rolname = $1::text";
	char *sql;
	bool ok = true;

	/* Without the roles all works as the one user who installed. */
	if (!t->role || strcmp(t->role, PQuser(conn)) == 0 ||
	    !exists(conn, find, "humcli_writer"))
		return true;
	if (exists(conn, find, t->role)) {
		init_report(t->init, true, "the role %s", t->role);
	} else {
		init_report(t->init, false, "the role %s", t->role);
		sql = role_statement(t, conn);
		ok = sql && run(t, conn, "can't make the role", sql);
		if (sql)
			explicit_bzero(sql, strlen(sql));
		free(sql);
	}
	/* PostgreSQL would say that it is superfluous. */
	if (ok && exists(conn, find_grant, t->role))
		return true;
	return ok && run_with_name(t, conn, "can't grant humcli_writer",
				   "GRANT humcli_writer TO ", t->role, "");
}

static int set_up(void *context)
{
	const struct target *t = context;
	PGconn *conn = NULL;
	bool ok = t->admin || make_database(t);

	if (ok)
		conn = open_database(t, t->name);
	ok = conn && install(t, conn) && grant(t, conn);
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
		  "give --admin CONNINFO of a role that may");
	return EX_NOUSER;
}

static void report_plan(const struct target *t)
{
	const char *name = t->name ? t->name : "of the settings";

	if (!t->admin)
		init_report(t->init, false,
			    "the database %s, unless it is there", name);
	init_report(t->init, false, "in the database %s the schema humcli",
		    name);
	if (t->role)
		init_report(t->init, false,
			    "the role %s, unless it is there, which may record",
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
			"HUMCLI_WEBHOOK_DATABASE can't be parsed: it is "
			"key=value pairs, or a URI postgresql://user@host/"
			"database; a value with a space stands between ', and "
			"a ' or \\ in it has a \\ before it");
		return EX_CONFIG;
	}
	t.name = option(&t, "dbname");
	/* In a home, who records is who owns the database. */
	t.admin = i->admin ? i->admin : i->home ? s->database : NULL;
	if (!i->home || i->admin)
		t.role = option(&t, "user");
	if (!i->home && !t.role)
		t.role = "humcli-webhook";
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
