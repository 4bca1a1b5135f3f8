-- Returns the gaps that some new events have opened: before themselves, or before
-- an older event that now follows one of them. A row has the event behind the
-- gap, its task, the new event that opened it, and the notification. Each gap is
-- in the view humcli.gaps, too.
--
-- The view reads a task's whole history. This reads only three groups of equal
-- times for each new event: the one before it, its own, and the one after it.
-- Statuses that reconcile read stand for themselves, as in the view.
CREATE OR REPLACE FUNCTION humcli.opened_gaps(p_id bigint[])
RETURNS TABLE (id bigint, task_id text, cause bigint, notification text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- see functions/record/record_batch.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
	x record;
	g record;
	types text[];
	has_reads boolean;	-- the task has events that reconcile read
	time_before timestamptz;
	time_after timestamptz;
	own bigint[];
	ids bigint[];	-- the three groups in order
	retired_status text;
	older_status text;
	older_time timestamptz;
	seen bigint[] := '{}';
BEGIN
	FOR x IN
		SELECT v.task_id, v.occurred_at, min(v.id) AS id
		FROM (SELECT DISTINCT unnest(p_id) AS id) n
		CROSS JOIN LATERAL (
			SELECT e.task_id, e.occurred_at, e.id FROM humcli.events e WHERE e.id = n.id LIMIT 1
		) v
		GROUP BY v.task_id, v.occurred_at
		ORDER BY v.task_id, v.occurred_at
	LOOP
		types := humcli.event_types(x.task_id);
		has_reads := 'api.status_read' = ANY (types);
		types := array_remove(types, 'api.status_read');
		time_before := humcli.time_before(x.task_id, types, x.occurred_at);
		SELECT min(n.occurred_at) INTO time_after
		FROM unnest(types) t (event)
		CROSS JOIN LATERAL (
			SELECT e.occurred_at FROM humcli.events e
			WHERE e.task_id = x.task_id AND e.event = t.event AND e.occurred_at > x.occurred_at
			ORDER BY e.occurred_at LIMIT 1
		) n;
		own := humcli.order_equal_times(x.task_id, x.occurred_at);
		ids := humcli.order_equal_times(x.task_id, time_after);
		IF NOT has_reads THEN
			ids := ids[1:1];	-- else the first may be such an event
		END IF;
		ids := humcli.order_equal_times(x.task_id, time_before) || own || ids;
		SELECT r.status INTO retired_status FROM humcli.retired r WHERE r.task_id = x.task_id;

		-- An event had no gap before it if it followed the last of the older rows
		-- before it.
		FOR g IN
			SELECT h.*
			FROM (
				SELECT v.id, v.occurred_at, v.previous_status AS previous,
					lag(v.id) OVER w AS id_before, lag(v.occurred_at) OVER w AS time_before,
					coalesce(lag(v.status) OVER w, retired_status) AS status_before,
					max(CASE WHEN v.id <> ALL (p_id) THEN n.place END) OVER (ORDER BY n.place
						ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS older_place,
					n.place
				FROM unnest(ids) WITH ORDINALITY AS n (id, place)
				CROSS JOIN LATERAL (
					SELECT e.id, e.event, e.status, e.previous_status, e.occurred_at
					FROM humcli.events e WHERE e.id = n.id LIMIT 1
				) v
				WHERE v.event <> 'api.status_read'
				WINDOW w AS (ORDER BY n.place)
			) h
			WHERE h.occurred_at >= x.occurred_at AND h.id <> ALL (seen)
				AND h.previous <> coalesce(h.status_before, 'PENDING')
				AND (h.id = ANY (p_id) OR h.id_before = ANY (p_id))
				AND NOT (has_reads AND humcli.is_status_read(x.task_id, h.previous,
					h.time_before, h.occurred_at))
			ORDER BY h.place
		LOOP
			IF g.id <> ALL (p_id) THEN
				older_status := NULL;
				older_time := coalesce(time_before, x.occurred_at);
				IF g.older_place IS NOT NULL THEN
					SELECT e.status INTO older_status FROM humcli.events e WHERE e.id = ids[g.older_place];
				END IF;
				WHILE older_status IS NULL LOOP
					older_time := humcli.time_before(x.task_id, types, older_time);
					EXIT WHEN older_time IS NULL;
					SELECT e.status INTO older_status
					FROM unnest(humcli.order_equal_times(x.task_id, older_time)) WITH ORDINALITY AS n (id, place)
					CROSS JOIN LATERAL (SELECT v.event, v.status FROM humcli.events v WHERE v.id = n.id LIMIT 1) e
					WHERE n.id <> ALL (p_id) AND e.event <> 'api.status_read'
					ORDER BY n.place DESC LIMIT 1;
				END LOOP;
				CONTINUE WHEN g.previous <> coalesce(older_status, retired_status, 'PENDING');
			END IF;
			seen := seen || g.id;
			id := g.id;
			task_id := x.task_id;
			cause := CASE WHEN g.id = ANY (p_id) THEN g.id ELSE g.id_before END;
			notification := format('{"task_id":%s,"kind":"%s"}', to_json(x.task_id),
				CASE WHEN g.status_before IS NULL THEN 'start' ELSE 'hole' END);
			RETURN NEXT;
		END LOOP;
	END LOOP;
END $$;
