-- Returns the identity columns, as table.column, whose sequence is behind the
-- table, so that it would assign values a second time. Anyone who may record or
-- read may ask, for humcli-webhook doctor; see repair_identity().
CREATE OR REPLACE FUNCTION humcli.identities_behind()
RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	x record;
	largest bigint;
	behind text[] := '{}';
BEGIN
	FOR x IN
		SELECT c.relname AS table, a.attname AS column,
			pg_get_serial_sequence(c.oid::regclass::text, a.attname)::regclass AS sequence
		FROM pg_class c
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attidentity <> ''
		WHERE c.relnamespace = 'humcli'::regnamespace
		ORDER BY c.relname, a.attname
	LOOP
		EXECUTE format('SELECT max(t.%I) FROM humcli.%I t', x.column, x.table) INTO largest;
		IF largest > coalesce(pg_sequence_last_value(x.sequence), 0) THEN
			behind := behind || format('%s.%s', x.table, x.column);
		END IF;
	END LOOP;
	RETURN behind;
END $$;
