-- Adds signed bodies that are no events to humcli.quarantine. A repeated body
-- is only counted, so that a sender's retries do not fill the table. Rows are
-- written in the order of the signature; otherwise two calls could deadlock.
CREATE OR REPLACE FUNCTION humcli.quarantine_add(
	p_received_at timestamptz[],
	p_reason text[],
	p_secret_name text[],
	p_signature text[],
	p_body bytea[]
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	written bigint;
BEGIN
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;

	PERFORM humcli.repair_identity('quarantine');
	INSERT INTO humcli.quarantine AS q (received_at, reason, secret_name, signature, body, seen)
	SELECT DISTINCT ON (b.signature)
		b.received_at, b.reason, b.secret_name, b.signature, b.body,
		count(*) OVER (PARTITION BY b.signature)
	FROM unnest(p_received_at, p_reason, p_secret_name, p_signature, p_body)
		WITH ORDINALITY AS b (received_at, reason, secret_name, signature, body, place)
	ORDER BY b.signature, b.place
	ON CONFLICT (signature) DO UPDATE SET seen = q.seen + EXCLUDED.seen;
	GET DIAGNOSTICS written = ROW_COUNT;

	-- A trigger or a rule of the site took a row away without an error.
	IF written < (SELECT count(DISTINCT s.signature) FROM unnest(p_signature) s (signature)) THEN
		RAISE EXCEPTION 'humcli: a table took no row, and reported no error'
			USING ERRCODE = 'triggered_data_change_violation',
				HINT = 'A trigger or a rule on humcli.quarantine returns nothing. Drop it.';
	END IF;
END $$;
