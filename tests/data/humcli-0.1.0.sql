-- Installs the schema humcli, or upgrades it. Safe to run again.
--
--	psql -X -v ON_ERROR_STOP=1 -f install.sql
--
-- humcli.sql is this file with its parts put in, for users without psql. All
-- parts are ASCII, so that no client_encoding can change them.


BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL statement_timeout = 0;
SET LOCAL lock_timeout = '10s';
SET LOCAL client_min_messages = notice;

-- Checks the requirements and creates the schema.

DO $$
DECLARE
	owner oid;
BEGIN
	-- If two installers run at once, the second waits and finds the work done.
	PERFORM pg_advisory_xact_lock(1752526179);

	-- Signed text is stored and compared byte by byte. With another encoding
	-- the server would convert the text, or refuse an event with an emoji.
	IF getdatabaseencoding() = 'SQL_ASCII' THEN
		RAISE WARNING 'humcli: the encoding of database "%" is SQL_ASCII; UTF8 is better',
			current_database();
	ELSIF getdatabaseencoding() <> 'UTF8' THEN
		RAISE EXCEPTION 'humcli: the encoding of database "%" is %, but UTF8 is needed',
			current_database(), getdatabaseencoding()
			USING ERRCODE = 'feature_not_supported',
			HINT = 'CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0';
	END IF;

	-- A schema of another role may hold that role's triggers and functions. They
	-- would run with our rights. A superuser is a member of every role, so membership
	-- counts for others only.
	SELECT n.nspowner INTO owner FROM pg_namespace n WHERE n.nspname = 'humcli';
	IF NOT FOUND THEN
		CREATE SCHEMA humcli;
	ELSIF owner <> current_user::regrole AND owner <> coalesce(to_regrole('humcli_owner')::oid, 0)
		AND ((SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user)
			OR NOT pg_has_role(owner, 'USAGE'))
	THEN
		RAISE EXCEPTION 'humcli: schema "humcli" belongs to role "%", not to "%"',
			pg_get_userbyid(owner), current_user
			USING ERRCODE = 'insufficient_privilege',
			HINT = format('Install as %1$I. Or, if you trust all that is in the schema, run first: '
				'ALTER SCHEMA humcli OWNER TO CURRENT_USER;', pg_get_userbyid(owner));
	END IF;
END $$;
-- Creates the roles and gives the schema to humcli_owner. Grant these roles to
-- your own users:
--
--	humcli_owner	owns the schema, so that no function runs as a superuser
--	humcli_writer	for the responder: may call the recording functions
--	humcli_reader	may read everything
--	humcli_consumer	may use subscriptions
--	humcli_admin	may purge
--	humcli_reconciler	for humcli-webhook reconcile: may record what HumCLI's API says
--
-- Without the right to create roles (CREATEROLE), the roles are left out, and
-- everything works as the one user who installs it.

DO $$
DECLARE
	-- From PostgreSQL 16 on, a member may lack the right to SET ROLE.
	acting text := CASE WHEN current_setting('server_version_num')::int >= 160000
		THEN 'SET' ELSE 'MEMBER' END;
	new record;
	object record;
BEGIN
	IF (SELECT r.rolsuper OR r.rolcreaterole FROM pg_roles r WHERE r.rolname = current_user) THEN
		FOR new IN VALUES
			('humcli_owner', ''),
			('humcli_writer', ''),
			('humcli_reader', ''),
			('humcli_consumer', 'IN ROLE humcli_reader'),
			('humcli_admin', 'IN ROLE humcli_consumer'),
			('humcli_reconciler', 'IN ROLE humcli_reader')
		LOOP
			CONTINUE WHEN to_regrole(new.column1) IS NOT NULL;
			BEGIN
				EXECUTE format('CREATE ROLE %I NOLOGIN %s', new.column1, new.column2);
			EXCEPTION
				-- another database of this cluster has just created the role
				WHEN duplicate_object OR unique_violation THEN NULL;
				-- from 16 on: the role IN ROLE names can be granted by another user only
				WHEN insufficient_privilege THEN NULL;
			END;
		END LOOP;
		IF NOT pg_has_role('humcli_owner', acting) THEN
			BEGIN
				GRANT humcli_owner TO CURRENT_USER;
			EXCEPTION WHEN insufficient_privilege THEN NULL;
			END;
		END IF;
	END IF;

	IF (SELECT count(*) FROM pg_roles r WHERE r.rolname IN ('humcli_owner', 'humcli_writer',
			'humcli_reader', 'humcli_consumer', 'humcli_admin', 'humcli_reconciler')) < 6
		OR NOT pg_has_role('humcli_owner', acting)
	THEN
		IF NOT pg_has_role((SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'humcli'), 'USAGE') THEN
			RAISE EXCEPTION 'humcli: schema "humcli" belongs to another role than "%"', current_user
				USING ERRCODE = 'insufficient_privilege',
				HINT = 'Install as the owner of the schema, as a superuser, or as a member of humcli_owner.';
		END IF;
		RAISE NOTICE 'humcli: user "%" may not create or use the roles humcli_*: roles and grants are skipped, everything works as this one user',
			current_user;
		RETURN;
	END IF;

	-- Hand an installation made without the roles over to humcli_owner. Its owner
	-- may be the role of a running receiver, which must go on recording.
	IF (SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'humcli') <> 'humcli_owner'::regrole THEN
		FOR object IN
			SELECT DISTINCT c.relowner::regrole::text AS name
			FROM pg_class c
			JOIN pg_roles r ON r.oid = c.relowner AND NOT r.rolsuper
			WHERE c.relnamespace = 'humcli'::regnamespace AND c.relkind IN ('r', 'v')
				AND c.relowner <> 'humcli_owner'::regrole
		LOOP
			EXECUTE format('GRANT humcli_writer, humcli_admin TO %s', object.name);
			RAISE NOTICE 'humcli: role % owned the installation and now is a member of humcli_writer and humcli_admin',
				object.name;
		END LOOP;
		ALTER SCHEMA humcli OWNER TO humcli_owner;
		FOR object IN
			SELECT c.oid::regclass::text AS name
			FROM pg_class c
			WHERE c.relnamespace = 'humcli'::regnamespace AND c.relkind IN ('r', 'v')
		LOOP
			EXECUTE format('ALTER TABLE %s OWNER TO humcli_owner', object.name);
		END LOOP;
		FOR object IN
			SELECT p.oid::regprocedure::text AS name
			FROM pg_proc p
			WHERE p.pronamespace = 'humcli'::regnamespace
		LOOP
			EXECUTE format('ALTER FUNCTION %s OWNER TO humcli_owner', object.name);
		END LOOP;
	END IF;

	-- The rest of the installation creates its objects as the owner.
	SET LOCAL ROLE humcli_owner;
END $$;
-- The tables. An existing table of deliveries is not altered, because its lock
-- would block every writer.
--
-- Compared text has the collation "C": bytes, the same on every system. One
-- index then finds duplicates and neighbors.

DO $$ BEGIN IF to_regclass('humcli.schema_version') IS NULL THEN
	CREATE TABLE humcli.schema_version (
		version		int PRIMARY KEY,
		applied_at	timestamptz NOT NULL DEFAULT now()
	);
END IF; END $$;

-- Steps from older versions belong here; max(version) tells which.
DO $$
DECLARE
	ours constant int := 1;
	theirs int := (SELECT max(v.version) FROM humcli.schema_version v);
BEGIN
	IF theirs > ours THEN
		RAISE EXCEPTION 'humcli: can''t install schema version % over the newer version %', ours, theirs
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Use the SQL of the newer humcli-webhook that was installed here.';
	END IF;
	INSERT INTO humcli.schema_version (version) VALUES (ours) ON CONFLICT (version) DO NOTHING;
END $$;

-- Events: one row a visit of a task to a status, see functions/record/record_batch.sql.
DO $$ BEGIN IF to_regclass('humcli.events') IS NULL THEN
	CREATE TABLE humcli.events (
		id		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		event		text COLLATE "C" NOT NULL,
		task_id		text COLLATE "C" NOT NULL,
		status		text COLLATE "C" NOT NULL,
		previous_status	text COLLATE "C",
		occurred_at	timestamptz NOT NULL CHECK (isfinite(occurred_at)),
		received_at	timestamptz NOT NULL,
		recorded_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
		first_of_status	boolean NOT NULL,
		secret_name	text,	-- NULL, as the signature: read by reconcile, not received
		signature	text,
		payload		json NOT NULL,
		xid		bigint NOT NULL DEFAULT txid_current(),
		key_name	text,	-- of reconcile: the API key, named like the agent's secret
		CHECK (event = 'api.status_read' OR (secret_name IS NOT NULL AND signature IS NOT NULL)),
		UNIQUE (task_id, event, occurred_at, status)
	);
	-- Ids are assigned before the commit, so subscriptions read by transaction id.
	CREATE INDEX events_feed ON humcli.events (xid, id);
	CREATE INDEX events_recorded_at ON humcli.events USING brin (recorded_at);
	-- Rows are only added, and by default vacuum would run too seldom.
	IF current_setting('server_version_num')::int >= 130000 THEN
		ALTER TABLE humcli.events SET (autovacuum_vacuum_insert_scale_factor = 0.05);
	END IF;
END IF; END $$;

-- Repeats: further deliveries of a visit that has its event.
DO $$ BEGIN IF to_regclass('humcli.repeats') IS NULL THEN
	CREATE TABLE humcli.repeats (
		id		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		event		text COLLATE "C" NOT NULL,
		task_id		text COLLATE "C" NOT NULL,
		status		text COLLATE "C" NOT NULL,
		previous_status	text COLLATE "C",
		occurred_at	timestamptz NOT NULL CHECK (isfinite(occurred_at)),
		received_at	timestamptz NOT NULL,
		recorded_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
		secret_name	text NOT NULL,
		signature	text NOT NULL,
		payload		json NOT NULL,
		event_id	bigint,	-- the visit's event, see functions/record/history_neighbor.sql
		UNIQUE (task_id, event, occurred_at, status)
	);
END IF; END $$;

-- Quarantine: signed bodies that are no events, answered 400 or 422.
DO $$ BEGIN IF to_regclass('humcli.quarantine') IS NULL THEN
	CREATE TABLE humcli.quarantine (
		id		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		received_at	timestamptz NOT NULL,
		reason		text NOT NULL,
		secret_name	text NOT NULL,
		signature	text NOT NULL UNIQUE,
		body		bytea NOT NULL,
		seen		int NOT NULL DEFAULT 1
	);
END IF; END $$;

-- Retired tasks: purge() leaves one row a task, the last delivery of its
-- history, as the left neighbor of later deliveries, and its statuses.
DO $$ BEGIN IF to_regclass('humcli.retired') IS NULL THEN
	CREATE TABLE humcli.retired (
		task_id		text COLLATE "C" PRIMARY KEY,
		event		text COLLATE "C" NOT NULL,
		occurred_at	timestamptz NOT NULL,
		status		text COLLATE "C" NOT NULL,
		previous_status	text COLLATE "C",
		event_id	bigint NOT NULL,	-- the last event of that type
		statuses	text[] COLLATE "C" NOT NULL,
		retired_at	timestamptz NOT NULL DEFAULT clock_timestamp()
	);
END IF; END $$;

-- Late deliveries: older than the row that purge() left of their task. The rule
-- can't place them any more, because the history is gone.
DO $$ BEGIN IF to_regclass('humcli.late') IS NULL THEN
	CREATE TABLE humcli.late (
		id		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		event		text COLLATE "C" NOT NULL,
		task_id		text COLLATE "C" NOT NULL,
		status		text COLLATE "C" NOT NULL,
		previous_status	text COLLATE "C",
		occurred_at	timestamptz NOT NULL,
		received_at	timestamptz NOT NULL,
		recorded_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
		secret_name	text NOT NULL,
		signature	text NOT NULL,
		payload		json NOT NULL,
		UNIQUE (task_id, event, occurred_at, status)
	);
END IF; END $$;

