-- A payload as jsonb; NULL for what jsonb cannot hold, such as \u0000 or a
-- lone surrogate, where payload ->> 'x' would fail for the whole query.
-- (Not PARALLEL SAFE: the exception block is a subtransaction.)
CREATE OR REPLACE FUNCTION humcli.payload(p_payload json)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN p_payload::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
	RETURN NULL;
END $$;
