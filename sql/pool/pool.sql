-- Makes a subscription a worker pool, or changes what a pool goes by:
--
--	in_order	no two events of one task are out at a time, and of those
--			recorded the earliest first
--	max_attempts	then it is dead
--	backoff		before the second attempt; doubled with each further one,
--			up to longest_backoff
--
-- claim() makes one of the plain kind by itself.
CREATE OR REPLACE FUNCTION humcli.pool(
	name text,
	in_order boolean DEFAULT false,
	max_attempts int DEFAULT 12,
	backoff interval DEFAULT '2 s',
	longest_backoff interval DEFAULT '1 h'
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s humcli.subscriptions;
BEGIN
	s := humcli.require_subscription(pool.name, 'change');
	-- What was fetched before can no longer be acknowledged.
	UPDATE humcli.subscriptions u
	SET pool = true, in_order = pool.in_order, max_attempts = pool.max_attempts,
		backoff = pool.backoff, longest_backoff = pool.longest_backoff,
		generation = DEFAULT
	WHERE u.name = s.name;
END $$;