-- Subscriptions and their cursors, see functions/subscribe/fetch.sql. The tables
-- of the worker pool are here because purge() and the status view read them;
-- pool.sql has the functions. There is no foreign key to the events, because
-- creating one would block the recording.
DO $$ BEGIN IF to_regclass('humcli.subscriptions') IS NULL THEN
	CREATE TABLE humcli.subscriptions (
		name		text COLLATE "C" PRIMARY KEY,
		owner		name NOT NULL,	-- the role whose members may use it
		statuses	text[] COLLATE "C",	-- NULL: all
		done		txid_snapshot NOT NULL,
		win		txid_snapshot,
		win_xid		bigint NOT NULL DEFAULT 0,
		win_id		bigint NOT NULL DEFAULT 0,
		generation	bigint GENERATED BY DEFAULT AS IDENTITY,
		created_at	timestamptz NOT NULL DEFAULT now(),
		last_seen	timestamptz,
		pool		boolean NOT NULL DEFAULT false,
		in_order	boolean NOT NULL DEFAULT false,
		max_attempts	int NOT NULL DEFAULT 12 CHECK (max_attempts > 0),
		backoff		interval NOT NULL DEFAULT '2 s' CHECK (backoff >= '0'),
		longest_backoff	interval NOT NULL DEFAULT '1 h' CHECK (longest_backoff >= '0'),
		secrets		text[]	-- NULL: all
	) WITH (fillfactor = 30, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
END IF; END $$;

-- Replays: events that fetch() returns again, before all others.
DO $$ BEGIN IF to_regclass('humcli.replays') IS NULL THEN
	CREATE TABLE humcli.replays (
		subscription	text COLLATE "C" NOT NULL REFERENCES humcli.subscriptions ON DELETE CASCADE,
		place		bigint GENERATED ALWAYS AS IDENTITY,
		event_id	bigint NOT NULL,
		PRIMARY KEY (subscription, place),
		UNIQUE (event_id, subscription)
	);
END IF; END $$;

-- Jobs and dead letters of the pools. A completed job has no row.
DO $$ BEGIN IF to_regclass('humcli.jobs') IS NULL THEN
	CREATE TABLE humcli.jobs (
		subscription	text COLLATE "C" NOT NULL REFERENCES humcli.subscriptions ON DELETE CASCADE,
		event_id	bigint NOT NULL,
		task_id		text COLLATE "C" NOT NULL,
		occurred_at	timestamptz NOT NULL,
		due		timestamptz NOT NULL DEFAULT clock_timestamp(),	-- the lease's end, if claimed
		worker		text,	-- NULL: not claimed
		claim_no	bigint GENERATED BY DEFAULT AS IDENTITY,	-- new with each claim
		attempts	int NOT NULL DEFAULT 0,
		error		text,
		PRIMARY KEY (subscription, event_id)
	) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
		autovacuum_vacuum_cost_delay = 0);
	CREATE INDEX jobs_due ON humcli.jobs (subscription, due, event_id);
	CREATE INDEX jobs_task ON humcli.jobs (subscription, task_id, occurred_at, event_id);
	CREATE INDEX jobs_event ON humcli.jobs (event_id);
	CREATE TABLE humcli.dead (
		subscription	text COLLATE "C" NOT NULL REFERENCES humcli.subscriptions ON DELETE CASCADE,
		event_id	bigint NOT NULL,
		attempts	int NOT NULL,
		error		text,
		died_at		timestamptz NOT NULL DEFAULT clock_timestamp(),
		PRIMARY KEY (subscription, event_id)
	);
	CREATE INDEX dead_event ON humcli.dead (event_id);
	CREATE INDEX jobs_out ON humcli.jobs (subscription, task_id, due) WHERE worker IS NOT NULL;
END IF; END $$;

-- The event types of HumCLI's documentation. No constraint refers to this table,
-- so an unknown status is recorded. The API names two fields with times; when you
-- learn another name, set timestamp_field by an UPDATE. An upgrade keeps it.
DO $$ BEGIN IF to_regclass('humcli.statuses') IS NULL THEN
	CREATE TABLE humcli.statuses (
		status		text COLLATE "C" PRIMARY KEY,
		event		text NOT NULL,
		trigger		text NOT NULL,
		terminal	boolean NOT NULL,
		timestamp_field	text	-- of an answer of HumCLI's API: when the task got this status
	);
END IF; END $$;
INSERT INTO humcli.statuses AS s (status, event, trigger, terminal, timestamp_field) VALUES
	('PENDING', 'Estimate rejected', 'you rejected the estimate', false, 'created_at'),
	('ESTIMATE_PENDING', 'Operator accepted', 'operator submitted time estimate', false, NULL),
	('ACCEPTED', 'Estimate approved', 'you approved the estimate', false, 'accepted_at'),
	('IN_PROGRESS', 'Work started', 'operator started working', false, NULL),
	('SUBMITTED', 'Proof submitted', 'operator submitted proof', false, NULL),
	('VERIFIED', 'Auto-verified', 'AI Guardian approved', false, NULL),
	('COMPLETED', 'Completed', 'task finalized, escrow released', true, NULL),
	('MANUAL_REVIEW', 'Manual review needed', 'AI Guardian confidence too low', false, NULL),
	('DISPUTED', 'Disputed', 'you rejected the proof', false, NULL),
	('CANCELLED', 'Cancelled', 'you cancelled the task', true, NULL)
ON CONFLICT (status) DO UPDATE
	SET event = EXCLUDED.event, trigger = EXCLUDED.trigger, terminal = EXCLUDED.terminal;

-- Readings: the answers of HumCLI's API to a question about one task, whole. A body
-- that is no JSON is kept as a JSON string; NULL: there is no body that can be kept.
DO $$ BEGIN IF to_regclass('humcli.readings') IS NULL THEN
	CREATE TABLE humcli.readings (
		id		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		task_id		text COLLATE "C" NOT NULL,
		read_at		timestamptz NOT NULL DEFAULT clock_timestamp(),
		http_status	int NOT NULL,
		body		json,
		key_name	text NOT NULL
	);
	CREATE INDEX readings_task ON humcli.readings (task_id, read_at);
END IF; END $$;

-- Runs of humcli-webhook reconcile that asked HumCLI, one row each.
DO $$ BEGIN IF to_regclass('humcli.reconcile_runs') IS NULL THEN
	CREATE TABLE humcli.reconcile_runs (
		id		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		started_at	timestamptz NOT NULL,
		ended_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
		requests	int NOT NULL,	-- to HumCLI
		tasks		int NOT NULL,	-- whose status HumCLI told
		repaired	int NOT NULL,	-- events recorded
		denied		int NOT NULL,	-- tasks that no key may read
		fault		text		-- why the run is not whole; NULL: it is
	);
	CREATE INDEX reconcile_runs_ended_at ON humcli.reconcile_runs (ended_at);
