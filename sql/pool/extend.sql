-- Sets the end of a claim's lease to now plus "lease" and returns true. Returns
-- false if the claim is lost. In a pool with in_order an expired lease is lost
-- too, because another event of the task may be claimed by now.
CREATE OR REPLACE FUNCTION humcli.extend(name text, id bigint, claim_no bigint, lease interval DEFAULT '60 s')
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
	s humcli.subscriptions;
BEGIN
	IF lease IS NULL OR lease <= interval '0' THEN
		RAISE EXCEPTION 'humcli: the lease must be longer than 0' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	s := humcli.require_subscription(extend.name);
	IF s.in_order THEN
		s := humcli.require_subscription(extend.name, 'work');
	END IF;
	UPDATE humcli.jobs j
	SET due = clock_timestamp() + lease
	WHERE j.subscription = s.name AND j.event_id = extend.id
		AND j.claim_no = extend.claim_no AND j.worker IS NOT NULL
		AND (NOT s.in_order OR j.due > clock_timestamp());
	RETURN FOUND;
END $$;
