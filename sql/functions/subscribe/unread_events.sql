-- Returns the events that are in snapshot p_until and not in the earlier
-- snapshot p_done, after the place (p_xid, p_id), ordered by transaction id and
-- id. p_statuses limits them to some statuses and p_secrets to some secret names;
-- NULL means all. An event that reconcile read has the name of its key, which is
-- named like the secret of the same agent.
--
-- Reads three ranges of the index: (1) the rest of the transaction at p_xid;
-- (2) the transactions running in the older snapshot and finished in the newer;
-- (3) the transactions started after the older snapshot. A transaction open for
-- hours therefore neither blocks the other events nor forces a re-read.
CREATE OR REPLACE FUNCTION humcli.unread_events(
	p_done txid_snapshot,
	p_until txid_snapshot,
	p_xid bigint,
	p_id bigint,
	p_statuses text[],
	p_secrets text[],
	p_rows bigint
)
RETURNS TABLE (xid bigint, id bigint, status text, secret_name text)
LANGUAGE plpgsql STABLE ROWS 100
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
BEGIN
	-- EXECUTE makes a plan for these values, because a cached plan may read
	-- and sort every row to return the first few.
	RETURN QUERY EXECUTE '
		SELECT a.xid, a.id, a.status, a.secret_name
		FROM (
			(SELECT e.xid, e.id, e.status, coalesce(e.secret_name, e.key_name) AS secret_name
			FROM humcli.events e
			WHERE e.xid = $3 AND e.id > $4
				AND ($5 IS NULL OR e.status = ANY ($5))
				AND ($6 IS NULL OR coalesce(e.secret_name, e.key_name) = ANY ($6))
			ORDER BY e.xid, e.id
			LIMIT $7)
			UNION ALL
			(SELECT e.xid, e.id, e.status, coalesce(e.secret_name, e.key_name) AS secret_name
			FROM humcli.events e
			WHERE e.xid = ANY (ARRAY(
					SELECT x FROM txid_snapshot_xip($1) x
					WHERE x > $3 AND txid_visible_in_snapshot(x, $2)))
				AND ($5 IS NULL OR e.status = ANY ($5))
				AND ($6 IS NULL OR coalesce(e.secret_name, e.key_name) = ANY ($6))
			ORDER BY e.xid, e.id
			LIMIT $7)
			UNION ALL
			(SELECT e.xid, e.id, e.status, coalesce(e.secret_name, e.key_name) AS secret_name
			FROM humcli.events e
			WHERE e.xid >= greatest(txid_snapshot_xmax($1), $3 + 1)
				AND e.xid < txid_snapshot_xmax($2)
				AND txid_visible_in_snapshot(e.xid, $2)
				AND ($5 IS NULL OR e.status = ANY ($5))
				AND ($6 IS NULL OR coalesce(e.secret_name, e.key_name) = ANY ($6))
			ORDER BY e.xid, e.id
			LIMIT $7)
		) a
		ORDER BY a.xid, a.id
		LIMIT $7'
	USING p_done, p_until, p_xid, p_id, p_statuses, p_secrets, p_rows;
END $$;
