-- Hands out the next events of a subscription, at most max_rows. They are
-- handed out again until their position is acknowledged: ack() takes the
-- position of one and with it all before. Nothing returned: nothing there.
--
-- Why no event is missed: ids and transaction ids are drawn before the
-- commit, so none of them can be the cursor; it is a pair of snapshots. All
-- that is visible in "done" has been dealt with. "win" is the window being
-- read: what is visible in it and not in "done", in the order of transaction
-- and id up to a position. A window that has been read to its end becomes
-- "done", and the present snapshot the next window. A transaction that is
-- under way when a window opens is in a later one.
--
-- What replay() has put in comes first.
--
-- In one transaction, fetch(), the caller's own writes and ack() happen once
-- or not at all. The subscription is locked meanwhile, so a second consumer
-- waits and gets what comes after. A call that finds nothing writes nothing.
CREATE OR REPLACE FUNCTION humcli.fetch(name text, max_rows int DEFAULT 100)
RETURNS TABLE (
	"position" text,
	id bigint,
	event text,
	task_id text,
	status text,
	previous_status text,
	occurred_at timestamptz,
	received_at timestamptz,
	recorded_at timestamptz,
	secret_name text,
	payload json
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- see functions/record/record.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
	locked boolean;
	s humcli.subscriptions;
	has_replays boolean;
	has_unread boolean;
	advanced humcli.subscriptions;
BEGIN
	IF max_rows IS NULL OR max_rows < 1 THEN
		RAISE EXCEPTION 'humcli: max_rows is % but must be at least 1', coalesce(max_rows::text, 'NULL')
			USING ERRCODE = 'invalid_parameter_value';
	END IF;

	-- First without the lock, which would be a write.
	FOREACH locked IN ARRAY ARRAY[false, true] LOOP
		s := humcli.require_subscription("fetch".name, CASE WHEN locked THEN 'work' END);
		IF s.pool THEN
			RAISE EXCEPTION 'humcli: the subscription "%" is a pool', s.name
				USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Use humcli.claim().';
		END IF;
		has_replays := EXISTS (SELECT FROM humcli.replays r WHERE r.subscription = s.name);
		has_unread := s.win IS NOT NULL AND EXISTS (
			SELECT FROM humcli.unread_events(s.done, s.win, s.win_xid, s.win_id, s.statuses, 1));
		advanced := CASE WHEN NOT has_unread THEN humcli.open_next_window(s) END;
		IF NOT has_replays AND NOT has_unread AND advanced.name IS NULL THEN
			RETURN;
		END IF;
	END LOOP;

	IF advanced.name IS NOT NULL THEN
		s := advanced;
		PERFORM humcli.save_cursor(s);
	END IF;

	-- Position: which cursor it is of (a seek makes a new one), the last of
	-- the replayed, the last of the others. "Of none" is 0.
	RETURN QUERY
	WITH replayed AS (
		SELECT r.place, r.event_id
		FROM humcli.replays r
		JOIN humcli.events e ON e.id = r.event_id
		WHERE r.subscription = s.name
		ORDER BY r.place
		LIMIT max_rows
	), found AS (
		SELECT r.place, 0::bigint AS xid, 0::bigint AS last_id, r.event_id
		FROM replayed r
		UNION ALL
		SELECT coalesce((SELECT max(r.place) FROM replayed r), 0), a.xid, a.id, a.id
		FROM humcli.unread_events(s.done, s.win, s.win_xid, s.win_id, s.statuses,
			max_rows - (SELECT count(*) FROM replayed)) a
		WHERE s.win IS NOT NULL
	)
	SELECT format('%s:%s:%s:%s', s.generation, f.place, f.xid, f.last_id),
		e.id, e.event, e.task_id, e.status, e.previous_status, e.occurred_at,
		e.received_at, e.recorded_at, e.secret_name, e.payload
	FROM found f
	JOIN humcli.events e ON e.id = f.event_id
	ORDER BY f.xid, f.last_id, f.place;
END $$;
