/*
 * The settings that each of our transactions makes, so that those of a role or
 * database change nothing. They are local to the transaction, because behind a
 * pooler a session is not ours.
 */
#ifndef POSTGRES_LIMITS_H
#define POSTGRES_LIMITS_H

/*
 * A SELECT that sets the time limits of the transaction: texts such as "30s",
 * and "0" for none. Also makes an error end the statement alone, not the
 * session, and allows views. Older servers do not know all names of the list.
 * The result has one row of five columns.
 */
#define SQL_SET_LIMITS(statement, lock, idle)                                 \
	"SELECT (SELECT pg_catalog.count("                                    \
	"pg_catalog.set_config(name, value, true)) FROM (VALUES"              \
	" ('transaction_timeout', '0'),"                                      \
	" ('restrict_nonsystem_relation_kind', '')) AS v (name, value)"       \
	" WHERE pg_catalog.current_setting(name, true) IS NOT NULL),"         \
	" pg_catalog.set_config('exit_on_error', 'off', true),"               \
	" pg_catalog.set_config('statement_timeout', '" statement "', true)," \
	" pg_catalog.set_config('lock_timeout', '" lock "', true),"           \
	" pg_catalog.set_config('idle_in_transaction_session_timeout',"       \
	" '" idle "', true)"

#endif
