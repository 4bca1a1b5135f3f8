-- Returns the ids of a task's events with one occurred_at in the order of the
-- timeline: a row comes after the rows that it follows from, then by id.
--
-- The statuses are the vertices of a graph, and each row is an edge from its
-- previous_status to its status. Tarjan's algorithm visits the strongly connected
-- components, causes first, in time that grows with the rows and not with the
-- paths. A row's depth is the largest number of rows before it, plus one. Within
-- a cycle, rows are chained from the status at which the cycle is entered, else
-- from the row with the smallest id.
CREATE OR REPLACE FUNCTION humcli.order_equal_times(p_task_id text, p_occurred_at timestamptz)
RETURNS bigint[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
	ids bigint[];		-- the rows, ordered by status and id
	sources int[];		-- a row's previous_status; 0: none in this group
	targets int[];		-- a row's status
	vertices int;
	first int[];		-- a status's first row, and its last
	last int[];
	next int[];		-- a status's row to visit next
	number int[];		-- order of discovery; 0: not yet
	low int[];
	component int[];	-- 0: not assigned yet
	reached int[];		-- by component: its largest depth
	depths int[];
	path int[] := '{}';	-- stack of the search
	height int := 0;
	pending int[] := '{}';	-- stack of statuses without a component
	waiting int := 0;
	count int := 0;
	components int := 0;
	members int[];
	inner_rows int[];	-- rows inside a component, ordered by previous_status and id
	depth int;
	v int;
	w int;
	i int;
BEGIN
	ids := ARRAY(SELECT e.id FROM humcli.events e
		WHERE e.task_id = p_task_id AND e.event = ANY (humcli.event_types(p_task_id))
			AND e.occurred_at = p_occurred_at);
	IF cardinality(ids) < 2 THEN
		RETURN ids;
	END IF;

	WITH history AS (
		SELECT e.id, e.previous_status AS previous, e.status
		FROM humcli.events e
		WHERE e.id = ANY (ids)
	), vertex AS (
		SELECT s.status, row_number() OVER (ORDER BY s.status)::int AS place
		FROM (SELECT DISTINCT h.status FROM history h) s
	), edge AS (
		SELECT h.id, coalesce(p.place, 0) AS source, s.place AS target,
			row_number() OVER (ORDER BY s.place, h.id)::int AS place
		FROM history h
		JOIN vertex s ON s.status = h.status
		LEFT JOIN vertex p ON p.status = h.previous
	)
	SELECT array_agg(e.id ORDER BY e.place), array_agg(e.source ORDER BY e.place),
		array_agg(e.target ORDER BY e.place), max(e.target),
		(SELECT array_agg(f.first ORDER BY f.target)
			FROM (SELECT g.target, min(g.place) AS first FROM edge g GROUP BY g.target) f),
		(SELECT array_agg(f.last ORDER BY f.target)
			FROM (SELECT g.target, max(g.place) AS last FROM edge g GROUP BY g.target) f)
	INTO ids, sources, targets, vertices, first, last
	FROM edge e;

	next := first;
	number := array_fill(0, ARRAY[vertices]);
	low := number;
	component := number;
	reached := number;
	depths := array_fill(0, ARRAY[cardinality(ids)]);
	FOR root IN 1 .. vertices LOOP
		CONTINUE WHEN number[root] > 0;
		v := root;
		LOOP
			IF number[v] = 0 THEN
				count := count + 1;
				number[v] := count;
				low[v] := count;
				height := height + 1;
				path[height] := v;
				waiting := waiting + 1;
				pending[waiting] := v;
			END IF;

			IF next[v] <= last[v] THEN
				w := sources[next[v]];
				next[v] := next[v] + 1;
				IF w > 0 AND number[w] = 0 THEN
					v := w;
				ELSIF w > 0 AND component[w] = 0 THEN
					low[v] := least(low[v], number[w]);
				END IF;
				CONTINUE;
			END IF;

			IF low[v] = number[v] THEN
				components := components + 1;
				members := '{}';
				LOOP
					w := pending[waiting];
					waiting := waiting - 1;
					component[w] := components;
					members := members || w;
					EXIT WHEN w = v;
				END LOOP;

				-- Rows that enter the component, after the components before it.
				depth := 0;
				inner_rows := '{}';
				FOREACH w IN ARRAY members LOOP
					FOR place IN first[w] .. last[w] LOOP
						IF sources[place] = 0 THEN
							depths[place] := 1;
						ELSIF component[sources[place]] = components THEN
							inner_rows := inner_rows || place;
							CONTINUE;
						ELSE
							depths[place] := reached[component[sources[place]]] + 1;
						END IF;
						depth := greatest(depth, depths[place]);
					END LOOP;
				END LOOP;
				reached[components] := depth + cardinality(inner_rows);

				-- Rows inside it, each after the one that leads to its previous_status.
				-- next[] is free again: a status's row in inner_rows to chain next.
				IF cardinality(inner_rows) > 0 THEN
					inner_rows := ARRAY(
						SELECT n.place FROM unnest(inner_rows) n (place)
						ORDER BY sources[n.place], ids[n.place]);
					FOR k IN REVERSE cardinality(inner_rows) .. 1 LOOP
						next[sources[inner_rows[k]]] := k;
					END LOOP;
					-- The entered status, else the previous_status of the smallest id.
					w := (SELECT targets[n.place] FROM unnest(members) m (v)
						CROSS JOIN LATERAL generate_series(first[m.v], last[m.v]) n (place)
						WHERE depths[n.place] > 0
						ORDER BY ids[n.place] LIMIT 1);
					FOREACH i IN ARRAY ARRAY(
						SELECT n.place FROM unnest(inner_rows) n (place) ORDER BY ids[n.place])
					LOOP
						CONTINUE WHEN depths[i] > 0;
						w := coalesce(w, sources[i]);
						LOOP
							IF next[w] <= cardinality(inner_rows) AND sources[inner_rows[next[w]]] = w THEN
								IF depths[inner_rows[next[w]]] = 0 THEN
									depth := depth + 1;
									depths[inner_rows[next[w]]] := depth;
									next[w] := next[w] + 1;
									w := targets[inner_rows[next[w] - 1]];
								ELSE
									next[w] := next[w] + 1;
								END IF;
							ELSE
								w := NULL;
								EXIT;
							END IF;
						END LOOP;
						-- the chain may have ended before row i
						IF depths[i] = 0 THEN
							depth := depth + 1;
							depths[i] := depth;
							w := targets[i];
						END IF;
					END LOOP;
				END IF;
			END IF;

			height := height - 1;
			EXIT WHEN height = 0;
			low[path[height]] := least(low[path[height]], low[v]);
			v := path[height];
		END LOOP;
	END LOOP;

	RETURN ARRAY(SELECT r.id FROM unnest(ids, depths) r (id, depth) ORDER BY r.depth, r.id);
END $$;
