-- Keeps an answer of HumCLI's API about one task in humcli.readings. A body that
-- is no JSON is kept as a JSON string.
CREATE OR REPLACE FUNCTION humcli.add_reading(
	p_task_id text,
	p_read_at timestamptz,
	p_http_status int,
	p_body text,	-- NULL if it can't be text of this database
	p_key_name text
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kept json;
BEGIN
	BEGIN
		kept := p_body::json;
	EXCEPTION WHEN data_exception OR statement_too_complex THEN
		kept := to_json(p_body);
	END;
	PERFORM humcli.repair_identity('readings');
	INSERT INTO humcli.readings (task_id, read_at, http_status, body, key_name)
	VALUES (p_task_id, p_read_at, p_http_status, kept, p_key_name);
END $$;
