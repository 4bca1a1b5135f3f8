-- Checks the requirements and creates the schema.

DO $$
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

	IF to_regnamespace('humcli') IS NULL THEN
		CREATE SCHEMA humcli;
	END IF;
END $$;
