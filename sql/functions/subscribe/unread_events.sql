-- The events that are in one snapshot and not in an earlier one, after a
-- place, in the order of transaction and id; all, or those of some statuses.
--
-- Three stretches of the index: the rest of the transaction of that place;
-- the transactions that were under way in the earlier snapshot and are done in
-- the later one; and those that came after it. So one that stays open for
-- hours neither holds up the rest nor makes us read everything since again.
CREATE OR REPLACE FUNCTION humcli.unread_events(
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
SET jit = off
AS $$
BEGIN
	-- EXECUTE plans for these values: a kept plan, for any number of rows,
	-- may read and sort all there is for the first few.
	RETURN QUERY EXECUTE '
		SELECT a.xid, a.id, a.status
		FROM (
			(SELECT e.xid, e.id, e.status
			FROM humcli.events e
			WHERE e.xid = $3 AND e.id > $4
				AND ($5 IS NULL OR e.status = ANY ($5))
			ORDER BY e.xid, e.id
			LIMIT $6)
			UNION ALL
			(SELECT e.xid, e.id, e.status
			FROM humcli.events e
			WHERE e.xid = ANY (ARRAY(
					SELECT x FROM txid_snapshot_xip($1) x
					WHERE x > $3 AND txid_visible_in_snapshot(x, $2)))
				AND ($5 IS NULL OR e.status = ANY ($5))
			ORDER BY e.xid, e.id
			LIMIT $6)
			UNION ALL
			(SELECT e.xid, e.id, e.status
			FROM humcli.events e
			WHERE e.xid >= greatest(txid_snapshot_xmax($1), $3 + 1)
				AND e.xid < txid_snapshot_xmax($2)
				AND txid_visible_in_snapshot(e.xid, $2)
				AND ($5 IS NULL OR e.status = ANY ($5))
			ORDER BY e.xid, e.id
			LIMIT $6)
		) a
		ORDER BY a.xid, a.id
		LIMIT $6'
	USING p_done, p_until, p_xid, p_id, p_statuses, p_rows;
END $$;
