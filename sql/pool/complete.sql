-- An event is done. False: the claim is no longer the caller's, another worker
-- has the event or had it; what was written along with it must not be kept.
CREATE OR REPLACE FUNCTION humcli.complete(name text, id bigint, claim_no bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
BEGIN
	PERFORM humcli.require_subscription(complete.name);
	DELETE FROM humcli.jobs j
	WHERE j.subscription = complete.name AND j.event_id = complete.id
		AND j.claim_no = complete.claim_no AND j.worker IS NOT NULL;
	RETURN FOUND;
END $$;
