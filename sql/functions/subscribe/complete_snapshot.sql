-- Returns the current snapshot, with our own transaction among the running
-- ones. The server leaves our transaction out, but it may still record events.
CREATE OR REPLACE FUNCTION humcli.complete_snapshot()
RETURNS txid_snapshot
LANGUAGE sql STABLE
AS $$
	SELECT CASE WHEN c.own < txid_snapshot_xmax(c.current) THEN
		format('%s:%s:%s', txid_snapshot_xmin(c.current), txid_snapshot_xmax(c.current),
			(SELECT string_agg(u.xid::text, ',' ORDER BY u.xid)
			FROM (SELECT c.own UNION SELECT txid_snapshot_xip(c.current)) u (xid)))::txid_snapshot
		ELSE c.current END
	FROM (SELECT txid_current_snapshot() AS current, txid_current_if_assigned() AS own) c
$$;
