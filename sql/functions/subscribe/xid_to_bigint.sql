-- Returns the transaction id of a row (xmin, 32 bits) in the 64 bits that
-- txid_current() returns. It is the value nearest to the current id.
CREATE OR REPLACE FUNCTION humcli.xid_to_bigint(p_xid xid)
RETURNS bigint
LANGUAGE sql STABLE
AS $$
	SELECT n.present + ((p_xid::text::bigint - n.present % 4294967296 + 6442450944) % 4294967296 - 2147483648)
	FROM (SELECT pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot()) AS present) n
$$;
