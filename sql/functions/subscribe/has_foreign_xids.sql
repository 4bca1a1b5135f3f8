-- Returns whether a subscription depends on transaction ids of another cluster,
-- as after a dump was restored in a cluster with fewer transactions. New events
-- would then look like acknowledged ones. humcli.rebase() repairs this.
--
-- A cursor never covers an id above the transaction id of its own row, see
-- save_cursor(). A cursor that does was written in another cluster. This test
-- also works after the counter has caught up. A visible event belongs to a
-- transaction below the end of our snapshot, or to our own transaction.
CREATE OR REPLACE FUNCTION humcli.has_foreign_xids(p_name text)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
	SELECT EXISTS (
		SELECT FROM humcli.subscriptions s
		WHERE s.name = p_name AND humcli.cursor_horizon(s) > humcli.xid_to_bigint(s.xmin)
	) OR coalesce((
		SELECT e.xid FROM humcli.events e
		WHERE e.xid <> coalesce(txid_current_if_assigned(), 0)
		ORDER BY e.xid DESC, e.id DESC
		LIMIT 1
	) >= txid_snapshot_xmax(txid_current_snapshot()), false)
$$;
