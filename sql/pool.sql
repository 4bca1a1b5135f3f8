-- Installs the functions of the worker pool, on request, after install.sql.
-- Safe to run again. Run it again whenever you run install.sql again.
--
--	psql -X -v ON_ERROR_STOP=1 -f pool.sql
--
-- humcli-pool.sql is this file with its parts put in, for users without psql.

\set ON_ERROR_STOP on

BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL statement_timeout = 0;
SET LOCAL lock_timeout = '10s';
SET LOCAL client_min_messages = notice;

DO $$
BEGIN
	PERFORM pg_advisory_xact_lock(1752526179);	-- as in schema.sql
	IF to_regclass('humcli.jobs') IS NULL THEN
		RAISE EXCEPTION 'humcli: the schema humcli does not exist'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run install.sql first.';
	END IF;
END $$;

\ir roles.sql
\ir pool/pool.sql
\ir pool/enqueue_unread.sql
\ir pool/move_to_dead.sql
\ir pool/claimable_heads.sql
\ir pool/claim.sql
\ir pool/complete.sql
\ir pool/extend.sql
\ir pool/fail.sql
\ir pool/redrive.sql

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA humcli FROM PUBLIC;

DO $$
BEGIN
	IF (SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'humcli')
		IS DISTINCT FROM to_regrole('humcli_owner')::oid
	THEN
		RETURN;		-- installed without the roles
	END IF;

	GRANT EXECUTE ON FUNCTION
		humcli.pool(text, boolean, int, interval, interval),
		humcli.claim(text, text, int, interval),
		humcli.complete(text, bigint, bigint),
		humcli.extend(text, bigint, bigint, interval),
		humcli.fail(text, bigint, bigint, text, interval),
		humcli.redrive(text, bigint, int)
		TO humcli_consumer;
END $$;

COMMIT;
