-- Checks the requirements and creates the schema.

DO $$
DECLARE
	owner oid;
BEGIN
	-- If two installers run at once, the second waits and finds the work done.
	PERFORM pg_advisory_xact_lock(1752526179);

	-- Signed text is stored and compared byte by byte. With another encoding
	-- the server would convert the text, or refuse an event with an emoji.
	IF getdatabaseencoding() = 'SQL_ASCII' THEN
		RAISE WARNING 'humcli: the encoding of database "%" is SQL_ASCII; UTF8 is better',
			current_database();
	ELSIF getdatabaseencoding() <> 'UTF8' THEN
		RAISE EXCEPTION 'humcli: the encoding of database "%" is %, but UTF8 is needed',
			current_database(), getdatabaseencoding()
			USING ERRCODE = 'feature_not_supported',
			HINT = 'CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0';
	END IF;

	-- A schema of another role may hold that role's triggers and functions. They
	-- would run with our rights. A superuser is a member of every role, so membership
	-- counts for others only.
	SELECT n.nspowner INTO owner FROM pg_namespace n WHERE n.nspname = 'humcli';
	IF NOT FOUND THEN
		CREATE SCHEMA humcli;
	ELSIF owner <> current_user::regrole AND owner <> coalesce(to_regrole('humcli_owner')::oid, 0)
		AND ((SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user)
			OR NOT pg_has_role(owner, 'USAGE'))
	THEN
		RAISE EXCEPTION 'humcli: schema "humcli" belongs to role "%", not to "%"',
			pg_get_userbyid(owner), current_user
			USING ERRCODE = 'insufficient_privilege',
			HINT = format('Install as %1$I. Or, if you trust all that is in the schema, run first: '
				'ALTER SCHEMA humcli OWNER TO CURRENT_USER;', pg_get_userbyid(owner));
	END IF;
END $$;
