-- Returns a payload as jsonb; NULL if jsonb can't hold it. A payload with \u0000 or
-- a lone surrogate is such a one: payload ->> 'x' would fail for the whole query.
-- The function is not PARALLEL SAFE, because its exception block is a
-- subtransaction.
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
