-- Writes the cursor of a subscription. Only save_cursor() calls this.
CREATE OR REPLACE FUNCTION humcli.update_cursor(s humcli.subscriptions)
RETURNS void
LANGUAGE sql VOLATILE
AS $$
	UPDATE humcli.subscriptions u
	SET done = s.done, win = s.win, win_xid = s.win_xid, win_id = s.win_id,
		generation = s.generation, last_seen = clock_timestamp()
	WHERE u.name = s.name
$$;
