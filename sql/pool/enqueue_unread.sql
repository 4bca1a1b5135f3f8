-- Moves unread events of a pool from the log into its jobs: replayed events
-- first, then at most p_rows others (NULL: all of a window). Returns the
-- subscription with its new cursor. Call with the subscription locked.
CREATE OR REPLACE FUNCTION humcli.enqueue_unread(s humcli.subscriptions, p_rows bigint)
RETURNS humcli.subscriptions
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- see functions/record/record_batch.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
	until constant txid_snapshot := coalesce(s.win, humcli.complete_snapshot());
	moved record;
BEGIN
	WITH replayed AS (
		DELETE FROM humcli.replays r WHERE r.subscription = s.name RETURNING r.event_id
	)
	INSERT INTO humcli.jobs (subscription, event_id, task_id, occurred_at)
	SELECT s.name, e.id, e.task_id, e.occurred_at
	FROM replayed a
	JOIN humcli.events e ON e.id = a.event_id
	ORDER BY e.id
	ON CONFLICT (subscription, event_id) DO NOTHING;

	WITH next AS (
		SELECT a.xid, a.id
		FROM humcli.unread_events(s.done, until, s.win_xid, s.win_id, s.statuses, s.secrets, p_rows) a
	), inserted AS (
		INSERT INTO humcli.jobs (subscription, event_id, task_id, occurred_at)
		SELECT s.name, e.id, e.task_id, e.occurred_at
		FROM next n
		JOIN humcli.events e ON e.id = n.id
		ORDER BY n.xid, n.id
		ON CONFLICT (subscription, event_id) DO NOTHING
	)
	SELECT count(*) AS rows, (array_agg(n.xid ORDER BY n.xid DESC, n.id DESC))[1] AS xid,
		(array_agg(n.id ORDER BY n.xid DESC, n.id DESC))[1] AS id
	INTO moved
	FROM next n;

	IF moved.rows = p_rows THEN
		s.win := until;
		s.win_xid := moved.xid;
		s.win_id := moved.id;
	ELSE
		s.done := until;
		s.win := NULL;
		s.win_xid := 0;
		s.win_id := 0;
	END IF;
	PERFORM humcli.save_cursor(s);
	RETURN s;
END $$;
