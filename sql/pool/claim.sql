-- Claims at most max_rows events for a worker and returns them. The lease says
-- how long the worker may keep a claim. It ends a claim by complete() or
-- fail(), and prolongs it by extend(). When a lease expires, the event goes to
-- another worker.
--
-- Each claim has a number, which complete(), fail() and extend() check. A
-- worker that lost its lease can therefore no longer change the event. Attempts
-- are counted here, so that an event that kills its worker each time is dead in
-- the end.
--
-- Events are claimed in any order, or in the order of each task (see pool()).
-- In the order of each task, one worker at a time chooses, because each must
-- see what the others hold.
CREATE OR REPLACE FUNCTION humcli.claim(
	name text,
	worker text,
	max_rows int DEFAULT 1,
	lease interval DEFAULT '60 s'
)
RETURNS TABLE (
	id bigint,
	claim_no bigint,
	attempt int,
	event text,
	task_id text,
	status text,
	previous_status text,
	occurred_at timestamptz,
	received_at timestamptz,
	recorded_at timestamptz,
	secret_name text,
	payload json,
	signature text
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- see functions/record/record_batch.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
	refill_rows constant int := 500;
	claim_numbers constant regclass := pg_get_serial_sequence('humcli.jobs', 'claim_no')::regclass;
	s humcli.subscriptions;
	present timestamptz := clock_timestamp();
	ready int;
	has_unread boolean;
	candidates bigint[];
	exhausted bigint[];
	claimed bigint[];
BEGIN
	IF claim.worker IS NULL OR max_rows IS NULL OR max_rows < 1 OR lease IS NULL OR lease <= interval '0' THEN
		RAISE EXCEPTION 'humcli: a claim needs a worker, max_rows of at least 1 and a lease longer than 0'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	s := humcli.require_subscription(claim.name);
	IF NOT s.pool THEN
		PERFORM humcli.pool(claim.name);
		s := humcli.require_subscription(claim.name);
	END IF;

	-- Are there enough jobs, and are there unread events? If there are neither,
	-- return without a write.
	ready := (SELECT count(*) FROM (
		SELECT FROM humcli.jobs j
		WHERE j.subscription = s.name AND j.due <= present AND j.attempts < s.max_attempts
		LIMIT max_rows) r);
	has_unread := (s.in_order OR ready < max_rows) AND (
		EXISTS (SELECT FROM humcli.replays r WHERE r.subscription = s.name)
		OR EXISTS (SELECT FROM humcli.unread_events(s.done, s.win, s.win_xid, s.win_id, s.statuses, s.secrets, 1))
		OR (humcli.open_next_window(s)).name IS NOT NULL);
	IF NOT has_unread AND NOT EXISTS (
		SELECT FROM humcli.jobs j WHERE j.subscription = s.name AND j.due <= present)
	THEN
		RETURN;
	END IF;

	IF s.in_order THEN
		s := humcli.require_subscription(claim.name, 'work');
	ELSIF has_unread THEN
		-- One worker enqueues unread events; the others do not wait for it.
		PERFORM FROM humcli.subscriptions u WHERE u.name = s.name FOR NO KEY UPDATE SKIP LOCKED;
		has_unread := FOUND;
		s := humcli.require_subscription(claim.name);
	END IF;
	IF has_unread THEN	-- the rest of a window, then the next window
		IF s.win IS NOT NULL THEN
			s := humcli.enqueue_unread(s, CASE WHEN NOT s.in_order THEN refill_rows END);
		END IF;
		IF s.win IS NULL THEN
			s := humcli.enqueue_unread(s, CASE WHEN NOT s.in_order THEN refill_rows END);
		END IF;
	END IF;

	LOOP
		present := clock_timestamp();
		IF s.in_order THEN
			candidates := humcli.claimable_heads(s.name, present, max_rows);
		ELSE
			SELECT array_agg(d.event_id) INTO candidates
			FROM (
				SELECT j.event_id
				FROM humcli.jobs j
				WHERE j.subscription = s.name AND j.due <= present
				ORDER BY j.due, j.event_id
				LIMIT max_rows
				FOR UPDATE SKIP LOCKED
			) d;
		END IF;
		SELECT array_agg(d.event_id) FILTER (WHERE d.attempts >= s.max_attempts),
			array_agg(d.event_id) FILTER (WHERE d.attempts < s.max_attempts)
		INTO exhausted, claimed
		FROM (
			SELECT j.event_id, j.attempts
			FROM humcli.jobs j
			WHERE j.subscription = s.name AND j.event_id = ANY (candidates) AND j.due <= present
			FOR UPDATE SKIP LOCKED
		) d;

		PERFORM humcli.move_to_dead(s.name, exhausted, NULL);
		RETURN QUERY
		WITH taken AS (
			UPDATE humcli.jobs j
			-- above the job's last number, even if the sequence is behind
			SET claim_no = greatest(nextval(claim_numbers), j.claim_no + 1), attempts = j.attempts + 1, worker = claim.worker, due = present + lease
			WHERE j.subscription = s.name AND j.event_id = ANY (claimed)
			RETURNING j.event_id, j.claim_no, j.attempts
		)
		SELECT e.id, t.claim_no, t.attempts, e.event, e.task_id, e.status, e.previous_status, e.occurred_at,
			e.received_at, e.recorded_at, e.secret_name, e.payload, e.signature
		FROM taken t
		JOIN humcli.events e ON e.id = t.event_id
		ORDER BY e.occurred_at, e.id;
		EXIT WHEN claimed IS NOT NULL OR exhausted IS NULL;
	END LOOP;
END $$;
