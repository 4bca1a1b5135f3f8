-- Makes a subscription a worker pool, or changes the settings of a pool:
--
--	in_order	workers get a task's events one at a time, the earliest
--			recorded one first
--	max_attempts	attempts until an event is dead
--	backoff		delay before the second attempt; doubled for each
--			further one, up to longest_backoff
--
-- claim() makes a pool without in_order by itself.
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
	-- A new generation makes the positions of earlier fetches invalid.
	UPDATE humcli.subscriptions u
	SET pool = true, in_order = pool.in_order, max_attempts = pool.max_attempts,
		backoff = pool.backoff, longest_backoff = pool.longest_backoff,
		generation = greatest(nextval(pg_get_serial_sequence('humcli.subscriptions', 'generation')),
			u.generation + 1)
	WHERE u.name = s.name;
END $$;
