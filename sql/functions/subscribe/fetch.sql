-- Returns the next events of a subscription, at most max_rows; no row if there
-- is none. An event is returned again until its position is acknowledged: ack()
-- covers one position and every position before it.
--
-- No event is missed, because the cursor is a pair of snapshots. Ids and
-- transaction ids are assigned before the commit, so a cursor made of either
-- would skip events. Every event visible in "done" is acknowledged. "win" is
-- the window being read: the events visible in "win" and not in "done", ordered
-- by transaction id and id, up to a position. At the end of the window, "win"
-- becomes "done", and the current snapshot becomes the next window. A
-- transaction that runs while a window opens is part of a later window.
--
-- Events added by replay() come first.
--
-- In one transaction, fetch(), the caller's writes and ack() happen once or not
-- at all. The subscription is locked meanwhile: a second consumer waits, and
-- then gets the events that follow. A call that finds no event writes nothing.
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

	-- The first pass takes no lock, because a row lock is a write.
	FOREACH locked IN ARRAY ARRAY[false, true] LOOP
		s := humcli.require_subscription("fetch".name, CASE WHEN locked THEN 'work' END);
		IF s.pool THEN
			RAISE EXCEPTION 'humcli: subscription "%" is a worker pool', s.name
				USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Use humcli.claim() in place of humcli.fetch().';
		END IF;
		has_replays := EXISTS (SELECT FROM humcli.replays r WHERE r.subscription = s.name);
		has_unread := s.win IS NOT NULL AND EXISTS (
			SELECT FROM humcli.unread_events(s.done, s.win, s.win_xid, s.win_id, s.statuses, s.secrets, 1));
		advanced := CASE WHEN NOT has_unread THEN humcli.open_next_window(s) END;
		IF NOT has_replays AND NOT has_unread AND advanced.name IS NULL THEN
			RETURN;
		END IF;
	END LOOP;

	IF advanced.name IS NOT NULL THEN
		s := advanced;
		PERFORM humcli.save_cursor(s);
	END IF;

	-- A position has four numbers: the cursor's generation (a seek starts a
	-- new one), the place of the last replayed event, and the transaction id
	-- and id of the last other event. 0 means that there is none.
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
		FROM humcli.unread_events(s.done, s.win, s.win_xid, s.win_id, s.statuses, s.secrets,
			max_rows - (SELECT count(*) FROM replayed)) a
		WHERE s.win IS NOT NULL
	)
	SELECT format('%s:%s:%s:%s', s.generation, f.place, f.xid, f.last_id),
		e.id, e.event, e.task_id, e.status, e.previous_status, e.occurred_at,
		e.received_at, e.recorded_at, e.secret_name, e.payload, e.signature
	FROM found f
	JOIN humcli.events e ON e.id = f.event_id
	ORDER BY f.xid, f.last_id, f.place;
END $$;
