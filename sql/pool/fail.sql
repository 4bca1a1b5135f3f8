-- Ends a claim whose attempt has failed. Returns 'retry' if the event is
-- delivered again, after retry_in or the pool's backoff; 'dead' if this was the
-- last attempt; 'lost' if another worker has claimed the event.
CREATE OR REPLACE FUNCTION humcli.fail(
	name text,
	id bigint,
	claim_no bigint,
	error text,
	retry_in interval DEFAULT NULL
)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
	s humcli.subscriptions;
	tried int;
BEGIN
	s := humcli.require_subscription(fail.name);
	SELECT j.attempts INTO tried
	FROM humcli.jobs j
	WHERE j.subscription = s.name AND j.event_id = fail.id
		AND j.claim_no = fail.claim_no AND j.worker IS NOT NULL
	FOR UPDATE;
	IF NOT FOUND THEN
		RETURN 'lost';
	END IF;
	IF tried >= s.max_attempts THEN
		PERFORM humcli.move_to_dead(s.name, ARRAY[fail.id], left(fail.error, 2000));
		RETURN 'dead';
	END IF;
	-- Jitter of a quarter, so that failed events do not all return at once. In
	-- seconds, because a doubled interval can exceed its range; 100 years at most.
	UPDATE humcli.jobs j
	SET worker = NULL, error = left(fail.error, 2000),
		due = clock_timestamp() + coalesce(retry_in,
			least(3155760000, date_part('epoch', s.longest_backoff),
				date_part('epoch', s.backoff) * power(2, least(tried - 1, 30)))
			* (0.75 + random() / 2) * interval '1 second')
	WHERE j.subscription = s.name AND j.event_id = fail.id;
	RETURN 'retry';
END $$;
