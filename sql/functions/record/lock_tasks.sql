-- Locks tasks until the end of the transaction, waiting half a second for
-- all of them together; returns those it did not get. Whoever changes a
-- task's history holds its lock.
--
-- Always in the order of the key, and each key once: sorted by task_id, two
-- callers whose tasks share a hash would wait for each other.
--
-- Not for a statement that also reads: it would see the tables as they were
-- before the lock. SET lock_timeout puts the caller's back at the end.
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
		IF rest > 0 THEN	-- a lock_timeout of 0 would be none at all
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
