-- The recording rule. Records a batch of signed deliveries.
--
-- Returns a row an input, with its place in the arrays, the outcome, and the id
-- of the visit's event:
--
--	recorded	a new event
--	duplicate	the same task, event type, status and time were recorded
--			before; or the task is retired and the delivery is not
--			later than its retired row, so it is in humcli.late
--	repeat		the same visit delivered again with another time; it is
--			in humcli.repeats, and answered like a duplicate
--	busy		another transaction holds the task's lock: try again
--
-- Also returns two kinds of rows with the place of the input that caused them:
--
--	promoted	a repeat became an event, see below
--	gap		a new gap; id is the event behind it
--
-- The column notification has the text for notify(): of a new event for the channel
-- humcli_events, of a gap for humcli_gaps.
--
-- HumCLI's documentation says: drop a delivery that has the same task_id and
-- status as an earlier one. Taken literally, that rule drops the second
-- ESTIMATE_PENDING of a task whose first estimate was rejected, and the agent
-- waits forever. So the rule applies per visit to a status. Sort all distinct
-- deliveries of one task and event type by time, then by the bytes of the
-- status. A visit is a stretch of one (status, previous_status) without a step
-- longer than p_window. Each visit has a row in humcli.events; its other
-- deliveries are in humcli.repeats.
--
-- This holds in any order of arrival. A delivery next to a neighbor of the same
-- visit is a repeat. Any other delivery is an event. If the two neighbors of an
-- event belong to one visit, the event has split that visit. A half without an
-- event then gets one by the promotion of its earliest repeat.
--
-- Farther apart than the window, the same status again is an event even if
-- nothing is recorded in between, because the transition in between may have
-- been lost.
CREATE OR REPLACE FUNCTION humcli.record_batch(
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
	previous_status text,
	notification text
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Plans are cached for the life of the session. Without these settings a plan
-- made while the tables were small would read them whole when they are large, and
-- a plan with a high cost would be compiled at each call.
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
-- ON CONFLICT names columns; some of them are output columns of this function, too.
#variable_conflict use_column
DECLARE
	class constant int := 1752526179;	-- as in lock_tasks()
	busy text[] := '{}';
	other_tasks text[] := '{}';	-- busy, with several deliveries in this batch, or recorded
	is_behind boolean;	-- the identity sequence
	has_several boolean;
	has_missed boolean;
	is_plain boolean;	-- no text needs an escape in JSON
	appended_tasks text[];	-- recorded by the fast way
	appended_ids bigint[];
	appended_texts text[];	-- notifications
	some_tasks text[];	-- recorded by one pass of the fast way
	some_ids bigint[];
	some_texts text[];
	gap_tasks text[];	-- recorded by the fast way, perhaps behind a gap
	x record;
	before record;
	after record;
	half humcli.repeats;
	retired humcli.retired;
	lost_row boolean := false;
	same_visit_before boolean;
	same_visit_after boolean;
	in_repeats boolean;
	new_ids bigint[] := '{}';	-- recorded by the slow way, or perhaps behind a gap
	new_places int[] := '{}';
	texts text[] := '{}';
	gaps text[] := '{}';
	is_first boolean;
	appended int;
BEGIN
	IF NOT cardinality(p_event) = ALL (ARRAY[cardinality(p_task_id), cardinality(p_status),
		cardinality(p_previous_status), cardinality(p_occurred_at), cardinality(p_received_at),
		cardinality(p_secret_name), cardinality(p_signature), cardinality(p_payload)])
	THEN
		RAISE EXCEPTION 'humcli: the arrays differ in length' USING ERRCODE = 'array_subscript_error';
	END IF;
	IF p_window IS NULL OR p_window < interval '0' THEN
		RAISE EXCEPTION 'humcli: the window is % but must be at least 0', coalesce(p_window::text, 'NULL')
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	-- Under other levels the whole transaction has one snapshot. The rule would
	-- not see events that were recorded while it waited for a lock.
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE EXCEPTION 'humcli: recording needs READ COMMITTED, not %', current_setting('transaction_isolation')
			USING ERRCODE = 'active_sql_transaction',
			HINT = 'Begin the transaction with BEGIN ISOLATION LEVEL READ COMMITTED.';
	END IF;
	-- "recorded" promises a durable commit, whatever the role or the database sets.
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;

	-- An empty previous_status counts as none.
	p_previous_status := array_replace(p_previous_status, '', NULL);

	-- Lock the tasks until the commit, all that are free up to the first that is
	-- not, in the order of lock_tasks(). A statement of its own, so that the
	-- statements below see every event recorded up to here. Also compare the
	-- identity sequence, because a sequence behind its table would assign the ids of
	-- other events. That costs less than an exception block.
	SELECT (SELECT max(e.id) FROM humcli.events e) > coalesce(pg_sequence_last_value(coalesce(
			to_regclass('humcli.events_id_seq'), pg_get_serial_sequence('humcli.events', 'id')::regclass)), 0),
		cardinality(k.keys) < cardinality(p_task_id),
		EXISTS (SELECT FROM unnest(k.keys) AS l (key) WHERE NOT pg_try_advisory_xact_lock(class, l.key)),
		octet_length(to_json(k.names)::text) = octet_length(k.names) + 2	-- the quotes
	INTO is_behind, has_several, has_missed, is_plain
	FROM (SELECT ARRAY(SELECT DISTINCT hashtext(t.id) FROM unnest(p_task_id) AS t (id) ORDER BY 1) AS keys,
		array_to_string(p_task_id || p_status || p_previous_status || p_secret_name, '') AS names
		OFFSET 0) k;
	IF has_missed THEN
		busy := humcli.lock_tasks(p_task_id);
		other_tasks := busy;
	END IF;
	IF has_several THEN
		other_tasks := busy || ARRAY(
			SELECT t.id FROM unnest(p_task_id) AS t (id) GROUP BY t.id HAVING count(*) > 1);
	END IF;
	IF is_behind THEN
		PERFORM humcli.repair_identity('events');
	END IF;

	-- The fast way: one statement records each usual event. It is later than every
	-- other event of its task, begins another visit than the last, and follows the
	-- last status. In most batches all deliveries are such, and this costs a third
	-- of the slow way. One look at the history decides. Tasks with more than 16
	-- events, other event types, repeats or a retired row go the slow way. The
	-- second pass records the events that may open a gap. unnest() is in the list of
	-- columns, because in FROM it would copy each array to a tuplestore first.
	FOR pass IN 1..2 LOOP
		WITH inserted AS (
			INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
				received_at, first_of_status, secret_name, signature, payload)
			SELECT i.event, i.task_id, i.status, i.previous_status, i.occurred_at,
				i.received_at, h.same_status IS NULL, i.secret_name, i.signature, i.payload
			FROM (SELECT unnest(p_event) AS event, unnest(p_task_id) AS task_id, unnest(p_status) AS status,
					unnest(p_previous_status) AS previous_status, unnest(p_occurred_at) AS occurred_at,
					unnest(p_received_at) AS received_at, unnest(p_secret_name) AS secret_name,
					unnest(p_signature) AS signature, unnest(p_payload) AS payload
			) i
			CROSS JOIN LATERAL (
				SELECT count(*) AS events,
					max(CASE WHEN f.event = i.event THEN f.occurred_at ELSE 'infinity' END) AS last,
					max(f.occurred_at) FILTER (WHERE f.status = i.status) AS same_status,
					max(f.occurred_at) FILTER (WHERE f.status IS DISTINCT FROM i.previous_status) AS not_previous
				FROM (SELECT v.event, v.status, v.occurred_at FROM humcli.events v
					WHERE v.task_id = i.task_id LIMIT 17) f
			) h
			WHERE i.task_id <> ALL (other_tasks)
				AND CASE WHEN h.events = 0
					THEN pass = 2 OR coalesce(i.previous_status, 'PENDING') = 'PENDING'
					ELSE h.events < 17 AND i.occurred_at > h.last
						AND (h.same_status < h.last OR i.occurred_at - h.same_status > p_window) IS NOT FALSE
						AND (pass = 2 OR i.previous_status IS NULL OR (h.not_previous < h.last) IS NOT FALSE)
						AND NOT EXISTS (SELECT FROM humcli.repeats r WHERE r.task_id = i.task_id)
					END
				AND NOT EXISTS (SELECT FROM humcli.retired t WHERE t.task_id = i.task_id)
			ON CONFLICT (task_id, event, occurred_at, status) DO NOTHING
			RETURNING e.id, e.task_id, CASE WHEN is_plain THEN '{"id":"' || e.id || '","task_id":"' || e.task_id
					|| '","status":"' || e.status
					|| coalesce('","previous_status":"' || e.previous_status || '"', '","previous_status":null')
					|| CASE WHEN e.first_of_status THEN ',"first":true,"secret":"' ELSE ',"first":false,"secret":"' END
					|| e.secret_name || '"}'
				ELSE humcli.notification_payload(e.id, e.task_id, e.status, e.previous_status,
					e.first_of_status, e.secret_name)
				END AS notification
		)
		SELECT array_agg(n.task_id), array_agg(n.id), array_agg(
			CASE WHEN octet_length(n.notification) > 1000 THEN format('{"id":"%s"}', n.id) ELSE n.notification END)
		INTO some_tasks, some_ids, some_texts
		FROM inserted n;

		-- Usually the first pass records every delivery, in this order.
		IF pass = 1 AND some_tasks = p_task_id THEN
			IF p_notify THEN
				PERFORM humcli.notify(some_texts, NULL);
			END IF;
			RETURN QUERY
			SELECT generate_series(1, cardinality(some_ids)), 'recorded', unnest(some_ids),
				NULL, NULL, NULL, unnest(some_texts);
			RETURN;
		END IF;
		other_tasks := other_tasks || some_tasks;
		appended_tasks := appended_tasks || some_tasks;
		appended_ids := appended_ids || some_ids;
		appended_texts := appended_texts || some_texts;
		IF pass = 2 THEN
			gap_tasks := some_tasks;
		END IF;
	END LOOP;

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
		notification := NULL;

		IF x.task_id = ANY (busy) THEN
			RETURN NEXT;
			CONTINUE;
		END IF;
		appended := array_position(appended_tasks, x.task_id);
		IF appended IS NOT NULL THEN
			outcome := 'recorded';
			id := appended_ids[appended];
			notification := appended_texts[appended];
			texts := texts || notification;
			IF x.task_id = ANY (gap_tasks) THEN
				new_ids := new_ids || id;
				new_places := new_places || place;
			END IF;
			RETURN NEXT;
			CONTINUE;
		END IF;

		-- Not later than the retired row of its task? The history is gone, and
		-- most likely the delivery was in it.
		SELECT t.* INTO retired FROM humcli.retired t WHERE t.task_id = x.task_id;
		IF (x.occurred_at, x.status COLLATE "C") <= (retired.occurred_at, retired.status) THEN
			PERFORM humcli.repair_identity('late');
			INSERT INTO humcli.late (event, task_id, status, previous_status, occurred_at,
				received_at, secret_name, signature, payload)
			VALUES (x.event, x.task_id, x.status, x.previous_status, x.occurred_at,
				x.received_at, x.secret_name, x.signature, x.payload)
			ON CONFLICT (task_id, event, occurred_at, status) DO NOTHING;
			IF NOT FOUND THEN
				PERFORM FROM humcli.late l
				WHERE l.task_id = x.task_id AND l.event = x.event
					AND l.occurred_at = x.occurred_at AND l.status = x.status;
			END IF;
			lost_row := NOT FOUND;
			outcome := 'duplicate';
			EXIT WHEN lost_row;
			RETURN NEXT;
			CONTINUE;
		END IF;

		-- Recorded before, as an event or as a repeat?
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

		-- Next to a neighbor of the same visit?
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
				PERFORM humcli.repair_identity('repeats');
				INSERT INTO humcli.repeats (event, task_id, status, previous_status, occurred_at,
					received_at, secret_name, signature, payload, event_id)
				VALUES (x.event, x.task_id, x.status, x.previous_status, x.occurred_at,
					x.received_at, x.secret_name, x.signature, x.payload, id)
				ON CONFLICT (task_id, event, occurred_at, status) DO NOTHING;
				IF NOT FOUND THEN
					PERFORM FROM humcli.repeats r
					WHERE r.task_id = x.task_id AND r.event = x.event
						AND r.occurred_at = x.occurred_at AND r.status = x.status;
				END IF;
				lost_row := NOT FOUND;
				EXIT WHEN lost_row;
			END IF;
			RETURN NEXT;
			CONTINUE;
		END IF;

		-- An event. The lock excludes other writers; the constraint also
		-- excludes an INSERT that does not take the lock.
		INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
			received_at, first_of_status, secret_name, signature, payload)
		VALUES (x.event, x.task_id, x.status, x.previous_status, x.occurred_at, x.received_at,
			NOT EXISTS (SELECT FROM humcli.events f WHERE f.task_id = x.task_id AND f.status = x.status)
				AND x.status <> ALL (coalesce(retired.statuses, '{}')),
			x.secret_name, x.signature, x.payload)
		ON CONFLICT (task_id, event, occurred_at, status) DO NOTHING
		RETURNING e.id, e.first_of_status INTO id, is_first;
		IF NOT FOUND THEN
			outcome := 'duplicate';
			SELECT e.id INTO id FROM humcli.events e
			WHERE e.task_id = x.task_id AND e.event = x.event
				AND e.occurred_at = x.occurred_at AND e.status = x.status;
			lost_row := NOT FOUND;
			EXIT WHEN lost_row;
			RETURN NEXT;
			CONTINUE;
		END IF;
		outcome := 'recorded';
		notification := humcli.notification_payload(id, x.task_id, x.status, x.previous_status,
			is_first, x.secret_name);
		IF octet_length(notification) > 1000 THEN
			notification := format('{"id":"%s"}', id);
		END IF;
		new_ids := new_ids || id;
		new_places := new_places || place;
		texts := texts || notification;
		RETURN NEXT;

		-- Has the event split a visit and left a half without an event?
		CONTINUE WHEN coalesce(before.repeat_id, after.repeat_id) IS NULL;
		SELECT r.* INTO half FROM humcli.repeats r
		WHERE r.id = coalesce(
			humcli.eventless_half(x.task_id, x.event, x.occurred_at, x.status, false, p_window),
			humcli.eventless_half(x.task_id, x.event, x.occurred_at, x.status, true, p_window));
		CONTINUE WHEN NOT FOUND;
		-- The promoted row has a new id and transaction id, so readers find it.
		WITH promoted AS (
			DELETE FROM humcli.repeats r
			WHERE r.id = half.id
			RETURNING r.*
		)
		INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
			received_at, first_of_status, secret_name, signature, payload)
		SELECT p.event, p.task_id, p.status, p.previous_status, p.occurred_at,
			p.received_at, false, p.secret_name, p.signature, p.payload
		FROM promoted p
		ON CONFLICT (task_id, event, occurred_at, status) DO NOTHING
		RETURNING e.id, e.task_id, e.status, e.previous_status,
			humcli.notification_payload(e.id, e.task_id, e.status, e.previous_status,
				false, e.secret_name)
		INTO id, task_id, status, previous_status, notification;
		IF NOT FOUND THEN
			PERFORM FROM humcli.events e
			WHERE e.task_id = half.task_id AND e.event = half.event
				AND e.occurred_at = half.occurred_at AND e.status = half.status;
			lost_row := NOT FOUND;
			EXIT WHEN lost_row;
			CONTINUE;
		END IF;
		-- The other repeats of that half have this event from now on.
		UPDATE humcli.repeats AS r SET event_id = record_batch.id
		WHERE r.task_id = half.task_id AND r.event = half.event AND r.event_id = half.event_id
			AND (r.occurred_at, r.status) > (half.occurred_at, half.status)
			AND ((r.occurred_at, r.status) < (x.occurred_at, x.status COLLATE "C")
				OR half.occurred_at > x.occurred_at
				OR (half.occurred_at = x.occurred_at AND half.status > x.status COLLATE "C"));
		outcome := 'promoted';
		IF octet_length(notification) > 1000 THEN
			notification := format('{"id":"%s"}', id);
		END IF;
		new_ids := new_ids || id;
		new_places := new_places || place;
		texts := texts || notification;
		RETURN NEXT;
	END LOOP;
	-- A trigger or a rule of the site took a row away without an error. Nobody
	-- may hear that it is recorded.
	IF lost_row THEN
		RAISE EXCEPTION 'humcli: a table took no row, and reported no error'
			USING ERRCODE = 'triggered_data_change_violation',
				HINT = 'A trigger or a rule on the tables of the schema humcli returns nothing. Drop it.';
	END IF;


	-- A commit that writes nothing waits neither for the disk nor for a
	-- synchronous standby. A duplicate is acknowledged as durable, though, and
	-- the first delivery's commit may still be waiting. Write a message, so that
	-- this commit waits for every commit before it.
	IF texts = '{}' THEN
		PERFORM pg_logical_emit_message(true, 'humcli', '');
	END IF;

	status := NULL;
	previous_status := NULL;
	FOR x IN SELECT g.* FROM humcli.opened_gaps(new_ids) g LOOP
		place := new_places[array_position(new_ids, x.cause)];
		outcome := 'gap';
		id := x.id;
		task_id := x.task_id;
		notification := x.notification;
		gaps := gaps || notification;
		RETURN NEXT;
	END LOOP;

	-- A process that records a single event notifies in the same transaction.
	IF p_notify AND texts <> '{}' THEN
		PERFORM humcli.notify(texts, gaps);
	END IF;
END $$;
