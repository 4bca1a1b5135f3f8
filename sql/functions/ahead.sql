-- The events that are in one snapshot and not in an earlier one, after a
-- place, in the order of transaction and id; all, or those of some statuses.
--
-- Three stretches of the index: the rest of the transaction of that place;
-- the transactions that were under way in the earlier snapshot and are done in
-- the later one; and those that came after it. So one that stays open for
-- hours neither holds up the rest nor makes us read everything since again.
CREATE OR REPLACE FUNCTION humcli.ahead(
	p_done txid_snapshot,
	p_until txid_snapshot,
	p_xid bigint,
	p_id bigint,
	p_statuses text[],
	p_rows bigint
)
RETURNS TABLE (xid bigint, id bigint, status text)
LANGUAGE plpgsql STABLE ROWS 100
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
BEGIN
	RETURN QUERY
	SELECT a.xid, a.id, a.status
	FROM (
		(SELECT e.xid, e.id, e.status
		FROM humcli.events e
		WHERE e.xid = p_xid AND e.id > p_id
			AND (p_statuses IS NULL OR e.status = ANY (p_statuses))
		ORDER BY e.xid, e.id
		LIMIT p_rows)
		UNION ALL
		(SELECT e.xid, e.id, e.status
		FROM humcli.events e
		WHERE e.xid = ANY (ARRAY(
				SELECT x FROM txid_snapshot_xip(p_done) x
				WHERE x > p_xid AND txid_visible_in_snapshot(x, p_until)))
			AND (p_statuses IS NULL OR e.status = ANY (p_statuses))
		ORDER BY e.xid, e.id
		LIMIT p_rows)
		UNION ALL
		(SELECT e.xid, e.id, e.status
		FROM humcli.events e
		WHERE e.xid >= greatest(txid_snapshot_xmax(p_done), p_xid + 1)
			AND e.xid < txid_snapshot_xmax(p_until)
			AND txid_visible_in_snapshot(e.xid, p_until)
			AND (p_statuses IS NULL OR e.status = ANY (p_statuses))
		ORDER BY e.xid, e.id
		LIMIT p_rows)
	) a
	ORDER BY a.xid, a.id
	LIMIT p_rows;
END $$;
