-- Locks tasks until the end of the transaction and returns the tasks it did not
-- get. Waits at most 500 ms for all of them together. Every function that
-- changes the history of a task holds its lock.
--
-- Locks are taken once a key, in the order of the key. In the order of task_id,
-- two callers whose tasks share a key could deadlock.
--
-- Call this in a statement of its own. A statement that also reads would see
-- the tables as they were before the lock. SET lock_timeout restores the
-- caller's setting at the end.
CREATE OR REPLACE FUNCTION humcli.lock_tasks(p_task_id text[])
RETURNS text[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
DECLARE
	class constant int := 1752526179;	-- "humc"
	until constant timestamptz := clock_timestamp() + interval '500 ms';
	key int;
	rest int;
	missed int[] := '{}';
BEGIN
	FOR key IN SELECT DISTINCT hashtext(t.id) FROM unnest(p_task_id) AS t (id) ORDER BY 1 LOOP
		CONTINUE WHEN pg_try_advisory_xact_lock(class, key);

		rest := 1000 * extract(epoch FROM until - clock_timestamp());
		IF rest > 0 THEN	-- a lock_timeout of 0 means no limit
			BEGIN
				PERFORM set_config('lock_timeout', rest::text, true);
				PERFORM pg_advisory_xact_lock(class, key);
				CONTINUE;
			EXCEPTION WHEN lock_not_available THEN
				NULL;
			END;
		END IF;
		missed := missed || key;
	END LOOP;

	RETURN ARRAY(SELECT DISTINCT t.id FROM unnest(p_task_id) AS t (id) WHERE hashtext(t.id) = ANY (missed));
END $$;
