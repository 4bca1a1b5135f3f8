-- Returns at most p_rows claimable jobs of a pool with in_order. Of each task
-- only its earliest job is claimable, and only if it is due and no other job of
-- the task is claimed.
--
-- The scan starts with the jobs that are due longest. If too many of these wait
-- behind another job of their task, the function visits the tasks instead, each
-- task once however many jobs it has. That scan starts at the task of a random
-- job. It visits at most 10,000 tasks and stops at 1,000 claimable jobs. Of
-- these it returns the jobs that are due longest.
CREATE OR REPLACE FUNCTION humcli.claimable_heads(p_name text, p_present timestamptz, p_rows int)
RETURNS bigint[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- see functions/record/record_batch.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
	scan_rows constant int := 50 + 4 * least(p_rows, 1000);
	seen int;
	heads bigint[];
	start text;
BEGIN
	SELECT count(*), array_agg(j.event_id) FILTER (WHERE j.head) INTO seen, heads
	FROM (
		SELECT d.event_id, NOT EXISTS (
				SELECT FROM humcli.jobs o
				WHERE o.subscription = p_name AND o.task_id = d.task_id
					AND o.worker IS NOT NULL AND o.due > p_present)
			AND d.event_id = (
				SELECT f.event_id FROM humcli.jobs f
				WHERE f.subscription = p_name AND f.task_id = d.task_id
				ORDER BY f.occurred_at, f.event_id LIMIT 1) AS head
		FROM (
			SELECT w.event_id, w.task_id FROM humcli.jobs w
			WHERE w.subscription = p_name AND w.due <= p_present
			ORDER BY w.due, w.event_id
			LIMIT scan_rows) d
		) j;
	heads := coalesce(heads[:p_rows], '{}');
	IF cardinality(heads) = p_rows OR seen < scan_rows THEN
		RETURN heads;
	END IF;

	SELECT j.task_id INTO start FROM humcli.jobs j
	WHERE j.subscription = p_name AND j.event_id >= (
		SELECT min(m.event_id) + floor(random() * (max(m.event_id) - min(m.event_id) + 1))::bigint
		FROM humcli.jobs m WHERE m.subscription = p_name)
	ORDER BY j.event_id
	LIMIT 1;

	RETURN heads || ARRAY(
		WITH RECURSIVE tasks AS (
			SELECT start AS task_id, false AS wrapped, 1 AS place
			UNION ALL
			SELECT n.task_id, n.wrapped, t.place + 1
			FROM tasks t
			CROSS JOIN LATERAL (
				(SELECT j.task_id, t.wrapped FROM humcli.jobs j
				WHERE j.subscription = p_name AND j.task_id > t.task_id
					AND (NOT t.wrapped OR j.task_id < start)
				ORDER BY j.task_id
				LIMIT 1)
				UNION ALL
				(SELECT j.task_id, true FROM humcli.jobs j
				WHERE NOT t.wrapped AND j.subscription = p_name AND j.task_id < start
				ORDER BY j.task_id
				LIMIT 1)
				LIMIT 1
			) n
			WHERE t.place < 10000
		)
		SELECT h.event_id
		FROM (
			SELECT f.event_id, f.due
			FROM tasks t
			CROSS JOIN LATERAL (
				SELECT j.event_id, j.due FROM humcli.jobs j
				WHERE j.subscription = p_name AND j.task_id = t.task_id
				ORDER BY j.occurred_at, j.event_id
				LIMIT 1
			) f
			WHERE f.due <= p_present AND f.event_id <> ALL (heads) AND NOT EXISTS (
				SELECT FROM humcli.jobs o
				WHERE o.subscription = p_name AND o.task_id = t.task_id
					AND o.worker IS NOT NULL AND o.due > p_present)
			LIMIT greatest(1000, p_rows)
		) h
		ORDER BY h.due, h.event_id
		LIMIT p_rows - cardinality(heads));
END $$;
