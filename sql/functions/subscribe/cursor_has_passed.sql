-- Returns whether a subscription's cursor has passed an event.
CREATE OR REPLACE FUNCTION humcli.cursor_has_passed(s humcli.subscriptions, p_xid bigint, p_id bigint)
RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
	SELECT txid_visible_in_snapshot(p_xid, s.done)
		OR s.win IS NOT NULL AND txid_visible_in_snapshot(p_xid, s.win)
			AND (p_xid, p_id) <= (s.win_xid, s.win_id)
$$;
