/*
 * The time limits that each of our transactions asks for, so that those of a
 * role or database change nothing. Behind a pooler a session is not ours, hence
 * they are local to the transaction.
 */
#ifndef POSTGRES_LIMITS_H
#define POSTGRES_LIMITS_H

/*
 * A SELECT that sets the limits of the transaction: texts such as "30s", and
 * "0" for none. Servers before 17 have no transaction_timeout. The result has
 * one row of four columns.
 */
#define SQL_SET_LIMITS(statement, lock, idle)                                 \
	"SELECT CASE WHEN pg_catalog.current_setting('transaction_timeout',"  \
	" true) IS NOT NULL THEN"                                             \
	" pg_catalog.set_config('transaction_timeout', '0', true) END,"       \
	" pg_catalog.set_config('statement_timeout', '" statement "', true)," \
	" pg_catalog.set_config('lock_timeout', '" lock "', true),"           \
	" pg_catalog.set_config('idle_in_transaction_session_timeout',"       \
	" '" idle "', true)"

#endif
