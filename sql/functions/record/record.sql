-- The recording rule.
--
-- Records a batch of signed deliveries and returns a row an input: its place
-- in the arrays, the outcome, and the id of the event:
--
--	recorded	a new event
--	duplicate	the same task, event type, status and time were here before,
--			or the task is retired, and it is not after what is left
--			of it; kept in humcli.late
--	repeat		the same visit delivered again with another time; kept
--			in humcli.repeats, and answered like a duplicate
--	busy		another transaction holds the task: try once more
--
-- and a row a promotion (below), with the place of the input that caused it.
--
-- HumCLI says: drop what has the same task_id and status, against repeated
-- delivery. To the letter that drops the second ESTIMATE_PENDING of a task
-- whose first estimate was rejected, and its owner waits for ever. So the
-- rule holds per visit to a status. Put all distinct deliveries of one task
-- and event type in order, by time, then by the bytes of the status: a visit
-- is a stretch of one (status, previous_status) without a step longer than
-- p_window. Each visit has a row in humcli.events, the other deliveries of
-- it are in humcli.repeats.
--
-- That holds in whatever order they arrive:
--  - Beside a neighbour of the same visit, a delivery is a repeat.
--  - Else it is an event, and if its neighbours were of one visit, it has
--    split that in two. The half that is left without an event gets one, by
--    promotion of its earliest repeat: a transition that was taken for a
--    repeat is news after all.
-- Farther apart than the window, the same status again is an event even with
-- nothing in between: what was in between may have been lost on the way.
CREATE OR REPLACE FUNCTION humcli.record(
	p_event text[],
	p_task_id text[],
	p_status text[],
	p_previous_status text[],
	p_occurred_at timestamptz[],
	p_received_at timestamptz[],
	p_secret_name text[],
	p_signature text[],
	p_payload json[],
	p_window interval,
	p_notify boolean DEFAULT false
)
RETURNS TABLE (
	place int,
	outcome text,
	id bigint,
	task_id text,
	status text,
	previous_status text
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Plans are kept for the life of the session, also one made while the tables
-- were empty and reading them whole was cheapest: let it be by index always.
-- And none is worth compiling: it would be compiled anew each time.
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
	busy text[];
	repeated_tasks text[];	-- of what more than one is here
	appended_ids bigint[];	-- by place: the id, where all else of the task is earlier
	x record;
	before record;
	after record;
	retired humcli.retired;
	same_visit_before boolean;
	same_visit_after boolean;
	in_repeats boolean;
	new_ids bigint[] := '{}';
BEGIN
	IF NOT cardinality(p_event) = ALL (ARRAY[cardinality(p_task_id), cardinality(p_status),
		cardinality(p_previous_status), cardinality(p_occurred_at), cardinality(p_received_at),
		cardinality(p_secret_name), cardinality(p_signature), cardinality(p_payload)])
	THEN
		RAISE EXCEPTION 'humcli: the arrays are not of one length' USING ERRCODE = 'array_subscript_error';
	END IF;
	IF p_window IS NULL OR p_window < interval '0' THEN
		RAISE EXCEPTION 'humcli: the window is % but cannot be', coalesce(p_window::text, 'NULL')
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	-- With one snapshot for the whole transaction, what another one recorded
	-- while we waited for its lock would stay unseen.
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE EXCEPTION 'humcli: recording needs READ COMMITTED, not %', current_setting('transaction_isolation')
			USING ERRCODE = 'active_sql_transaction';
	END IF;
	-- Recorded means durable, whatever the role or the database has set.
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;

	-- One task, one writer, until the commit. A statement of its own, so that
	-- those below see what others have recorded up to here.
	busy := humcli.lock_tasks(p_task_id);
	repeated_tasks := ARRAY(SELECT t.id FROM unnest(p_task_id) AS t (id) GROUP BY t.id HAVING count(*) > 1);

	-- What comes after all else of its task, and begins another visit than
	-- the last, is an event; most of a full batch are such: all those at once,
	-- at a third of the cost. Where the task has repeats, or something has
	-- been retired of it, the way below decides. (As scalar subqueries the
	-- look-ups cannot become joins, which might read the tables whole.)
	WITH inserted AS (
		INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
			received_at, first_of_status, secret_name, signature, payload)
		SELECT i.event, i.task_id, i.status, i.previous_status, i.occurred_at,
			i.received_at,
			(SELECT f.id FROM humcli.events f
				WHERE f.task_id = i.task_id AND f.status = i.status LIMIT 1) IS NULL,
			i.secret_name, i.signature, i.payload
		FROM unnest(p_event, p_task_id, p_status, p_previous_status, p_occurred_at,
			p_received_at, p_secret_name, p_signature, p_payload)
			AS i (event, task_id, status, previous_status, occurred_at,
			received_at, secret_name, signature, payload)
		WHERE i.task_id <> ALL (repeated_tasks) AND i.task_id <> ALL (busy)
			AND coalesce((SELECT v.occurred_at < i.occurred_at AND (v.status <> i.status
					OR v.previous_status IS DISTINCT FROM i.previous_status
					OR i.occurred_at - v.occurred_at > p_window)
				FROM humcli.events v WHERE v.task_id = i.task_id AND v.event = i.event
				ORDER BY v.occurred_at DESC, v.status DESC LIMIT 1), true)
			AND (SELECT r.id FROM humcli.repeats r WHERE r.task_id = i.task_id LIMIT 1) IS NULL
			AND (SELECT t.event_id FROM humcli.retired t WHERE t.task_id = i.task_id LIMIT 1) IS NULL
		ON CONFLICT DO NOTHING
		RETURNING e.id, e.task_id
	)
	SELECT array_agg(n.id ORDER BY i.place) INTO appended_ids
	FROM unnest(p_task_id) WITH ORDINALITY AS i (task_id, place)
	LEFT JOIN inserted n ON n.task_id = i.task_id;

	-- If all of them were, as under load, that is it.
	IF array_position(appended_ids, NULL) IS NULL AND p_event <> '{}' THEN
		IF p_notify THEN
			PERFORM humcli.notify(appended_ids);
		END IF;
		RETURN QUERY
		SELECT f.place::int, 'recorded', f.id, NULL, NULL, NULL
		FROM unnest(appended_ids) WITH ORDINALITY AS f (id, place)
		ORDER BY f.place;
		RETURN;
	END IF;

	FOR x IN
		SELECT i.*
		FROM unnest(p_event, p_task_id, p_status, p_previous_status, p_occurred_at,
			p_received_at, p_secret_name, p_signature, p_payload) WITH ORDINALITY
			AS i (event, task_id, status, previous_status, occurred_at,
			received_at, secret_name, signature, payload, place)
		ORDER BY i.place
	LOOP
		place := x.place;
		outcome := 'busy';
		id := NULL;
		task_id := NULL;
		status := NULL;
		previous_status := NULL;

		IF x.task_id = ANY (busy) THEN
			RETURN NEXT;
			CONTINUE;
		END IF;
		IF appended_ids[x.place] IS NOT NULL THEN
			outcome := 'recorded';
			id := appended_ids[x.place];
			new_ids := new_ids || id;
			RETURN NEXT;
			CONTINUE;
		END IF;

		-- From before what is left of a retired task? Its history is gone, so
		-- that nobody can tell; it was most likely in there.
		SELECT t.* INTO retired FROM humcli.retired t WHERE t.task_id = x.task_id;
		IF (x.occurred_at, x.status COLLATE "C") <= (retired.occurred_at, retired.status) THEN
			INSERT INTO humcli.late (event, task_id, status, previous_status, occurred_at,
				received_at, secret_name, signature, payload)
			VALUES (x.event, x.task_id, x.status, x.previous_status, x.occurred_at,
				x.received_at, x.secret_name, x.signature, x.payload)
			ON CONFLICT DO NOTHING;
			outcome := 'duplicate';
			RETURN NEXT;
			CONTINUE;
		END IF;

		-- The same again?
		SELECT e.id INTO id FROM humcli.events e
		WHERE e.task_id = x.task_id AND e.event = x.event
			AND e.occurred_at = x.occurred_at AND e.status = x.status;
		IF FOUND THEN
			outcome := 'duplicate';
			RETURN NEXT;
			CONTINUE;
		END IF;
		SELECT r.previous_status INTO before FROM humcli.repeats r
		WHERE r.task_id = x.task_id AND r.event = x.event
			AND r.occurred_at = x.occurred_at AND r.status = x.status;
		in_repeats := FOUND;
		IF in_repeats THEN
			x.previous_status := before.previous_status;
		END IF;

		-- Beside a neighbour of the same visit?
		SELECT * INTO before FROM humcli.history_neighbor(x.task_id, x.event, x.occurred_at, x.status, false, p_window);
		SELECT * INTO after FROM humcli.history_neighbor(x.task_id, x.event, x.occurred_at, x.status, true, p_window);
		same_visit_before := before.status = x.status
			AND before.previous_status IS NOT DISTINCT FROM x.previous_status
			AND x.occurred_at - before.occurred_at <= p_window;
		same_visit_after := after.status = x.status
			AND after.previous_status IS NOT DISTINCT FROM x.previous_status
			AND after.occurred_at - x.occurred_at <= p_window;
		IF in_repeats OR same_visit_before OR same_visit_after THEN
			outcome := CASE WHEN in_repeats THEN 'duplicate' ELSE 'repeat' END;
			id := coalesce(
				CASE WHEN same_visit_before THEN before.event_id END,
				CASE WHEN same_visit_after THEN after.event_id END);
			IF NOT in_repeats THEN
				INSERT INTO humcli.repeats (event, task_id, status, previous_status, occurred_at,
					received_at, secret_name, signature, payload)
				VALUES (x.event, x.task_id, x.status, x.previous_status, x.occurred_at,
					x.received_at, x.secret_name, x.signature, x.payload)
				ON CONFLICT DO NOTHING;
			END IF;
			RETURN NEXT;
			CONTINUE;
		END IF;

		-- An event. The lock keeps others out, unless somebody writes by hand:
		-- then the constraint does.
		INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
			received_at, first_of_status, secret_name, signature, payload)
		VALUES (x.event, x.task_id, x.status, x.previous_status, x.occurred_at, x.received_at,
			NOT EXISTS (SELECT FROM humcli.events f WHERE f.task_id = x.task_id AND f.status = x.status)
				AND x.status <> ALL (coalesce(retired.statuses, '{}')),
			x.secret_name, x.signature, x.payload)
		ON CONFLICT DO NOTHING
		RETURNING e.id INTO id;
		IF NOT FOUND THEN
			outcome := 'duplicate';
			SELECT e.id INTO id FROM humcli.events e
			WHERE e.task_id = x.task_id AND e.event = x.event
				AND e.occurred_at = x.occurred_at AND e.status = x.status;
			RETURN NEXT;
			CONTINUE;
		END IF;
		outcome := 'recorded';
		new_ids := new_ids || id;
		RETURN NEXT;

		-- Has it split a visit, and left a half without an event? That half
		-- names its earliest repeat; a whole visit has an event, and names none.
		CONTINUE WHEN coalesce(before.repeat_id, after.repeat_id) IS NULL;
		-- The id and the transaction of the promoted row are new: readers find it.
		WITH promoted AS (
			DELETE FROM humcli.repeats r
			WHERE r.id = coalesce(before.repeat_id, after.repeat_id)
			RETURNING r.*
		)
		INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
			received_at, first_of_status, secret_name, signature, payload)
		SELECT p.event, p.task_id, p.status, p.previous_status, p.occurred_at,
			p.received_at, false, p.secret_name, p.signature, p.payload
		FROM promoted p
		ON CONFLICT DO NOTHING
		RETURNING e.id, e.task_id, e.status, e.previous_status
		INTO id, task_id, status, previous_status;
		CONTINUE WHEN NOT FOUND;
		outcome := 'promoted';
		new_ids := new_ids || id;
		RETURN NEXT;
	END LOOP;

	-- A commit that writes nothing waits neither for the disk nor for a
	-- synchronous standby. But a duplicate is as safe as the first delivery
	-- is by then: write, so that this commit waits for all that is before it.
	IF new_ids = '{}' THEN
		PERFORM pg_logical_emit_message(true, 'humcli', '');
	END IF;

	-- Where a process brings a single event, one transaction is enough.
	IF p_notify AND new_ids <> '{}' THEN
		PERFORM humcli.notify(new_ids);
	END IF;
END $$;