END IF; END $$;
-- Returns the event types of a task, with one look-up each, however many events
-- the task has. With them, a time can be looked up in the index of the history.
CREATE OR REPLACE FUNCTION humcli.event_types(p_task_id text)
RETURNS text[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- see functions/record/record_batch.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
	type text COLLATE "C";
	types text[] := '{}';
BEGIN
	SELECT e.event INTO type FROM humcli.events e WHERE e.task_id = p_task_id ORDER BY e.event LIMIT 1;
	WHILE FOUND LOOP
		types := types || type;
		SELECT e.event INTO type FROM humcli.events e
		WHERE e.task_id = p_task_id AND e.event > type
		ORDER BY e.event LIMIT 1;
	END LOOP;
	RETURN types;
END $$;
-- Returns the latest occurred_at of a task's events before a time; NULL if there is
-- none. p_types is event_types(p_task_id).
CREATE OR REPLACE FUNCTION humcli.time_before(p_task_id text, p_types text[], p_time timestamptz)
RETURNS timestamptz
LANGUAGE sql STABLE
AS $$
	SELECT max(n.occurred_at)
	FROM unnest(p_types) t (event)
	CROSS JOIN LATERAL (
		SELECT e.occurred_at FROM humcli.events e
		WHERE e.task_id = p_task_id AND e.event = t.event AND e.occurred_at < p_time
		ORDER BY e.occurred_at DESC LIMIT 1
	) n
$$;
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
-- Returns whether reconcile read this status of a task from HumCLI's API between two
-- times; p_from is NULL if there is no earlier limit.
CREATE OR REPLACE FUNCTION humcli.is_status_read(
	p_task_id text,
	p_status text,
	p_from timestamptz,
	p_until timestamptz
)
RETURNS boolean
LANGUAGE sql STABLE
AS $$
	SELECT EXISTS (
		SELECT FROM humcli.events e
		WHERE e.task_id = p_task_id AND e.event = 'api.status_read' AND e.status = p_status
			AND e.occurred_at BETWEEN coalesce(p_from, '-infinity') AND p_until)
$$;
-- The views. An existing view is not replaced, because that would wait for its
-- readers, and they could wait for us. An upgrade replaces only the views that
-- it changes. It does not drop them, because sessions that record now have the
-- old view in a cached plan.

-- All deliveries: events, repeats, and the row that purge() left of a retired
-- task.
DO $$ BEGIN IF to_regclass('humcli.deliveries') IS NULL THEN
	CREATE VIEW humcli.deliveries AS
	SELECT e.task_id, e.event, e.occurred_at, e.status, e.previous_status,
		e.id AS event_id, NULL::bigint AS repeat_id
	FROM humcli.events e
	UNION ALL
	SELECT r.task_id, r.event, r.occurred_at, r.status, r.previous_status,
		NULL::bigint, r.id
	FROM humcli.repeats r
	UNION ALL
	SELECT t.task_id, t.event, t.occurred_at, t.status, t.previous_status,
		t.event_id, NULL::bigint
	FROM humcli.retired t;
END IF; END $$;

-- Timeline: the history of each task in order. Events with equal times are ordered
-- by order_equal_times(), which the view calls once for each such group: a row
-- comes after the rows that it follows from.
DO $$ BEGIN IF to_regclass('humcli.timeline') IS NULL THEN
	CREATE VIEW humcli.timeline AS
	SELECT t.task_id,
		row_number() OVER (PARTITION BY t.task_id ORDER BY t.occurred_at, t.rank, t.id) AS place,
		t.id, t.event, t.status, t.previous_status, t.occurred_at,
		t.received_at, t.recorded_at,
		t.first_of_status, s.event AS meaning, s.trigger, s.terminal, t.secret_name, t.payload
	FROM (
		-- max() is of one array and NULLs. As an aggregate it evaluates its
		-- argument once a row; first_value() would do so for each row again.
		SELECT e.*,
			array_position(max(CASE WHEN e.at_once > 1 AND e.nth = 1
				THEN humcli.order_equal_times(e.task_id, e.occurred_at) END)
				OVER (PARTITION BY e.task_id, e.occurred_at), e.id) AS rank
		FROM (
			SELECT v.*, count(*) OVER (PARTITION BY v.task_id, v.occurred_at) AS at_once,
				row_number() OVER (PARTITION BY v.task_id, v.occurred_at ORDER BY v.id) AS nth
			FROM humcli.events v
		) e
	) t
	LEFT JOIN humcli.statuses s ON s.status = t.status
	ORDER BY t.task_id, t.occurred_at, t.rank, t.id;
END IF; END $$;

-- Gaps: events whose previous_status is not the status recorded before them. A
-- task's first event is a gap only if its previous_status is not PENDING, because
-- tasks begin there. An event without previous_status is no gap. A gap closes
-- when the missing event arrives. kind is 'start' if no event is recorded before
-- it, 'hole' if another one is. The tasks of send and probe (task_test_...) have
-- none.
--
-- A status that reconcile read is a gap of its own, of kind 'read', until the webhook
-- of that status arrives. It is left out between other events, because nobody knows
-- which of them it missed. An event that follows on it has no further gap.
DO $$ BEGIN IF to_regclass('humcli.gaps') IS NULL THEN
	CREATE VIEW humcli.gaps AS
	SELECT g.task_id, CASE WHEN g.was_read THEN 'read' WHEN g.status_before IS NULL THEN 'start' ELSE 'hole' END AS kind,
		g.place, g.id, g.event, g.previous_status, g.status, g.occurred_at,
		g.status_before, g.id_before, g.occurred_before
	FROM (
		SELECT l.task_id, l.place, l.id, l.event, l.previous_status, l.status, l.occurred_at,
			l.event = 'api.status_read' AS was_read,
			CASE WHEN l.event = 'api.status_read' THEN l.previous_status
				ELSE coalesce(lag(l.status) OVER w, r.status) END AS status_before,
			CASE WHEN l.event <> 'api.status_read'
				THEN coalesce(lag(l.id) OVER w, r.event_id) END AS id_before,
			CASE WHEN l.event <> 'api.status_read'
				THEN coalesce(lag(l.occurred_at) OVER w, r.occurred_at) END AS occurred_before
		FROM humcli.timeline l
		LEFT JOIN humcli.retired r ON r.task_id = l.task_id
		WINDOW w AS (PARTITION BY l.task_id, l.event = 'api.status_read' ORDER BY l.place)
	) g
	WHERE CASE WHEN g.was_read
		THEN NOT EXISTS (SELECT FROM humcli.events e
			WHERE e.task_id = g.task_id AND e.status = g.status AND e.id > g.id
				AND e.event <> 'api.status_read')
		ELSE g.previous_status <> coalesce(g.status_before, 'PENDING')
			AND NOT humcli.is_status_read(g.task_id, g.previous_status, g.occurred_before, g.occurred_at)
		END
		AND strpos(g.task_id, 'task_test_') <> 1
	ORDER BY g.task_id, g.place;
END IF; END $$;

-- Tasks: the current status of each task, which is the last row of its timeline.
DO $$ BEGIN IF to_regclass('humcli.tasks') IS NULL THEN
	CREATE VIEW humcli.tasks AS
	SELECT DISTINCT ON (l.task_id)
		l.task_id, l.status, l.previous_status, l.occurred_at, l.id, l.event,
		l.meaning, l.trigger, l.terminal, l.place AS events,
		l.secret_name
	FROM humcli.timeline l
	ORDER BY l.task_id, l.place DESC;
END IF; END $$;
-- Advances the identity sequence of a table beyond the table's largest value if
-- it is behind, and logs that. A sequence is behind after a data-only restore or
-- a switch-over of logical replication. It would then assign values a second
-- time.
--
-- Called before rows are added. Values assigned by running transactions are never
-- assigned again, because nextval() only goes forward. A large distance is crossed
-- by setval(), one process at a time; no process is assigned that many values meanwhile.
-- The message is in PostgreSQL's log, and goes to the client, which logs it as well.
CREATE OR REPLACE FUNCTION humcli.repair_identity(p_table text, p_column text DEFAULT 'id')
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = log
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
	max_steps constant int := 10000;
	sequence constant regclass := pg_get_serial_sequence(format('humcli.%I', p_table), p_column)::regclass;
	largest bigint;
	behind bigint;
BEGIN
	EXECUTE format('SELECT max(t.%I) FROM humcli.%I t', p_column, p_table) INTO largest;
	IF largest <= coalesce(pg_sequence_last_value(sequence), 0) OR largest IS NULL THEN
		RETURN;
	END IF;

	PERFORM pg_advisory_xact_lock(1752526180, sequence::oid::int);
	behind := largest - coalesce(pg_sequence_last_value(sequence), 0);
	IF behind > max_steps THEN
		PERFORM setval(sequence, largest);
	ELSE
		WHILE nextval(sequence) < largest LOOP
			NULL;
		END LOOP;
	END IF;
	RAISE LOG 'humcli: the sequence of humcli.%.% was behind its table; it continues after %',
		p_table, p_column, largest
		USING HINT = 'This is usual after a data-only restore or a switch-over of logical replication.';
END $$;
-- Returns the identity columns, as table.column, whose sequence is behind the
-- table, so that it would assign values a second time. Anyone who may record or
-- read may ask, for humcli-webhook doctor; see repair_identity().
CREATE OR REPLACE FUNCTION humcli.identities_behind()
RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	x record;
	largest bigint;
	behind text[] := '{}';
BEGIN
	FOR x IN
		SELECT c.relname AS table, a.attname AS column,
			pg_get_serial_sequence(c.oid::regclass::text, a.attname)::regclass AS sequence
		FROM pg_class c
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attidentity <> ''
		WHERE c.relnamespace = 'humcli'::regnamespace
		ORDER BY c.relname, a.attname
	LOOP
		EXECUTE format('SELECT max(t.%I) FROM humcli.%I t', x.column, x.table) INTO largest;
		IF largest > coalesce(pg_sequence_last_value(x.sequence), 0) THEN
			behind := behind || format('%s.%s', x.table, x.column);
		END IF;
	END LOOP;
	RETURN behind;
END $$;
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
-- Returns the earliest repeat of a half that an event leaves without an event when
-- it splits a visit. The point is that of the splitting event; the half is the part
-- of the nearest delivery's visit on one side of it. Returns NULL if the half has an
-- event, or if the nearest delivery is an event itself.
--
-- It does not look at each delivery, because the event of a repeat is one of the two
-- neighboring events, see history_neighbor(). If both have the repeat's status and
-- previous_status, the steps in between decide.
CREATE OR REPLACE FUNCTION humcli.eventless_half(
	p_task_id text,
	p_event text,
	p_occurred_at timestamptz,
	p_status text,
	p_later boolean,	-- which side
	p_window interval
)
RETURNS bigint
LANGUAGE plpgsql STABLE
AS $$
DECLARE
	x humcli.deliveries;		-- the nearest delivery
	earlier humcli.deliveries;	-- the nearest event on each side
	later humcli.deliveries;
	mine humcli.deliveries;
	other humcli.deliveries;
	start_id bigint;
BEGIN
	-- Equal times are ordered by the bytes of the status. No third level is
	-- needed, because task, event type, time and status together are unique.
	-- history_neighbor() repeats these statements. A shared function needs each of them, too.
	IF p_later THEN
		SELECT v.* INTO x FROM humcli.deliveries v
		WHERE v.task_id = p_task_id AND v.event = p_event
			AND (v.occurred_at, v.status) > (p_occurred_at, p_status)
		ORDER BY v.occurred_at, v.status
		LIMIT 1;
	ELSE
		SELECT v.* INTO x FROM humcli.deliveries v
		WHERE v.task_id = p_task_id AND v.event = p_event
			AND (v.occurred_at, v.status) < (p_occurred_at, p_status)
		ORDER BY v.occurred_at DESC, v.status DESC
		LIMIT 1;
	END IF;
	IF x.repeat_id IS NULL THEN
		RETURN NULL;
	END IF;

	SELECT v.* INTO earlier FROM humcli.deliveries v
	WHERE v.task_id = p_task_id AND v.event = p_event AND v.event_id IS NOT NULL
		AND (v.occurred_at, v.status) < (p_occurred_at, p_status)
	ORDER BY v.occurred_at DESC, v.status DESC
	LIMIT 1;
	SELECT v.* INTO later FROM humcli.deliveries v
	WHERE v.task_id = p_task_id AND v.event = p_event AND v.event_id IS NOT NULL
		AND (v.occurred_at, v.status) > (p_occurred_at, p_status)
	ORDER BY v.occurred_at, v.status
	LIMIT 1;
	mine := CASE WHEN p_later THEN later ELSE earlier END;
	other := CASE WHEN p_later THEN earlier ELSE later END;

	IF mine.status = x.status AND mine.previous_status IS NOT DISTINCT FROM x.previous_status THEN
		IF other.status IS DISTINCT FROM x.status
			OR other.previous_status IS DISTINCT FROM x.previous_status
			OR greatest(mine.occurred_at, x.occurred_at) - least(mine.occurred_at, x.occurred_at)
				<= p_window
		THEN
			RETURN NULL;
		END IF;
		-- The row behind the last step that is too long, if there is one.
		SELECT s.repeat_id INTO start_id
		FROM (
			SELECT v.occurred_at, v.status, v.repeat_id,
				v.occurred_at - lag(v.occurred_at) OVER (ORDER BY v.occurred_at, v.status) AS step
			FROM humcli.deliveries v
			WHERE v.task_id = p_task_id AND v.event = p_event
				AND v.occurred_at >= least(mine.occurred_at, x.occurred_at)
				AND v.occurred_at <= greatest(mine.occurred_at, x.occurred_at)
				AND v.status = x.status
		) s
		WHERE s.step > p_window
		ORDER BY s.occurred_at DESC, s.status DESC
		LIMIT 1;
		RETURN CASE WHEN FOUND AND p_later THEN x.repeat_id ELSE start_id END;
	END IF;

	IF p_later THEN
		RETURN x.repeat_id;
	END IF;
	SELECT r.id INTO start_id FROM humcli.repeats r
	WHERE r.task_id = p_task_id AND r.event = p_event
		AND r.status = x.status AND r.previous_status IS NOT DISTINCT FROM x.previous_status
		AND (r.occurred_at, r.status) < (p_occurred_at, p_status)
		AND (earlier.task_id IS NULL OR (r.occurred_at, r.status) > (earlier.occurred_at, earlier.status))
	ORDER BY r.occurred_at, r.status
	LIMIT 1;
	RETURN start_id;
END $$;
-- Returns the nearest delivery on one side of a point in a task's history of one
-- event type. event_id is the event of that delivery's visit, on any side;
-- repeat_id is the delivery's own if it is a repeat.
--
-- Each visit has an event. Between two neighboring events there are only repeats of
-- their visits: first those of the earlier one, then those of the later one. So the
-- event of a repeat is one of the two. If only one of them has the repeat's status
-- and previous_status, it is that one. If both have, the repeat's own event_id
-- decides. It may name an event that is no longer a neighbor, because the visit was
-- split. Only then eventless_half() looks at the steps in between.
CREATE OR REPLACE FUNCTION humcli.history_neighbor(
	p_task_id text,
	p_event text,
	p_occurred_at timestamptz,
	p_status text,
	p_later boolean,	-- which side
	p_window interval,
	OUT occurred_at timestamptz,
	OUT status text,
	OUT previous_status text,
	OUT event_id bigint,
	OUT repeat_id bigint
)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
	x humcli.deliveries;		-- the nearest delivery
	earlier humcli.deliveries;	-- the nearest event on each side
	later humcli.deliveries;
	is_earlier boolean;	-- its visit can be that of the event
	is_later boolean;
BEGIN
	-- Equal times are ordered by the bytes of the status. No third level is
	-- needed, because task, event type, time and status together are unique.
	IF p_later THEN
		SELECT v.* INTO x FROM humcli.deliveries v
		WHERE v.task_id = p_task_id AND v.event = p_event
			AND (v.occurred_at, v.status) > (p_occurred_at, p_status)
		ORDER BY v.occurred_at, v.status
		LIMIT 1;
	ELSE
		SELECT v.* INTO x FROM humcli.deliveries v
		WHERE v.task_id = p_task_id AND v.event = p_event
			AND (v.occurred_at, v.status) < (p_occurred_at, p_status)
		ORDER BY v.occurred_at DESC, v.status DESC
		LIMIT 1;
	END IF;
	occurred_at := x.occurred_at;
	status := x.status;
	previous_status := x.previous_status;
	event_id := x.event_id;
	repeat_id := x.repeat_id;
	IF x.repeat_id IS NULL THEN
		RETURN;
	END IF;

	SELECT v.* INTO earlier FROM humcli.deliveries v
	WHERE v.task_id = p_task_id AND v.event = p_event AND v.event_id IS NOT NULL
		AND (v.occurred_at, v.status) < (p_occurred_at, p_status)
	ORDER BY v.occurred_at DESC, v.status DESC
	LIMIT 1;
	SELECT v.* INTO later FROM humcli.deliveries v
	WHERE v.task_id = p_task_id AND v.event = p_event AND v.event_id IS NOT NULL
		AND (v.occurred_at, v.status) > (p_occurred_at, p_status)
	ORDER BY v.occurred_at, v.status
	LIMIT 1;
	is_earlier := earlier.status = x.status AND earlier.previous_status IS NOT DISTINCT FROM x.previous_status;
	is_later := later.status = x.status AND later.previous_status IS NOT DISTINCT FROM x.previous_status;
	IF is_earlier AND is_later THEN
		SELECT r.event_id INTO event_id FROM humcli.repeats r
		WHERE r.id = x.repeat_id AND r.event_id IN (earlier.event_id, later.event_id);
		IF NOT FOUND THEN
			is_earlier := (humcli.eventless_half(p_task_id, p_event, p_occurred_at, p_status,
				p_later, p_window) IS NULL) <> p_later;
			event_id := CASE WHEN is_earlier THEN earlier.event_id ELSE later.event_id END;
		END IF;
	ELSE
		event_id := CASE WHEN is_earlier THEN earlier.event_id WHEN is_later THEN later.event_id END;
	END IF;
END $$;
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
-- Returns the text of an event's notification. The caller shrinks a text of more
-- than 1,000 bytes to the id. The body is a bare expression, so that the planner
-- can inline the call.
CREATE OR REPLACE FUNCTION humcli.notification_payload(
	p_id bigint,
	p_task_id text,
	p_status text,
	p_previous_status text,
	p_first_of_status boolean,
	p_secret_name text
)
RETURNS text
LANGUAGE sql STABLE
AS $$
	SELECT format('{"id":"%s","task_id":%s,"status":%s,"previous_status":%s,"first":%s,"secret":%s}',
		p_id, to_json(p_task_id), to_json(p_status),
		coalesce(to_json(p_previous_status)::text, 'null'), to_json(p_first_of_status),
		coalesce(to_json(p_secret_name)::text, 'null'))
$$;
-- Sends notifications: texts of record_batch() for the channel humcli_events, and
-- others for humcli_gaps. Without any it sends the empty one, {}, which means
-- "look now". A notification is a hint; it may be lost, merged or forged.
--
-- Call this after the commit of the events, in a transaction of its own,
-- because a notifying commit holds a lock of the whole cluster through its
-- fsync and its wait for a standby.
CREATE OR REPLACE FUNCTION humcli.notify(p_events text[], p_gaps text[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- The commit takes the lock after this function has returned, so the
	-- setting must outlive the function. Otherwise a stuck notifying commit of
	-- another application would block our connection.
	PERFORM set_config('lock_timeout', '250ms', true);

	IF coalesce(cardinality(p_events), 0) + coalesce(cardinality(p_gaps), 0) = 0 THEN
		PERFORM pg_notify('humcli_events', '{}');
		RETURN;
	END IF;
	PERFORM pg_notify('humcli_events', unnest(p_events));
	IF cardinality(p_gaps) > 0 THEN
		PERFORM pg_notify('humcli_gaps', unnest(p_gaps));
	END IF;
END $$;
-- Records and notifies the usual event in one plain statement, for a backend
-- that lives for one event, as under plain CGI. There, loading PL/pgSQL and
-- planning the whole rule costs several times the work. An event is usual if it
-- is later than every other event of its task and follows the task's last
-- status, and the task has no repeat and is not retired. Such an event begins a
-- visit, splits none and opens no gap, whatever the window.
--
-- Returns the event's id; NULL if nothing was done. Then call
-- humcli.record_batch(), which has the whole rule, in another transaction.
CREATE OR REPLACE FUNCTION humcli.record_next(
	p_event text,
	p_task_id text,
	p_status text,
	p_previous_status text,
	p_occurred_at timestamptz,
	p_received_at timestamptz,
	p_secret_name text,
	p_signature text,
	p_payload json
)
RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- see functions/record/record_batch.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
	-- The lock of lock_tasks(), if it is free. A statement of its own, so that
	-- the next statement sees every event recorded up to here.
	SELECT set_config('humcli.locked', pg_try_advisory_xact_lock(1752526179, hashtext(p_task_id))::text, true);

	-- Look at the history once, at 17 events of it at most. Decline if the order of
	-- equal times matters, and if the text may be longer than 1,000 bytes.
	INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
		received_at, first_of_status, secret_name, signature, payload)
	SELECT p_event, p_task_id, p_status, nullif(p_previous_status, ''), p_occurred_at,
		p_received_at, h.same IS NULL, p_secret_name, p_signature, p_payload
	FROM (
		SELECT count(*) AS events,
			max(f.occurred_at) FILTER (WHERE f.status = nullif(p_previous_status, '')) AS before,
			max(f.occurred_at) FILTER (WHERE f.status IS DISTINCT FROM nullif(p_previous_status, '')) AS others,
			max(f.occurred_at) FILTER (WHERE f.status = p_status) AS same,
			max(f.occurred_at) FILTER (WHERE f.event <> p_event) AS other_type
		FROM (SELECT v.event, v.status, v.occurred_at FROM humcli.events v
			WHERE v.task_id = p_task_id LIMIT 17) f
	) h
	WHERE h.events < 17 AND current_setting('humcli.locked') = 'true'
		AND current_setting('transaction_isolation') = 'read committed'
		AND current_setting('synchronous_commit') <> 'off'
		AND octet_length(p_task_id) + octet_length(p_status)
			+ coalesce(octet_length(p_previous_status), 0) + octet_length(p_secret_name) <= 150
		AND coalesce((SELECT max(m.id) FROM humcli.events m), 0)
			<= coalesce(pg_sequence_last_value(pg_get_serial_sequence('humcli.events', 'id')), 0)
		AND h.other_type IS NULL
		AND CASE WHEN h.before IS NULL
			THEN h.others IS NULL AND coalesce(nullif(p_previous_status, ''), 'PENDING') = 'PENDING'
			ELSE (h.before > h.others) IS NOT FALSE
				AND p_occurred_at > h.before AND p_status <> p_previous_status END
		AND (SELECT r.id FROM humcli.repeats r WHERE r.task_id = p_task_id LIMIT 1) IS NULL
		AND (SELECT t.event_id FROM humcli.retired t WHERE t.task_id = p_task_id) IS NULL
	ON CONFLICT (task_id, event, occurred_at, status) DO NOTHING
	-- Notify as notify() does. Neither call returns NULL.
	RETURNING CASE WHEN set_config('lock_timeout', '250ms', true) IS NOT NULL
		AND pg_notify('humcli_events', humcli.notification_payload(e.id, p_task_id, p_status,
			nullif(p_previous_status, ''), e.first_of_status, p_secret_name)) IS NOT NULL
		THEN e.id END
$$;
-- The recording rule. Records a batch of signed deliveries.
--
-- Returns a row an input, with its place in the arrays, the outcome, and the id
-- of the visit's event:
--
--	recorded	a new event
--	duplicate	the same task, event type, status and time were recorded
--			before; or the task is retired and the delivery is not
--			later than its retired row, so it is in humcli.late
--	repeat		the same visit delivered again with another time; it is
--			in humcli.repeats, and answered like a duplicate
--	busy		another transaction holds the task's lock: try again
--
-- Also returns two kinds of rows with the place of the input that caused them:
--
--	promoted	a repeat became an event, see below
--	gap		a new gap; id is the event behind it
--
-- The column notification has the text for notify(): of a new event for the channel
-- humcli_events, of a gap for humcli_gaps.
--
-- HumCLI's documentation says: drop a delivery that has the same task_id and
-- status as an earlier one. Taken literally, that rule drops the second
-- ESTIMATE_PENDING of a task whose first estimate was rejected, and the agent
-- waits forever. So the rule applies per visit to a status. Sort all distinct
-- deliveries of one task and event type by time, then by the bytes of the
-- status. A visit is a stretch of one (status, previous_status) without a step
-- longer than p_window. Each visit has a row in humcli.events; its other
-- deliveries are in humcli.repeats.
--
-- This holds in any order of arrival. A delivery next to a neighbor of the same
-- visit is a repeat. Any other delivery is an event. If the two neighbors of an
-- event belong to one visit, the event has split that visit. A half without an
-- event then gets one by the promotion of its earliest repeat.
--
-- Farther apart than the window, the same status again is an event even if
-- nothing is recorded in between, because the transition in between may have
-- been lost.
CREATE OR REPLACE FUNCTION humcli.record_batch(
	p_event text[],
	p_task_id text[],
	p_status text[],
	p_previous_status text[],
	p_occurred_at timestamptz[],
	p_received_at timestamptz[],
	p_secret_name text[],
	p_signature text[],
	p_payload json[],
	p_window interval,
	p_notify boolean DEFAULT false
)
RETURNS TABLE (
	place int,
	outcome text,
	id bigint,
	task_id text,
	status text,
	previous_status text,
	notification text
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Plans are cached for the life of the session. Without these settings a plan
-- made while the tables were small would read them whole when they are large, and
-- a plan with a high cost would be compiled at each call.
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
-- ON CONFLICT names columns; some of them are output columns of this function, too.
#variable_conflict use_column
DECLARE
	class constant int := 1752526179;	-- as in lock_tasks()
	busy text[] := '{}';
	other_tasks text[] := '{}';	-- busy, with several deliveries in this batch, or recorded
	is_behind boolean;	-- the identity sequence
	has_several boolean;
	has_missed boolean;
	is_plain boolean;	-- no text needs an escape in JSON
	appended_tasks text[];	-- recorded by the fast way
	appended_ids bigint[];
	appended_texts text[];	-- notifications
	some_tasks text[];	-- recorded by one pass of the fast way
	some_ids bigint[];
	some_texts text[];
	gap_tasks text[];	-- recorded by the fast way, perhaps behind a gap
	x record;
	before record;
	after record;
	half humcli.repeats;
	retired humcli.retired;
	lost_row boolean := false;
	same_visit_before boolean;
	same_visit_after boolean;
	in_repeats boolean;
	new_ids bigint[] := '{}';	-- recorded by the slow way, or perhaps behind a gap
	new_places int[] := '{}';
	texts text[] := '{}';
	gaps text[] := '{}';
	is_first boolean;
	appended int;
BEGIN
	IF NOT cardinality(p_event) = ALL (ARRAY[cardinality(p_task_id), cardinality(p_status),
		cardinality(p_previous_status), cardinality(p_occurred_at), cardinality(p_received_at),
		cardinality(p_secret_name), cardinality(p_signature), cardinality(p_payload)])
	THEN
		RAISE EXCEPTION 'humcli: the arrays differ in length' USING ERRCODE = 'array_subscript_error';
	END IF;
	IF p_window IS NULL OR p_window < interval '0' THEN
		RAISE EXCEPTION 'humcli: the window is % but must be at least 0', coalesce(p_window::text, 'NULL')
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	-- Under other levels the whole transaction has one snapshot. The rule would
	-- not see events that were recorded while it waited for a lock.
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE EXCEPTION 'humcli: recording needs READ COMMITTED, not %', current_setting('transaction_isolation')
			USING ERRCODE = 'active_sql_transaction',
			HINT = 'Begin the transaction with BEGIN ISOLATION LEVEL READ COMMITTED.';
	END IF;
	-- "recorded" promises a durable commit, whatever the role or the database sets.
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;

	-- An empty previous_status counts as none.
	p_previous_status := array_replace(p_previous_status, '', NULL);

	-- Lock the tasks until the commit, all that are free up to the first that is
	-- not, in the order of lock_tasks(). A statement of its own, so that the
	-- statements below see every event recorded up to here. Also compare the
	-- identity sequence, because a sequence behind its table would assign the ids of
	-- other events. That costs less than an exception block.
	SELECT (SELECT max(e.id) FROM humcli.events e) > coalesce(pg_sequence_last_value(coalesce(
			to_regclass('humcli.events_id_seq'), pg_get_serial_sequence('humcli.events', 'id')::regclass)), 0),
		cardinality(k.keys) < cardinality(p_task_id),
		EXISTS (SELECT FROM unnest(k.keys) AS l (key) WHERE NOT pg_try_advisory_xact_lock(class, l.key)),
		octet_length(to_json(k.names)::text) = octet_length(k.names) + 2	-- the quotes
	INTO is_behind, has_several, has_missed, is_plain
	FROM (SELECT ARRAY(SELECT DISTINCT hashtext(t.id) FROM unnest(p_task_id) AS t (id) ORDER BY 1) AS keys,
		array_to_string(p_task_id || p_status || p_previous_status || p_secret_name, '') AS names
		OFFSET 0) k;
	IF has_missed THEN
		busy := humcli.lock_tasks(p_task_id);
		other_tasks := busy;
	END IF;
	IF has_several THEN
		other_tasks := busy || ARRAY(
			SELECT t.id FROM unnest(p_task_id) AS t (id) GROUP BY t.id HAVING count(*) > 1);
	END IF;
	IF is_behind THEN
		PERFORM humcli.repair_identity('events');
	END IF;

	-- The fast way: one statement records each usual event. It is later than every
	-- other event of its task, begins another visit than the last, and follows the
	-- last status. In most batches all deliveries are such, and this costs a third
	-- of the slow way. One look at the history decides. Tasks with more than 16
	-- events, other event types, repeats or a retired row go the slow way. The
	-- second pass records the events that may open a gap. unnest() is in the list of
	-- columns, because in FROM it would copy each array to a tuplestore first.
	FOR pass IN 1..2 LOOP
		WITH inserted AS (
			INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
				received_at, first_of_status, secret_name, signature, payload)
			SELECT i.event, i.task_id, i.status, i.previous_status, i.occurred_at,
				i.received_at, h.same_status IS NULL, i.secret_name, i.signature, i.payload
			FROM (SELECT unnest(p_event) AS event, unnest(p_task_id) AS task_id, unnest(p_status) AS status,
					unnest(p_previous_status) AS previous_status, unnest(p_occurred_at) AS occurred_at,
					unnest(p_received_at) AS received_at, unnest(p_secret_name) AS secret_name,
					unnest(p_signature) AS signature, unnest(p_payload) AS payload
			) i
			CROSS JOIN LATERAL (
				SELECT count(*) AS events,
					max(CASE WHEN f.event = i.event THEN f.occurred_at ELSE 'infinity' END) AS last,
					max(f.occurred_at) FILTER (WHERE f.status = i.status) AS same_status,
					max(f.occurred_at) FILTER (WHERE f.status IS DISTINCT FROM i.previous_status) AS not_previous
				FROM (SELECT v.event, v.status, v.occurred_at FROM humcli.events v
					WHERE v.task_id = i.task_id LIMIT 17) f
			) h
			WHERE i.task_id <> ALL (other_tasks)
				AND CASE WHEN h.events = 0
					THEN pass = 2 OR coalesce(i.previous_status, 'PENDING') = 'PENDING'
					ELSE h.events < 17 AND i.occurred_at > h.last
						AND (h.same_status < h.last OR i.occurred_at - h.same_status > p_window) IS NOT FALSE
						AND (pass = 2 OR i.previous_status IS NULL OR (h.not_previous < h.last) IS NOT FALSE)
						AND NOT EXISTS (SELECT FROM humcli.repeats r WHERE r.task_id = i.task_id)
					END
				AND NOT EXISTS (SELECT FROM humcli.retired t WHERE t.task_id = i.task_id)
			ON CONFLICT (task_id, event, occurred_at, status) DO NOTHING
			RETURNING e.id, e.task_id, CASE WHEN is_plain THEN '{"id":"' || e.id || '","task_id":"' || e.task_id
					|| '","status":"' || e.status
					|| coalesce('","previous_status":"' || e.previous_status || '"', '","previous_status":null')
					|| CASE WHEN e.first_of_status THEN ',"first":true,"secret":"' ELSE ',"first":false,"secret":"' END
					|| e.secret_name || '"}'
				ELSE humcli.notification_payload(e.id, e.task_id, e.status, e.previous_status,
					e.first_of_status, e.secret_name)
				END AS notification
		)
		SELECT array_agg(n.task_id), array_agg(n.id), array_agg(
			CASE WHEN octet_length(n.notification) > 1000 THEN format('{"id":"%s"}', n.id) ELSE n.notification END)
		INTO some_tasks, some_ids, some_texts
		FROM inserted n;

		-- Usually the first pass records every delivery, in this order.
		IF pass = 1 AND some_tasks = p_task_id THEN
			IF p_notify THEN
				PERFORM humcli.notify(some_texts, NULL);
			END IF;
			RETURN QUERY
			SELECT generate_series(1, cardinality(some_ids)), 'recorded', unnest(some_ids),
				NULL, NULL, NULL, unnest(some_texts);
			RETURN;
		END IF;
		other_tasks := other_tasks || some_tasks;
		appended_tasks := appended_tasks || some_tasks;
		appended_ids := appended_ids || some_ids;
		appended_texts := appended_texts || some_texts;
		IF pass = 2 THEN
			gap_tasks := some_tasks;
		END IF;
	END LOOP;

	FOR x IN
		SELECT i.*
		FROM unnest(p_event, p_task_id, p_status, p_previous_status, p_occurred_at,
			p_received_at, p_secret_name, p_signature, p_payload) WITH ORDINALITY
			AS i (event, task_id, status, previous_status, occurred_at,
			received_at, secret_name, signature, payload, place)
		ORDER BY i.place
	LOOP
		place := x.place;
		outcome := 'busy';
		id := NULL;
		task_id := NULL;
		status := NULL;
		previous_status := NULL;
		notification := NULL;

		IF x.task_id = ANY (busy) THEN
			RETURN NEXT;
			CONTINUE;
		END IF;
		appended := array_position(appended_tasks, x.task_id);
		IF appended IS NOT NULL THEN
			outcome := 'recorded';
			id := appended_ids[appended];
			notification := appended_texts[appended];
			texts := texts || notification;
			IF x.task_id = ANY (gap_tasks) THEN
				new_ids := new_ids || id;
				new_places := new_places || place;
			END IF;
			RETURN NEXT;
			CONTINUE;
		END IF;

		-- Not later than the retired row of its task? The history is gone, and
		-- most likely the delivery was in it.
		SELECT t.* INTO retired FROM humcli.retired t WHERE t.task_id = x.task_id;
		IF (x.occurred_at, x.status COLLATE "C") <= (retired.occurred_at, retired.status) THEN
			PERFORM humcli.repair_identity('late');
			INSERT INTO humcli.late (event, task_id, status, previous_status, occurred_at,
				received_at, secret_name, signature, payload)
			VALUES (x.event, x.task_id, x.status, x.previous_status, x.occurred_at,
				x.received_at, x.secret_name, x.signature, x.payload)
			ON CONFLICT (task_id, event, occurred_at, status) DO NOTHING;
			IF NOT FOUND THEN
				PERFORM FROM humcli.late l
				WHERE l.task_id = x.task_id AND l.event = x.event
					AND l.occurred_at = x.occurred_at AND l.status = x.status;
			END IF;
			lost_row := NOT FOUND;
			outcome := 'duplicate';
			EXIT WHEN lost_row;
			RETURN NEXT;
			CONTINUE;
		END IF;

		-- Recorded before, as an event or as a repeat?
		SELECT e.id INTO id FROM humcli.events e
		WHERE e.task_id = x.task_id AND e.event = x.event
			AND e.occurred_at = x.occurred_at AND e.status = x.status;
		IF FOUND THEN
			outcome := 'duplicate';
			RETURN NEXT;
			CONTINUE;
		END IF;
		SELECT r.previous_status INTO before FROM humcli.repeats r
		WHERE r.task_id = x.task_id AND r.event = x.event
			AND r.occurred_at = x.occurred_at AND r.status = x.status;
		in_repeats := FOUND;
		IF in_repeats THEN
			x.previous_status := before.previous_status;
		END IF;

		-- Next to a neighbor of the same visit?
		SELECT * INTO before FROM humcli.history_neighbor(x.task_id, x.event, x.occurred_at, x.status, false, p_window);
		SELECT * INTO after FROM humcli.history_neighbor(x.task_id, x.event, x.occurred_at, x.status, true, p_window);
		same_visit_before := before.status = x.status
			AND before.previous_status IS NOT DISTINCT FROM x.previous_status
			AND x.occurred_at - before.occurred_at <= p_window;
		same_visit_after := after.status = x.status
			AND after.previous_status IS NOT DISTINCT FROM x.previous_status
			AND after.occurred_at - x.occurred_at <= p_window;
		IF in_repeats OR same_visit_before OR same_visit_after THEN
			outcome := CASE WHEN in_repeats THEN 'duplicate' ELSE 'repeat' END;
			id := coalesce(
				CASE WHEN same_visit_before THEN before.event_id END,
				CASE WHEN same_visit_after THEN after.event_id END);
			IF NOT in_repeats THEN
				PERFORM humcli.repair_identity('repeats');
				INSERT INTO humcli.repeats (event, task_id, status, previous_status, occurred_at,
					received_at, secret_name, signature, payload, event_id)
				VALUES (x.event, x.task_id, x.status, x.previous_status, x.occurred_at,
					x.received_at, x.secret_name, x.signature, x.payload, id)
				ON CONFLICT (task_id, event, occurred_at, status) DO NOTHING;
				IF NOT FOUND THEN
					PERFORM FROM humcli.repeats r
					WHERE r.task_id = x.task_id AND r.event = x.event
						AND r.occurred_at = x.occurred_at AND r.status = x.status;
				END IF;
				lost_row := NOT FOUND;
				EXIT WHEN lost_row;
			END IF;
			RETURN NEXT;
			CONTINUE;
		END IF;

		-- An event. The lock excludes other writers; the constraint also
		-- excludes an INSERT that does not take the lock.
		INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
			received_at, first_of_status, secret_name, signature, payload)
		VALUES (x.event, x.task_id, x.status, x.previous_status, x.occurred_at, x.received_at,
			NOT EXISTS (SELECT FROM humcli.events f WHERE f.task_id = x.task_id AND f.status = x.status)
				AND x.status <> ALL (coalesce(retired.statuses, '{}')),
			x.secret_name, x.signature, x.payload)
		ON CONFLICT (task_id, event, occurred_at, status) DO NOTHING
		RETURNING e.id, e.first_of_status INTO id, is_first;
		IF NOT FOUND THEN
			outcome := 'duplicate';
			SELECT e.id INTO id FROM humcli.events e
			WHERE e.task_id = x.task_id AND e.event = x.event
				AND e.occurred_at = x.occurred_at AND e.status = x.status;
			lost_row := NOT FOUND;
			EXIT WHEN lost_row;
			RETURN NEXT;
			CONTINUE;
		END IF;
		outcome := 'recorded';
		notification := humcli.notification_payload(id, x.task_id, x.status, x.previous_status,
			is_first, x.secret_name);
		IF octet_length(notification) > 1000 THEN
			notification := format('{"id":"%s"}', id);
		END IF;
		new_ids := new_ids || id;
		new_places := new_places || place;
		texts := texts || notification;
		RETURN NEXT;

		-- Has the event split a visit and left a half without an event?
		CONTINUE WHEN coalesce(before.repeat_id, after.repeat_id) IS NULL;
		SELECT r.* INTO half FROM humcli.repeats r
		WHERE r.id = coalesce(
			humcli.eventless_half(x.task_id, x.event, x.occurred_at, x.status, false, p_window),
			humcli.eventless_half(x.task_id, x.event, x.occurred_at, x.status, true, p_window));
		CONTINUE WHEN NOT FOUND;
		-- The promoted row has a new id and transaction id, so readers find it.
		WITH promoted AS (
			DELETE FROM humcli.repeats r
			WHERE r.id = half.id
			RETURNING r.*
		)
		INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
			received_at, first_of_status, secret_name, signature, payload)
		SELECT p.event, p.task_id, p.status, p.previous_status, p.occurred_at,
			p.received_at, false, p.secret_name, p.signature, p.payload
		FROM promoted p
		ON CONFLICT (task_id, event, occurred_at, status) DO NOTHING
		RETURNING e.id, e.task_id, e.status, e.previous_status,
			humcli.notification_payload(e.id, e.task_id, e.status, e.previous_status,
				false, e.secret_name)
		INTO id, task_id, status, previous_status, notification;
		IF NOT FOUND THEN
			PERFORM FROM humcli.events e
			WHERE e.task_id = half.task_id AND e.event = half.event
				AND e.occurred_at = half.occurred_at AND e.status = half.status;
			lost_row := NOT FOUND;
			EXIT WHEN lost_row;
			CONTINUE;
		END IF;
		-- The other repeats of that half have this event from now on.
		UPDATE humcli.repeats AS r SET event_id = record_batch.id
		WHERE r.task_id = half.task_id AND r.event = half.event AND r.event_id = half.event_id
			AND (r.occurred_at, r.status) > (half.occurred_at, half.status)
			AND ((r.occurred_at, r.status) < (x.occurred_at, x.status COLLATE "C")
				OR half.occurred_at > x.occurred_at
				OR (half.occurred_at = x.occurred_at AND half.status > x.status COLLATE "C"));
		outcome := 'promoted';
		IF octet_length(notification) > 1000 THEN
			notification := format('{"id":"%s"}', id);
		END IF;
		new_ids := new_ids || id;
		new_places := new_places || place;
		texts := texts || notification;
		RETURN NEXT;
	END LOOP;
	-- A trigger or a rule of the site took a row away without an error. Nobody
	-- may hear that it is recorded.
	IF lost_row THEN
		RAISE EXCEPTION 'humcli: a table took no row, and reported no error'
			USING ERRCODE = 'triggered_data_change_violation',
				HINT = 'A trigger or a rule on the tables of the schema humcli returns nothing. Drop it.';
	END IF;


	-- A commit that writes nothing waits neither for the disk nor for a
	-- synchronous standby. A duplicate is acknowledged as durable, though, and
	-- the first delivery's commit may still be waiting. Write a message, so that
	-- this commit waits for every commit before it.
	IF texts = '{}' THEN
		PERFORM pg_logical_emit_message(true, 'humcli', '');
	END IF;

	status := NULL;
	previous_status := NULL;
	FOR x IN SELECT g.* FROM humcli.opened_gaps(new_ids) g LOOP
		place := new_places[array_position(new_ids, x.cause)];
		outcome := 'gap';
		id := x.id;
		task_id := x.task_id;
		notification := x.notification;
		gaps := gaps || notification;
		RETURN NEXT;
	END LOOP;

	-- A process that records a single event notifies in the same transaction.
	IF p_notify AND texts <> '{}' THEN
		PERFORM humcli.notify(texts, gaps);
	END IF;
