-- Repairs the subscriptions after a dump was restored in a cluster whose
-- transaction counter is behind that of the original cluster. The events that a
-- subscription had not acknowledged are added like a replay, and its cursor is
-- set to now. Returns whether there was anything to repair.
--
-- The numbers of a cursor from another cluster tell nothing about the rows that
-- were recorded here since. Such rows are unread. They are recognised by their
-- xmin: a row recorded here has the transaction id of its column xid, or a
-- slightly younger one if record_batch() was called in a subtransaction. The xmin of
-- a restored row is that of the restore.
CREATE OR REPLACE FUNCTION humcli.rebase()
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s humcli.subscriptions;
	present bigint;
BEGIN
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE EXCEPTION 'humcli: rebase needs READ COMMITTED, not %', current_setting('transaction_isolation')
			USING ERRCODE = 'active_sql_transaction',
			HINT = 'Begin the transaction with BEGIN ISOLATION LEVEL READ COMMITTED.';
	END IF;
	-- No event can be recorded meanwhile, so the new cursors are complete.
	LOCK TABLE humcli.events IN SHARE ROW EXCLUSIVE MODE;
	PERFORM FROM humcli.subscriptions u ORDER BY u.name FOR UPDATE;
	IF NOT humcli.has_foreign_xids(NULL)
		AND NOT EXISTS (SELECT FROM humcli.subscriptions u WHERE humcli.has_foreign_xids(u.name))
	THEN
		RETURN false;
	END IF;
	present := txid_snapshot_xmax(txid_current_snapshot());

	PERFORM humcli.repair_identity('replays', 'place');
	INSERT INTO humcli.replays (subscription, event_id)
	SELECT u.name, e.id
	FROM (SELECT v AS s, v.name, humcli.cursor_horizon(v) > humcli.xid_to_bigint(v.xmin) AS foreign
		FROM humcli.subscriptions v) u
	JOIN humcli.events e ON humcli.subscription_covers(u.s, e.status, coalesce(e.secret_name, e.key_name))
		AND (NOT humcli.cursor_has_passed(u.s, e.xid, e.id)
			OR u.foreign AND humcli.xid_to_bigint(e.xmin) - e.xid BETWEEN 0 AND 65535)
	ORDER BY u.name, e.id
	ON CONFLICT (event_id, subscription) DO NOTHING;

	-- 3 is the first normal transaction id.
	UPDATE humcli.events e SET xid = 3 WHERE e.xid >= present;
	FOR s IN SELECT u.* FROM humcli.subscriptions u LOOP
		s.done := humcli.complete_snapshot();
		s.win := NULL;
		s.win_xid := 0;
		s.win_id := 0;
		s.generation := greatest(nextval(pg_get_serial_sequence('humcli.subscriptions', 'generation')),
			s.generation + 1);
		PERFORM humcli.save_cursor(s);
	END LOOP;
	RETURN true;
END $$;
