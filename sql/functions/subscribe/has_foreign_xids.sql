-- Whether transaction ids of another cluster's future are in what a
-- subscription goes by, as after a dump was restored where fewer transactions
-- have been: then new events would pass for old ones. humcli.rebase() mends it.
--
-- A cursor never reaches beyond the transaction id that its row was written
-- under, see save_cursor(), so one that does was written elsewhere; that stays to be
-- seen when the counter has caught up. An event that we see is of an earlier transaction
-- than our snapshot ends with, or our own.
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