END $$;
-- Adds signed bodies that are no events to humcli.quarantine. A repeated body
-- is only counted, so that a sender's retries do not fill the table. Rows are
-- written in the order of the signature; otherwise two calls could deadlock.
CREATE OR REPLACE FUNCTION humcli.quarantine_add(
	p_received_at timestamptz[],
	p_reason text[],
	p_secret_name text[],
	p_signature text[],
	p_body bytea[]
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	written bigint;
BEGIN
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;

	PERFORM humcli.repair_identity('quarantine');
	INSERT INTO humcli.quarantine AS q (received_at, reason, secret_name, signature, body, seen)
	SELECT DISTINCT ON (b.signature)
		b.received_at, b.reason, b.secret_name, b.signature, b.body,
		count(*) OVER (PARTITION BY b.signature)
	FROM unnest(p_received_at, p_reason, p_secret_name, p_signature, p_body)
		WITH ORDINALITY AS b (received_at, reason, secret_name, signature, body, place)
	ORDER BY b.signature, b.place
	ON CONFLICT (signature) DO UPDATE SET seen = q.seen + EXCLUDED.seen;
	GET DIAGNOSTICS written = ROW_COUNT;

	-- A trigger or a rule of the site took a row away without an error.
	IF written < (SELECT count(DISTINCT s.signature) FROM unnest(p_signature) s (signature)) THEN
		RAISE EXCEPTION 'humcli: a table took no row, and reported no error'
			USING ERRCODE = 'triggered_data_change_violation',
				HINT = 'A trigger or a rule on humcli.quarantine returns nothing. Drop it.';
	END IF;
END $$;
-- Records a status that HumCLI's API tells and no webhook did, as an event of its
-- own type, api.status_read. Nobody signed it: secret_name and signature are NULL.
-- p_last_id is the last event of the task's timeline as the caller compared it, or
-- the event_id of its retired row; NULL if there is neither.
--
-- Returns the outcome, the event's id, and the status recorded before:
--
--	recorded	a new event
--	current		the timeline ends in this status already
--	changed		the timeline has another end than p_last_id: compare again
--	busy		another transaction holds the task's lock: try again
--
-- Takes the lock that record_batch() takes. So a webhook is recorded either before
-- this function looks, or after its commit.
--
-- p_occurred_at is the API's own time of the status, NULL if there is none. A time
-- that is not later than the last event belongs to an earlier visit. A time later than
-- the reading is wrong. In both cases the event gets the time of reading; if our clock
-- is behind, the time just after the last event.
CREATE OR REPLACE FUNCTION humcli.record_status_read(
	p_task_id text,
	p_status text,
	p_last_id bigint,
	p_occurred_at timestamptz,
	p_read_at timestamptz,
	p_key_name text,
	p_payload json,
	OUT outcome text,
	OUT id bigint,
	OUT previous_status text
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- see functions/record/record_batch.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
	busy text[];
	retired humcli.retired;
	last_id bigint;
	last_time timestamptz;
	is_first boolean;
	notification text;
BEGIN
	-- See record_batch().
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE EXCEPTION 'humcli: recording needs READ COMMITTED, not %', current_setting('transaction_isolation')
			USING ERRCODE = 'active_sql_transaction',
			HINT = 'Begin the transaction with BEGIN ISOLATION LEVEL READ COMMITTED.';
	END IF;
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;

	-- A statement of its own, so that those below see every event before the lock.
	busy := humcli.lock_tasks(ARRAY[p_task_id]);
	IF busy <> '{}' THEN
		outcome := 'busy';
		RETURN;
	END IF;

	SELECT t.* INTO retired FROM humcli.retired t WHERE t.task_id = p_task_id;
	SELECT t.id, t.status, t.occurred_at INTO last_id, previous_status, last_time
	FROM humcli.tasks t WHERE t.task_id = p_task_id;
	IF NOT FOUND THEN
		last_id := retired.event_id;
		previous_status := retired.status;
		last_time := retired.occurred_at;
	END IF;
	IF previous_status = p_status THEN
		outcome := 'current';
		id := last_id;
		RETURN;
	END IF;
	IF last_id IS DISTINCT FROM p_last_id THEN
		outcome := 'changed';
		id := last_id;
		RETURN;
	END IF;

	-- Later webhooks would be placed before an event of the future.
	IF p_occurred_at > p_read_at + interval '1 minute' THEN
		p_occurred_at := NULL;
	END IF;
	p_occurred_at := CASE
		WHEN last_time IS NULL THEN coalesce(p_occurred_at, p_read_at)
		WHEN p_occurred_at > last_time THEN p_occurred_at
		ELSE greatest(p_read_at, last_time + interval '1 microsecond') END;

	PERFORM humcli.repair_identity('events');
	INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
		received_at, first_of_status, secret_name, signature, payload, key_name)
	VALUES ('api.status_read', p_task_id, p_status, previous_status, p_occurred_at, p_read_at,
		NOT EXISTS (SELECT FROM humcli.events f WHERE f.task_id = p_task_id AND f.status = p_status)
			AND p_status <> ALL (coalesce(retired.statuses, '{}')),
		NULL, NULL, p_payload, p_key_name)
	RETURNING e.id, e.first_of_status INTO id, is_first;
	-- See record_batch().
	IF NOT FOUND THEN
		RAISE EXCEPTION 'humcli: a table took no row, and reported no error'
			USING ERRCODE = 'triggered_data_change_violation',
				HINT = 'A trigger or a rule on the tables of the schema humcli returns nothing. Drop it.';
	END IF;
	outcome := 'recorded';

	notification := humcli.notification_payload(id, p_task_id, p_status, previous_status, is_first, NULL);
	IF octet_length(notification) > 1000 THEN
		notification := format('{"id":"%s"}', id);
	END IF;
	PERFORM humcli.notify(ARRAY[notification],
		ARRAY[format('{"task_id":%s,"kind":"read"}', to_json(p_task_id))]);
END $$;
-- Keeps an answer of HumCLI's API about one task in humcli.readings. A body that
-- is no JSON is kept as a JSON string.
CREATE OR REPLACE FUNCTION humcli.add_reading(
	p_task_id text,
	p_read_at timestamptz,
	p_http_status int,
	p_body text,	-- NULL if it can't be text of this database
	p_key_name text
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kept json;
BEGIN
	BEGIN
		kept := p_body::json;
	EXCEPTION WHEN data_exception OR statement_too_complex THEN
		kept := to_json(p_body);
	END;
	PERFORM humcli.repair_identity('readings');
	INSERT INTO humcli.readings (task_id, read_at, http_status, body, key_name)
	VALUES (p_task_id, p_read_at, p_http_status, kept, p_key_name);
END $$;
-- Keeps that humcli-webhook reconcile ran, for doctor and metrics, and deletes the
-- runs that are older than 90 days.
CREATE OR REPLACE FUNCTION humcli.add_reconcile_run(
	p_started_at timestamptz,
	p_requests int,
	p_tasks int,
	p_repaired int,
	p_denied int,
	p_fault text
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM humcli.repair_identity('reconcile_runs');
	INSERT INTO humcli.reconcile_runs (started_at, requests, tasks, repaired, denied, fault)
	VALUES (p_started_at, p_requests, p_tasks, p_repaired, p_denied, p_fault);
	DELETE FROM humcli.reconcile_runs r WHERE r.ended_at < now() - interval '90 days';
END $$;
-- Returns a payload as jsonb; NULL if jsonb can't hold it. A payload with \u0000 or
-- a lone surrogate is such a one: payload ->> 'x' would fail for the whole query.
-- The function is not PARALLEL SAFE, because its exception block is a
-- subtransaction.
CREATE OR REPLACE FUNCTION humcli.payload(p_payload json)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN p_payload::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
	RETURN NULL;
END $$;
-- Returns the role of the caller: the role chosen by SET ROLE, else the user
-- who logged in. In a SECURITY DEFINER function, current_user is the owner
-- instead.
CREATE OR REPLACE FUNCTION humcli.calling_role()
RETURNS name
LANGUAGE sql STABLE
AS $$
	SELECT CASE current_setting('role') WHEN 'none' THEN session_user
		ELSE current_setting('role')::name END
$$;
-- Returns the transaction id of a row (xmin, 32 bits) in the 64 bits that
-- txid_current() returns. It is the value nearest to the current id.
CREATE OR REPLACE FUNCTION humcli.xid_to_bigint(p_xid xid)
RETURNS bigint
LANGUAGE sql STABLE
AS $$
	SELECT n.present + ((p_xid::text::bigint - n.present % 4294967296 + 6442450944) % 4294967296 - 2147483648)
	FROM (SELECT pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot()) AS present) n
$$;
-- Returns the current snapshot, with our own transaction among the running
-- ones. The server leaves our transaction out, but it may still record events.
CREATE OR REPLACE FUNCTION humcli.complete_snapshot()
RETURNS txid_snapshot
LANGUAGE sql STABLE
AS $$
	SELECT CASE WHEN c.own < txid_snapshot_xmax(c.current) THEN
		format('%s:%s:%s', txid_snapshot_xmin(c.current), txid_snapshot_xmax(c.current),
			(SELECT string_agg(u.xid::text, ',' ORDER BY u.xid)
			FROM (SELECT c.own UNION SELECT txid_snapshot_xip(c.current)) u (xid)))::txid_snapshot
		ELSE c.current END
	FROM (SELECT txid_current_snapshot() AS current, txid_current_if_assigned() AS own) c
$$;
-- Returns the first transaction id that a cursor does not cover.
CREATE OR REPLACE FUNCTION humcli.cursor_horizon(s humcli.subscriptions)
RETURNS bigint
LANGUAGE sql IMMUTABLE
AS $$
	SELECT greatest(pg_catalog.txid_snapshot_xmax(s.done), pg_catalog.txid_snapshot_xmax(s.win))
$$;
-- Returns whether a subscription depends on transaction ids of another cluster,
-- as after a dump was restored in a cluster with fewer transactions. New events
-- would then look like acknowledged ones. humcli.rebase() repairs this.
--
-- A cursor never covers an id above the transaction id of its own row, see
-- save_cursor(). A cursor that does was written in another cluster. This test
-- also works after the counter has caught up. A visible event belongs to a
-- transaction below the end of our snapshot, or to our own transaction.
CREATE OR REPLACE FUNCTION humcli.has_foreign_xids(p_name text)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
	SELECT EXISTS (
		SELECT FROM humcli.subscriptions s
		WHERE s.name = p_name AND humcli.cursor_horizon(s) > humcli.xid_to_bigint(s.xmin)
	) OR coalesce((
		SELECT e.xid FROM humcli.events e
		WHERE e.xid <> coalesce(txid_current_if_assigned(), 0)
		ORDER BY e.xid DESC, e.id DESC
		LIMIT 1
	) >= txid_snapshot_xmax(txid_current_snapshot()), false)
$$;
-- Writes the cursor of a subscription. Only save_cursor() calls this.
CREATE OR REPLACE FUNCTION humcli.update_cursor(s humcli.subscriptions)
RETURNS void
LANGUAGE sql VOLATILE
AS $$
	UPDATE humcli.subscriptions u
	SET done = s.done, win = s.win, win_xid = s.win_xid, win_id = s.win_id,
		generation = s.generation, last_seen = clock_timestamp()
	WHERE u.name = s.name
$$;
-- Stores the cursor of a subscription as it is in s.
--
-- The row is written under a transaction id that is above every id the cursor
-- covers. After a crash or failover, transaction ids that were assigned but not
-- logged are assigned again. A cursor beyond such an id would skip the new
-- events under it. has_foreign_xids() relies on the same rule. A transaction
-- with a smaller id gets a new id from a subtransaction.
CREATE OR REPLACE FUNCTION humcli.save_cursor(s humcli.subscriptions)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF txid_current() >= humcli.cursor_horizon(s) THEN
		PERFORM humcli.update_cursor(s);
		RETURN;
	END IF;
	BEGIN
		PERFORM humcli.update_cursor(s);
	EXCEPTION WHEN assert_failure THEN	-- never raised; makes the block a subtransaction
		RAISE;
	END;
END $$;
-- Returns a subscription that the caller may use. The role that created it, its
-- members and humcli_admin may. Raises an error if the subscription does not
-- exist, belongs to another role, or needs rebase(). p_lock locks the
-- subscription until the end of the transaction:
--
--	work	one consumer at a time
--	change	no other transaction, purge() included
CREATE OR REPLACE FUNCTION humcli.require_subscription(
	p_name text,
	p_lock text DEFAULT NULL,
	p_allow_foreign_xids boolean DEFAULT false	-- accept one that needs rebase()
)
RETURNS humcli.subscriptions
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s humcli.subscriptions;
BEGIN
	SELECT u.* INTO s FROM humcli.subscriptions u WHERE u.name = p_name;
	IF FOUND AND NOT coalesce(pg_has_role(humcli.calling_role(), to_regrole(quote_ident(s.owner)), 'USAGE'), false)
		AND NOT coalesce(pg_has_role(humcli.calling_role(), to_regrole('humcli_admin'), 'USAGE'), false)
	THEN
		RAISE EXCEPTION 'humcli: subscription "%" belongs to role "%"', p_name, s.owner
			USING ERRCODE = 'insufficient_privilege';
	END IF;

	-- Lock the row first and read it afterwards, because the transaction
	-- before ours may have changed it.
	IF p_lock = 'work' THEN
		PERFORM FROM humcli.subscriptions u WHERE u.name = p_name FOR NO KEY UPDATE;
	ELSIF p_lock = 'change' THEN
		PERFORM FROM humcli.subscriptions u WHERE u.name = p_name FOR UPDATE;
	END IF;
	SELECT u.* INTO s FROM humcli.subscriptions u WHERE u.name = p_name;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'humcli: subscription "%" does not exist', p_name
			USING ERRCODE = 'no_data_found',
			HINT = 'Create it with humcli.subscribe().';
	END IF;
	IF NOT p_allow_foreign_xids AND humcli.has_foreign_xids(p_name) THEN
		RAISE EXCEPTION 'humcli: this database was restored from a dump of another cluster'
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'The transaction ids in it are ahead of this cluster''s: new events would be skipped.',
			HINT = 'A member of humcli_admin must run: SELECT humcli.rebase();';
	END IF;
	RETURN s;
END $$;
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
-- Returns whether a subscription's cursor has passed an event.
CREATE OR REPLACE FUNCTION humcli.cursor_has_passed(s humcli.subscriptions, p_xid bigint, p_id bigint)
RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
	SELECT txid_visible_in_snapshot(p_xid, s.done)
		OR s.win IS NOT NULL AND txid_visible_in_snapshot(p_xid, s.win)
			AND (p_xid, p_id) <= (s.win_xid, s.win_id)
$$;
-- Returns whether a subscription is for events of this status and secret name.
CREATE OR REPLACE FUNCTION humcli.subscription_covers(s humcli.subscriptions, p_status text, p_secret_name text)
RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
	SELECT (s.statuses IS NULL OR p_status = ANY (s.statuses))
		AND (s.secrets IS NULL OR p_secret_name = ANY (s.secrets))
$$;
-- Returns a subscription whose window is read to the end, with its next window.
-- Without an event for the subscription there, the cursor is moved past the rows
-- of other statuses and secrets if they are more than 1,000, so that they are not
-- read each time. Returns NULL if there is nothing to change.
CREATE OR REPLACE FUNCTION humcli.open_next_window(s humcli.subscriptions)
RETURNS humcli.subscriptions
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	max_skipped constant int := 1000;
	base constant txid_snapshot := coalesce(s.win, s.done);
	present constant txid_snapshot := humcli.complete_snapshot();
	skipped bigint;
BEGIN
	IF EXISTS (SELECT FROM humcli.unread_events(base, present, 0, 0, s.statuses, s.secrets, 1)) THEN
		s.done := base;
		s.win := present;
	ELSE
		skipped := CASE WHEN coalesce(s.statuses, s.secrets) IS NULL THEN 0 ELSE (
			SELECT count(*) FROM humcli.unread_events(base, present, 0, 0, NULL, NULL, max_skipped + 1)) END;
		IF coalesce(s.statuses, s.secrets) IS NOT NULL AND s.win IS NOT NULL THEN
			skipped := skipped + (
				SELECT count(*) FROM humcli.unread_events(s.done, s.win, s.win_xid, s.win_id, NULL, NULL, max_skipped + 1));
		END IF;
		IF skipped <= max_skipped THEN
			RETURN NULL;
		END IF;
		s.done := present;
		s.win := NULL;
	END IF;
	s.win_xid := 0;
	s.win_id := 0;
	RETURN s;
END $$;
-- Creates a durable subscription: fetch() returns every event from then on,
-- also the events recorded while no consumer runs. It starts 'now' or at the
-- 'beginning' of the recorded events, and covers all statuses or some,
-- and all secret names or some.
--
-- Returns true if the subscription is new; false if it exists, unchanged.
CREATE OR REPLACE FUNCTION humcli.subscribe(
	name text,
	start text DEFAULT 'now',
	statuses text[] DEFAULT NULL,
	secrets text[] DEFAULT NULL
)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s humcli.subscriptions;
BEGIN
	IF subscribe.name IS NULL OR subscribe.name !~ '^[A-Za-z0-9_.-]{1,63}$' THEN
		RAISE EXCEPTION 'humcli: invalid subscription name: must be 1 to 63 letters, digits or _ . -'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF start IS NULL OR start NOT IN ('now', 'beginning') THEN
		RAISE EXCEPTION 'humcli: invalid start: must be "now" or "beginning"'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF cardinality(statuses) = 0 OR array_position(statuses, NULL) IS NOT NULL THEN
		RAISE EXCEPTION 'humcli: invalid statuses: must be a list of names, or NULL for all'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF cardinality(secrets) = 0 OR array_position(secrets, NULL) IS NOT NULL THEN
		RAISE EXCEPTION 'humcli: invalid secrets: must be a list of names, or NULL for all'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF humcli.has_foreign_xids(NULL) THEN
		RAISE EXCEPTION 'humcli: this database was restored from a dump of another cluster'
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'A member of humcli_admin must run: SELECT humcli.rebase();';
	END IF;

	-- '1:1:' is a snapshot from before the first transaction.
	PERFORM humcli.repair_identity('subscriptions', 'generation');
	INSERT INTO humcli.subscriptions AS n (name, owner, statuses, secrets, done)
	VALUES (subscribe.name, humcli.calling_role(), subscribe.statuses, subscribe.secrets, '1:1:')
	ON CONFLICT ON CONSTRAINT subscriptions_pkey DO NOTHING
	RETURNING n.* INTO s;
	IF NOT FOUND THEN
		PERFORM humcli.require_subscription(subscribe.name);	-- raises if it is another role's
		RETURN false;
	END IF;
	IF start = 'now' THEN
		s.done := humcli.complete_snapshot();
		PERFORM humcli.save_cursor(s);
	END IF;
	RETURN true;
END $$;
-- Returns the next events of a subscription, at most max_rows; no row if there
-- is none. An event is returned again until its position is acknowledged: ack()
-- covers one position and every position before it.
--
-- No event is missed, because the cursor is a pair of snapshots. Ids and
-- transaction ids are assigned before the commit, so a cursor made of either
-- would skip events. Every event visible in "done" is acknowledged. "win" is
-- the window being read: the events visible in "win" and not in "done", ordered
-- by transaction id and id, up to a position. At the end of the window, "win"
-- becomes "done", and the current snapshot becomes the next window. A
-- transaction that runs while a window opens is part of a later window.
--
-- Events added by replay() come first.
--
-- In one transaction, fetch(), the caller's writes and ack() happen once or not
-- at all. The subscription is locked meanwhile: a second consumer waits, and
-- then gets the events that follow. A call that finds no event writes nothing.
CREATE OR REPLACE FUNCTION humcli.fetch(name text, max_rows int DEFAULT 100)
RETURNS TABLE (
	"position" text,
	id bigint,
	event text,
	task_id text,
	status text,
	previous_status text,
	occurred_at timestamptz,
	received_at timestamptz,
	recorded_at timestamptz,
	secret_name text,
	payload json,
	signature text
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- see functions/record/record_batch.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
	locked boolean;
	s humcli.subscriptions;
	has_replays boolean;
	has_unread boolean;
	advanced humcli.subscriptions;
BEGIN
	IF max_rows IS NULL OR max_rows < 1 THEN
		RAISE EXCEPTION 'humcli: max_rows is % but must be at least 1', coalesce(max_rows::text, 'NULL')
			USING ERRCODE = 'invalid_parameter_value';
	END IF;

	-- The first pass takes no lock, because a row lock is a write.
	FOREACH locked IN ARRAY ARRAY[false, true] LOOP
		s := humcli.require_subscription("fetch".name, CASE WHEN locked THEN 'work' END);
		IF s.pool THEN
			RAISE EXCEPTION 'humcli: subscription "%" is a worker pool', s.name
				USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Use humcli.claim() in place of humcli.fetch().';
		END IF;
		has_replays := EXISTS (SELECT FROM humcli.replays r WHERE r.subscription = s.name);
		has_unread := s.win IS NOT NULL AND EXISTS (
			SELECT FROM humcli.unread_events(s.done, s.win, s.win_xid, s.win_id, s.statuses, s.secrets, 1));
		advanced := CASE WHEN NOT has_unread THEN humcli.open_next_window(s) END;
		IF NOT has_replays AND NOT has_unread AND advanced.name IS NULL THEN
			RETURN;
		END IF;
	END LOOP;

	IF advanced.name IS NOT NULL THEN
		s := advanced;
		PERFORM humcli.save_cursor(s);
	END IF;

	-- A position has four numbers: the cursor's generation (a seek starts a
	-- new one), the place of the last replayed event, and the transaction id
	-- and id of the last other event. 0 means that there is none.
	RETURN QUERY
	WITH replayed AS (
		SELECT r.place, r.event_id
		FROM humcli.replays r
		JOIN humcli.events e ON e.id = r.event_id
		WHERE r.subscription = s.name
		ORDER BY r.place
		LIMIT max_rows
	), found AS (
		SELECT r.place, 0::bigint AS xid, 0::bigint AS last_id, r.event_id
		FROM replayed r
		UNION ALL
		SELECT coalesce((SELECT max(r.place) FROM replayed r), 0), a.xid, a.id, a.id
		FROM humcli.unread_events(s.done, s.win, s.win_xid, s.win_id, s.statuses, s.secrets,
			max_rows - (SELECT count(*) FROM replayed)) a
		WHERE s.win IS NOT NULL
	)
	SELECT format('%s:%s:%s:%s', s.generation, f.place, f.xid, f.last_id),
		e.id, e.event, e.task_id, e.status, e.previous_status, e.occurred_at,
		e.received_at, e.recorded_at, e.secret_name, e.payload, e.signature
	FROM found f
	JOIN humcli.events e ON e.id = f.event_id
	ORDER BY f.xid, f.last_id, f.place;
END $$;
-- Acknowledges a position that fetch() returned, and every event before it.
--
-- Raises 40001 if the position is acknowledged already or is older than a seek,
-- because another consumer of the subscription was faster. The caller must roll
-- back; otherwise the work that belongs to the event is done twice.
CREATE OR REPLACE FUNCTION humcli.ack(name text, "position" text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
	s humcli.subscriptions;
	n bigint[];
	is_pending boolean;
BEGIN
	IF ack."position" IS NULL OR ack."position" !~ '^[0-9]{1,18}(:[0-9]{1,18}){3}$' THEN
		RAISE EXCEPTION 'humcli: "%" is not a position', coalesce(ack."position", 'NULL')
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Use the column "position" of humcli.fetch().';
	END IF;
	n := string_to_array(ack."position", ':')::bigint[];
	s := humcli.require_subscription(ack.name, 'work');

	is_pending := n[1] = s.generation AND CASE WHEN n[3] = 0
		THEN EXISTS (SELECT FROM humcli.replays r WHERE r.subscription = s.name AND r.place = n[2])
		ELSE s.win IS NOT NULL AND (n[3], n[4]) > (s.win_xid, s.win_id)
			AND txid_visible_in_snapshot(n[3], s.win) AND NOT txid_visible_in_snapshot(n[3], s.done)
		END;
	IF NOT is_pending THEN
		RAISE EXCEPTION 'humcli: this position of subscription "%" is acknowledged already', s.name
			USING ERRCODE = 'serialization_failure',
			HINT = 'Another consumer was faster, or a seek came between. Roll back and fetch again.';
	END IF;

	IF n[2] > 0 THEN
		DELETE FROM humcli.replays r WHERE r.subscription = s.name AND r.place <= n[2];
	END IF;
	IF n[3] > 0 THEN
		s.win_xid := n[3];
		s.win_id := n[4];
	END IF;
	PERFORM humcli.save_cursor(s);
END $$;
-- Adds events for fetch() to return again, to one subscription. Returns how
-- many.
--
-- An event is added if the cursor has passed it and it meets every condition
-- given: ids, a task, statuses, recorded at or after "since", recorded before
-- "until". Events that the cursor has not passed are delivered anyway; statuses
-- and secrets that the subscription excludes stay excluded. fetch() returns added events
-- first, in the order of their ids.
CREATE OR REPLACE FUNCTION humcli.replay(
	name text,
	ids bigint[] DEFAULT NULL,
	task_id text DEFAULT NULL,
	statuses text[] DEFAULT NULL,
	since timestamptz DEFAULT NULL,
	until timestamptz DEFAULT NULL
)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s humcli.subscriptions;
	events bigint;
BEGIN
	IF num_nonnulls(ids, replay.task_id, replay.statuses, since, until) = 0 THEN
		RAISE EXCEPTION 'humcli: can''t replay: no condition is given'
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'To replay every event, use humcli.seek(name, ''beginning'').';
	END IF;
	-- The lock orders the places: a later replay has later places, and ack()
	-- can't cover a place that fetch() has not returned.
	s := humcli.require_subscription(replay.name, 'change');

	PERFORM humcli.repair_identity('replays', 'place');
	-- EXECUTE makes a plan for these values: conditions that are NULL vanish,
	-- and the others use their indexes.
	EXECUTE '
		INSERT INTO humcli.replays (subscription, event_id)
		SELECT ($1).name, e.id
		FROM humcli.events e
		WHERE ($2 IS NULL OR e.id = ANY ($2))
			AND ($3 IS NULL OR e.task_id = $3)
			AND ($4 IS NULL OR e.status = ANY ($4))
			AND ($5 IS NULL OR e.recorded_at >= $5)
			AND ($6 IS NULL OR e.recorded_at < $6)
			AND humcli.subscription_covers($1, e.status, coalesce(e.secret_name, e.key_name))
			AND humcli.cursor_has_passed($1, e.xid, e.id)
		ORDER BY e.id
		ON CONFLICT (event_id, subscription) DO NOTHING'
	USING s, ids, replay.task_id, replay.statuses, since, until;
	GET DIAGNOSTICS events = ROW_COUNT;

	IF events > 0 THEN
		PERFORM pg_notify('humcli_events', '{}');
	END IF;
	RETURN events;
END $$;
-- Moves a subscription to 'now', to the 'beginning' of the recorded events, or
-- back to a time; events recorded from that time on are delivered again.
-- Positions fetched before the seek can no longer be acknowledged.
CREATE OR REPLACE FUNCTION humcli.seek(name text, "to" text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s humcli.subscriptions;
BEGIN
	IF seek."to" IS NULL THEN
		RAISE EXCEPTION 'humcli: invalid place to seek to: must be "now", "beginning" or a time'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	s := humcli.require_subscription(seek.name, 'change');

	DELETE FROM humcli.replays r WHERE r.subscription = seek.name;
	DELETE FROM humcli.jobs j WHERE j.subscription = seek.name;
	s.done := CASE seek."to" WHEN 'beginning' THEN '1:1:' ELSE humcli.complete_snapshot() END;
	s.win := NULL;
	s.win_xid := 0;
	s.win_id := 0;
	s.generation := greatest(nextval(pg_get_serial_sequence('humcli.subscriptions', 'generation')),
		s.generation + 1);
	PERFORM humcli.save_cursor(s);

	IF seek."to" = 'beginning' THEN
		PERFORM pg_notify('humcli_events', '{}');
	ELSIF seek."to" <> 'now' THEN
		PERFORM humcli.replay(seek.name, since => seek."to"::timestamptz);
	END IF;
END $$;
-- Deletes a subscription together with its cursor.
CREATE OR REPLACE FUNCTION humcli.unsubscribe(name text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM humcli.require_subscription(unsubscribe.name, 'change', true);
	DELETE FROM humcli.subscriptions s WHERE s.name = unsubscribe.name;
END $$;
-- Returns whether a task's whole history is older than a time, and no
-- subscription or pool needs an event of it.
CREATE OR REPLACE FUNCTION humcli.task_is_purgeable(
	p_task_id text,
	p_cutoff timestamptz,
	p_subscriptions humcli.subscriptions[]	-- every subscription
)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- see functions/record/record_batch.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
	RETURN NOT EXISTS (
		SELECT FROM humcli.events e
		WHERE e.task_id = p_task_id
			AND (e.recorded_at >= p_cutoff OR e.occurred_at >= p_cutoff
				OR EXISTS (SELECT FROM humcli.replays r WHERE r.event_id = e.id)
				OR EXISTS (SELECT FROM humcli.jobs j WHERE j.event_id = e.id)
				OR EXISTS (SELECT FROM humcli.dead d WHERE d.event_id = e.id)
				OR EXISTS (
					SELECT FROM unnest(p_subscriptions) s
					WHERE humcli.subscription_covers(s, e.status, coalesce(e.secret_name, e.key_name))
						AND NOT humcli.cursor_has_passed(s, e.xid, e.id)))
	) AND NOT EXISTS (
		SELECT FROM humcli.repeats r
		WHERE r.task_id = p_task_id AND (r.recorded_at >= p_cutoff OR r.occurred_at >= p_cutoff)
	);
END $$;
-- Deletes the whole histories of at most max_tasks tasks and returns how many;
-- call it until it returns 0. The history of a task is all its events and
-- repeats. It is deleted once its newest event happened and was recorded longer
-- ago than older_than, and no subscription or pool needs an event of it.
--
-- A row of each task stays in humcli.retired. It is the left neighbor of later
-- deliveries, so that the rule of record_batch() and the gaps stay right.
CREATE OR REPLACE FUNCTION humcli.purge(older_than interval, max_tasks int DEFAULT 1000)
RETURNS int
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cutoff constant timestamptz := now() - older_than;
	subscriptions humcli.subscriptions[];
	tasks text[];
	busy text[];
BEGIN
	IF older_than IS NULL OR older_than < interval '1 day' THEN
		RAISE EXCEPTION 'humcli: older_than is % but must be at least 1 day', coalesce(older_than::text, 'NULL')
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	-- Each task takes an advisory lock; the server has a few thousand.
	IF max_tasks IS NULL OR max_tasks NOT BETWEEN 1 AND 2000 THEN
		RAISE EXCEPTION 'humcli: max_tasks is % but must be from 1 to 2000', coalesce(max_tasks::text, 'NULL')
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE EXCEPTION 'humcli: purging needs READ COMMITTED, not %', current_setting('transaction_isolation')
			USING ERRCODE = 'active_sql_transaction',
			HINT = 'Begin the transaction with BEGIN ISOLATION LEVEL READ COMMITTED.';
	END IF;

	-- This lock blocks seek() and replay() until our commit. Consumers are not
	-- blocked.
	PERFORM FROM humcli.subscriptions s ORDER BY s.name FOR KEY SHARE;
	IF humcli.has_foreign_xids(NULL)
		OR EXISTS (SELECT FROM humcli.subscriptions s WHERE humcli.has_foreign_xids(s.name))
	THEN
		RAISE EXCEPTION 'humcli: this database was restored from a dump of another cluster'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run: SELECT humcli.rebase();';
	END IF;

	subscriptions := ARRAY(SELECT s FROM humcli.subscriptions s);

	-- Tasks in the order of their first recorded row. A task with repeats and
	-- no event has a visit that began before the task was retired.
	tasks := ARRAY(
		(SELECT e.task_id FROM humcli.events e
		WHERE e.recorded_at < cutoff AND e.occurred_at < cutoff
			AND NOT EXISTS (SELECT FROM humcli.events f WHERE f.task_id = e.task_id AND f.id < e.id)
			AND humcli.task_is_purgeable(e.task_id, cutoff, subscriptions)
		ORDER BY e.id
		LIMIT max_tasks)
		UNION ALL
		(SELECT r.task_id FROM humcli.repeats r
		WHERE r.recorded_at < cutoff AND r.occurred_at < cutoff
			AND NOT EXISTS (SELECT FROM humcli.events f WHERE f.task_id = r.task_id)
			AND NOT EXISTS (SELECT FROM humcli.repeats f WHERE f.task_id = r.task_id AND f.id < r.id)
			AND humcli.task_is_purgeable(r.task_id, cutoff, subscriptions)
		ORDER BY r.id
		LIMIT max_tasks)
		LIMIT max_tasks);

	-- Check again in a new statement, because deliveries may have been recorded
	-- while we waited for the locks.
	busy := humcli.lock_tasks(tasks);
	tasks := ARRAY(
		SELECT t.id FROM unnest(tasks) t (id)
		WHERE t.id <> ALL (busy) AND humcli.task_is_purgeable(t.id, cutoff, subscriptions));

	INSERT INTO humcli.retired AS r (task_id, event, occurred_at, status, previous_status, event_id, statuses)
	SELECT DISTINCT ON (d.task_id)
		d.task_id, d.event, d.occurred_at, d.status, d.previous_status,
		coalesce(
			(SELECT e.id FROM humcli.events e
			WHERE e.task_id = d.task_id AND e.event = d.event
			ORDER BY e.occurred_at DESC, e.status DESC LIMIT 1),
			(SELECT o.event_id FROM humcli.retired o WHERE o.task_id = d.task_id)),
		ARRAY(
			SELECT e.status FROM humcli.events e WHERE e.task_id = d.task_id
			UNION
			SELECT unnest(o.statuses) FROM humcli.retired o WHERE o.task_id = d.task_id)
	FROM humcli.deliveries d
	WHERE d.task_id = ANY (tasks)
	ORDER BY d.task_id, d.occurred_at DESC, d.status DESC, d.event DESC
	ON CONFLICT (task_id) DO UPDATE
		SET event = EXCLUDED.event, occurred_at = EXCLUDED.occurred_at, status = EXCLUDED.status,
			previous_status = EXCLUDED.previous_status, event_id = EXCLUDED.event_id,
			statuses = EXCLUDED.statuses, retired_at = EXCLUDED.retired_at;
	DELETE FROM humcli.repeats r WHERE r.task_id = ANY (tasks);
	DELETE FROM humcli.events e WHERE e.task_id = ANY (tasks);
	-- Also the old readings of tasks that nothing is recorded of.
	DELETE FROM humcli.readings r
	WHERE r.task_id = ANY (tasks) OR (r.read_at < cutoff
		AND NOT EXISTS (SELECT FROM humcli.events e WHERE e.task_id = r.task_id));
	RETURN cardinality(tasks);
END $$;
-- Deletes the whole histories of at most max_tasks test tasks and returns how
-- many; call it until it returns 0. "humcli-webhook send" and "probe" name
-- their tasks task_test_...; their age and the subscriptions do not count, and
-- no row of them stays.
CREATE OR REPLACE FUNCTION humcli.purge_tests(max_tasks int DEFAULT 1000)
RETURNS int
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	tasks text[];
	busy text[];
BEGIN
	-- Each task takes an advisory lock; the server has a few thousand.
	IF max_tasks IS NULL OR max_tasks NOT BETWEEN 1 AND 2000 THEN
		RAISE EXCEPTION 'humcli: max_tasks is % but must be from 1 to 2000', coalesce(max_tasks::text, 'NULL')
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE EXCEPTION 'humcli: purging needs READ COMMITTED, not %', current_setting('transaction_isolation')
			USING ERRCODE = 'active_sql_transaction',
			HINT = 'Begin the transaction with BEGIN ISOLATION LEVEL READ COMMITTED.';
	END IF;

	-- The range is that of the prefix; task_id has the collation "C".
	tasks := ARRAY(
		SELECT d.task_id FROM (
			SELECT e.task_id FROM humcli.events e
			UNION SELECT r.task_id FROM humcli.repeats r
			UNION SELECT t.task_id FROM humcli.retired t
			UNION SELECT l.task_id FROM humcli.late l) d
		WHERE d.task_id >= 'task_test_' AND d.task_id < 'task_test`'
		LIMIT max_tasks);
	busy := humcli.lock_tasks(tasks);
	tasks := ARRAY(SELECT t.id FROM unnest(tasks) t (id) WHERE t.id <> ALL (busy));

	DELETE FROM humcli.replays r USING humcli.events e
		WHERE e.task_id = ANY (tasks) AND r.event_id = e.id;
	DELETE FROM humcli.jobs j USING humcli.events e
		WHERE e.task_id = ANY (tasks) AND j.event_id = e.id;
	DELETE FROM humcli.dead d USING humcli.events e
		WHERE e.task_id = ANY (tasks) AND d.event_id = e.id;
	DELETE FROM humcli.repeats r WHERE r.task_id = ANY (tasks);
	DELETE FROM humcli.events e WHERE e.task_id = ANY (tasks);
	DELETE FROM humcli.retired t WHERE t.task_id = ANY (tasks);
	DELETE FROM humcli.readings r WHERE r.task_id = ANY (tasks);
	DELETE FROM humcli.late l WHERE l.task_id = ANY (tasks);
	DELETE FROM humcli.quarantine q WHERE position('task_test_'::bytea IN q.body) > 0;
	RETURN cardinality(tasks);
END $$;
-- Repairs the subscriptions after a dump was restored in a cluster whose
-- transaction counter is behind that of the original cluster. The events that a
-- subscription had not acknowledged are added like a replay, and its cursor is
-- set to now. Returns whether there was anything to repair.
--
-- The numbers of a cursor from another cluster tell nothing about the rows that
-- were recorded here since. Such rows are unread. They are recognised by their
-- xmin: a row recorded here has the transaction id of its column xid, or a
-- slightly younger one if record_batch() was called in a subtransaction. The xmin of
-- a restored row is that of the restore.
CREATE OR REPLACE FUNCTION humcli.rebase()
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s humcli.subscriptions;
	present bigint;
BEGIN
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE EXCEPTION 'humcli: rebase needs READ COMMITTED, not %', current_setting('transaction_isolation')
			USING ERRCODE = 'active_sql_transaction',
			HINT = 'Begin the transaction with BEGIN ISOLATION LEVEL READ COMMITTED.';
	END IF;
	-- No event can be recorded meanwhile, so the new cursors are complete.
	LOCK TABLE humcli.events IN SHARE ROW EXCLUSIVE MODE;
	PERFORM FROM humcli.subscriptions u ORDER BY u.name FOR UPDATE;
	IF NOT humcli.has_foreign_xids(NULL)
		AND NOT EXISTS (SELECT FROM humcli.subscriptions u WHERE humcli.has_foreign_xids(u.name))
	THEN
		RETURN false;
	END IF;
	present := txid_snapshot_xmax(txid_current_snapshot());

	PERFORM humcli.repair_identity('replays', 'place');
	INSERT INTO humcli.replays (subscription, event_id)
	SELECT u.name, e.id
	FROM (SELECT v AS s, v.name, humcli.cursor_horizon(v) > humcli.xid_to_bigint(v.xmin) AS foreign
		FROM humcli.subscriptions v) u
	JOIN humcli.events e ON humcli.subscription_covers(u.s, e.status, coalesce(e.secret_name, e.key_name))
		AND (NOT humcli.cursor_has_passed(u.s, e.xid, e.id)
			OR u.foreign AND humcli.xid_to_bigint(e.xmin) - e.xid BETWEEN 0 AND 65535)
	ORDER BY u.name, e.id
	ON CONFLICT (event_id, subscription) DO NOTHING;

	-- 3 is the first normal transaction id.
	UPDATE humcli.events e SET xid = 3 WHERE e.xid >= present;
	FOR s IN SELECT u.* FROM humcli.subscriptions u LOOP
		s.done := humcli.complete_snapshot();
		s.win := NULL;
		s.win_xid := 0;
		s.win_id := 0;
		s.generation := greatest(nextval(pg_get_serial_sequence('humcli.subscriptions', 'generation')),
			s.generation + 1);
		PERFORM humcli.save_cursor(s);
	END LOOP;
	RETURN true;
END $$;
-- record_batch() and notify() keep one plan for all values. A plan made for the
-- arrays of each call would be the same, and would cost more than the work of a
-- small batch. The setting exists from PostgreSQL 12 on.
DO $$
BEGIN
	IF current_setting('server_version_num')::int >= 120000 THEN
		ALTER FUNCTION humcli.record_batch(text[], text[], text[], text[], timestamptz[], timestamptz[],
			text[], text[], json[], interval, boolean) SET plan_cache_mode = force_generic_plan;
		ALTER FUNCTION humcli.notify(text[], text[]) SET plan_cache_mode = force_generic_plan;
	END IF;
END $$;
-- The view of how far each subscription and pool is. Counts stop at 10,001,
-- "more than 10,000", because a longer count is slow when many events wait. For
-- the same reason a subscription of some statuses or secrets is counted among the next
-- 10,001 rows. "oldest" is the recording time of the first waiting event. The
-- view has a file of its own, because it needs functions, and some functions
-- need the other views.
DO $$ BEGIN IF to_regclass('humcli.subscription_status') IS NULL THEN
	CREATE VIEW humcli.subscription_status AS
	SELECT s.name, s.owner, s.statuses, s.pool,
		least(a.rows + r.rows + j.rows - j.claimed, 10001) AS pending,
		(SELECT e.recorded_at FROM humcli.events e WHERE e.id = least(a.first, j.first)) AS oldest,
		j.claimed, d.rows AS dead, s.last_seen, humcli.has_foreign_xids(s.name) AS needs_rebase,
		s.secrets
	FROM humcli.subscriptions s
	CROSS JOIN LATERAL (
		SELECT count(*) AS rows, min(n.id) AS first
		FROM (
			SELECT w.id, w.status, w.secret_name
			FROM humcli.unread_events(s.done, s.win, s.win_xid, s.win_id, NULL, NULL, 10001) w
			UNION ALL
			SELECT w.id, w.status, w.secret_name
			FROM humcli.unread_events(coalesce(s.win, s.done), txid_current_snapshot(), 0, 0, NULL, NULL, 10001) w
		) n
		WHERE humcli.subscription_covers(s, n.status, n.secret_name)
	) a
	CROSS JOIN LATERAL (
		SELECT count(*) AS rows
		FROM (SELECT FROM humcli.replays p WHERE p.subscription = s.name LIMIT 10001) q
	) r
	CROSS JOIN LATERAL (
		SELECT count(*) AS rows, min(q.event_id) AS first,
			count(*) FILTER (WHERE q.worker IS NOT NULL AND q.due > now()) AS claimed
		FROM (SELECT k.event_id, k.worker, k.due FROM humcli.jobs k
			WHERE k.subscription = s.name ORDER BY k.event_id LIMIT 10001) q
	) j
	CROSS JOIN LATERAL (
		SELECT count(*) AS rows
		FROM (SELECT FROM humcli.dead k WHERE k.subscription = s.name LIMIT 10001) q
	) d
	ORDER BY s.name;
END IF; END $$;
-- Grants each role what it needs and no more; PUBLIC has nothing.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA humcli FROM PUBLIC;

DO $$
BEGIN
	IF (SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'humcli')
		IS DISTINCT FROM to_regrole('humcli_owner')::oid
	THEN
		RETURN;		-- installed without the roles
	END IF;

	GRANT USAGE ON SCHEMA humcli TO humcli_writer, humcli_reader;

	GRANT EXECUTE ON FUNCTION
		humcli.record_batch(text[], text[], text[], text[], timestamptz[], timestamptz[], text[], text[], json[], interval, boolean),
		humcli.record_next(text, text, text, text, timestamptz, timestamptz, text, text, json),
		humcli.notify(text[], text[]),
		humcli.quarantine_add(timestamptz[], text[], text[], text[], bytea[])
		TO humcli_writer;
	GRANT EXECUTE ON FUNCTION
		humcli.record_status_read(text, text, bigint, timestamptz, timestamptz, text, json),
		humcli.add_reading(text, timestamptz, int, text, text),
		humcli.add_reconcile_run(timestamptz, int, int, int, int, text)
		TO humcli_reconciler;
	GRANT EXECUTE ON FUNCTION humcli.identities_behind() TO humcli_writer, humcli_reader;

	GRANT SELECT ON ALL TABLES IN SCHEMA humcli TO humcli_reader;
	-- The functions that a view calls run as the role that reads the view.
	GRANT EXECUTE ON FUNCTION
		humcli.payload(json),
		humcli.event_types(text),
		humcli.order_equal_times(text, timestamptz),
		humcli.is_status_read(text, text, timestamptz, timestamptz),
		humcli.unread_events(txid_snapshot, txid_snapshot, bigint, bigint, text[], text[], bigint),
		humcli.subscription_covers(humcli.subscriptions, text, text),
		humcli.cursor_horizon(humcli.subscriptions),
		humcli.has_foreign_xids(text),
		humcli.xid_to_bigint(xid)
		TO humcli_reader;

	GRANT EXECUTE ON FUNCTION
		humcli.subscribe(text, text, text[], text[]),
		humcli.fetch(text, int),
		humcli.ack(text, text),
		humcli.replay(text, bigint[], text, text[], timestamptz, timestamptz),
		humcli.seek(text, text),
		humcli.unsubscribe(text)
		TO humcli_consumer;

	GRANT EXECUTE ON FUNCTION humcli.purge(interval, int), humcli.purge_tests(int), humcli.rebase() TO humcli_admin;
	GRANT DELETE ON humcli.quarantine, humcli.late TO humcli_admin;
END $$;

COMMIT;
