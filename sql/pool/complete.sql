-- Completes a claimed event and returns true. Returns false if the claim is
-- lost, because another worker has claimed the event since. The caller must
-- then roll back the work that belongs to the event.
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
