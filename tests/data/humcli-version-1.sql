-- Installs the schema humcli, or brings it up to date; safe to run again.
--
--	psql -X -v ON_ERROR_STOP=1 -f install.sql
--
-- humcli.sql is this file with its parts put in, for those without psql.
-- ASCII only, so that no client_encoding can change what it says.


BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL lock_timeout = '10s';
SET LOCAL client_min_messages = notice;

-- What must hold before anything is made, and the schema itself.

DO $$
BEGIN
	-- Two installers at once: the second waits, and finds the work done.
	PERFORM pg_advisory_xact_lock(1752526179);

	-- Signed text is kept and compared byte by byte; in any other encoding
	-- the server would convert it, or refuse an event that has an emoji.
	IF getdatabaseencoding() = 'SQL_ASCII' THEN
		RAISE WARNING 'humcli: the encoding of database "%" is SQL_ASCII; UTF8 is better',
			current_database();
	ELSIF getdatabaseencoding() <> 'UTF8' THEN
		RAISE EXCEPTION 'humcli: the encoding of database "%" is %, but UTF8 is needed',
			current_database(), getdatabaseencoding()
			USING ERRCODE = 'feature_not_supported',
			HINT = 'CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0';
	END IF;

	IF to_regnamespace('humcli') IS NULL THEN
		CREATE SCHEMA humcli;
	END IF;
END $$;
-- The roles, and who owns what. Grant them to the users of your own:
--
--	humcli_owner	owns the schema, so that no function of it runs as more
--	humcli_writer	for the responder: may call the recording functions
--	humcli_reader	may read everything
--	humcli_consumer	for listeners
--	humcli_admin	may clean up
--
-- Without the right to create roles (CREATEROLE) they are left out, and
-- everything works as the one user who installs it.

DO $$
DECLARE
	-- From 16 on, a member may be barred from acting as the role.
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
			('humcli_admin', 'IN ROLE humcli_consumer')
		LOOP
			CONTINUE WHEN to_regrole(new.column1) IS NOT NULL;
			BEGIN
				EXECUTE format('CREATE ROLE %I NOLOGIN %s', new.column1, new.column2);
			EXCEPTION
				-- made meanwhile, from another database of this cluster
				WHEN duplicate_object OR unique_violation THEN NULL;
				-- 16 and on: the roles exist, and are another's to grant
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
			'humcli_reader', 'humcli_consumer', 'humcli_admin')) < 5
		OR NOT pg_has_role('humcli_owner', acting)
	THEN
		IF NOT pg_has_role((SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'humcli'), 'USAGE') THEN
			RAISE EXCEPTION 'humcli: the schema humcli of this database belongs to another role than "%"', current_user
				USING ERRCODE = 'insufficient_privilege',
				HINT = 'Install as the one who did so before, as a superuser, or as a member of humcli_owner.';
		END IF;
		RAISE NOTICE 'humcli: user "%" may not create or use the roles humcli_*: roles and grants are skipped, everything works as this one user',
			current_user;
		RETURN;
	END IF;

	-- An installation made without the roles is handed over to their owner.
	IF (SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'humcli') <> 'humcli_owner'::regrole THEN
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

	-- Whatever follows is made by, and belongs to, the owner.
	SET LOCAL ROLE humcli_owner;
END $$;
-- The tables. What is there is not touched, since to touch it would hold up
-- whoever writes at this moment.
--
-- Text that is compared has the collation "C": bytes, the same on every
-- system, and one index then finds duplicates and neighbours.

DO $$ BEGIN IF to_regclass('humcli.schema_version') IS NULL THEN
	CREATE TABLE humcli.schema_version (
		version		int PRIMARY KEY,
		applied_at	timestamptz NOT NULL DEFAULT now()
	);
END IF; END $$;

-- A step from an older version goes here, by what max(version) says.
DO $$
DECLARE
	ours constant int := 1;
	theirs int := (SELECT max(v.version) FROM humcli.schema_version v);
BEGIN
	IF theirs > ours THEN
		RAISE EXCEPTION 'humcli: the schema has version %, this is the installation of version %', theirs, ours
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'A newer humcli-webhook was installed here; use its SQL.';
	END IF;
	INSERT INTO humcli.schema_version (version) VALUES (ours) ON CONFLICT DO NOTHING;
END $$;

-- What happened: each visit of a task to a status (see functions/record.sql).
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
		secret_name	text NOT NULL,
		signature	text NOT NULL,
		payload		json NOT NULL,
		xid		bigint NOT NULL DEFAULT txid_current(),
		UNIQUE (task_id, event, occurred_at, status)
	);
	-- Ids are drawn before the commit: who reads on goes by transaction first.
	CREATE INDEX events_feed ON humcli.events (xid, id);
	CREATE INDEX events_recorded_at ON humcli.events USING brin (recorded_at);
	-- Rows are only ever added: by default vacuum would come by too seldom.
	IF current_setting('server_version_num')::int >= 130000 THEN
		ALTER TABLE humcli.events SET (autovacuum_vacuum_insert_scale_factor = 0.05);
	END IF;
END IF; END $$;

-- Further deliveries of a visit that has its event: not news, but not lost.
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
		UNIQUE (task_id, event, occurred_at, status)
	);
END IF; END $$;

-- Signed, but no event: what the sender was answered 400 or 422 for.
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

-- The event types of HumCLI's documentation. Nothing refers to this table:
-- a status that is not in it is recorded all the same.
DO $$ BEGIN IF to_regclass('humcli.statuses') IS NULL THEN
	CREATE TABLE humcli.statuses (
		status		text COLLATE "C" PRIMARY KEY,
		event		text NOT NULL,
		trigger		text NOT NULL,
		terminal	boolean NOT NULL
	);
END IF; END $$;
INSERT INTO humcli.statuses AS s (status, event, trigger, terminal) VALUES
	('PENDING', 'Estimate rejected', 'you rejected the estimate', false),
	('ESTIMATE_PENDING', 'Operator accepted', 'operator submitted time estimate', false),
	('ACCEPTED', 'Estimate approved', 'you approved the estimate', false),
	('IN_PROGRESS', 'Work started', 'operator started working', false),
	('SUBMITTED', 'Proof submitted', 'operator submitted proof', false),
	('VERIFIED', 'Auto-verified', 'AI Guardian approved', false),
	('COMPLETED', 'Completed', 'task finalized, escrow released', true),
	('MANUAL_REVIEW', 'Manual review needed', 'AI Guardian confidence too low', false),
	('DISPUTED', 'Disputed', 'you rejected the proof', false),
	('CANCELLED', 'Cancelled', 'you cancelled the task', true)
ON CONFLICT (status) DO UPDATE
	SET event = EXCLUDED.event, trigger = EXCLUDED.trigger, terminal = EXCLUDED.terminal;
-- The views. One that is there is not touched: to replace it would wait for
-- those who read it, and they could wait for us. An upgrade that changes one
-- drops it first.

-- Everything delivered that is an event by form: events and repeats together.
DO $$ BEGIN IF to_regclass('humcli.deliveries') IS NULL THEN
	CREATE VIEW humcli.deliveries AS
	SELECT e.task_id, e.event, e.occurred_at, e.status, e.previous_status,
		e.id AS event_id, NULL::bigint AS repeat_id
	FROM humcli.events e
	UNION ALL
	SELECT r.task_id, r.event, r.occurred_at, r.status, r.previous_status,
		NULL::bigint, r.id
	FROM humcli.repeats r;
END IF; END $$;

-- Each task's history in order. What happened in one millisecond is put in
-- order by previous_status: a row comes after those it follows from, and
-- "depth" counts them (a circle ends where it comes back to a row).
DO $$ BEGIN IF to_regclass('humcli.timeline') IS NULL THEN
	CREATE VIEW humcli.timeline AS
	SELECT t.task_id,
		row_number() OVER (PARTITION BY t.task_id ORDER BY t.occurred_at, t.depth, t.id) AS place,
		t.id, t.event, t.status, t.previous_status, t.occurred_at, t.received_at, t.recorded_at,
		t.first_of_status, s.event AS meaning, s.trigger, s.terminal, t.secret_name, t.payload
	FROM (
		SELECT e.*,
			CASE WHEN e.at_once > 1 THEN (
				WITH RECURSIVE cause (previous_status, path) AS (
					SELECT e.previous_status, ARRAY[e.id]
					UNION ALL
					SELECT f.previous_status, c.path || f.id
					FROM cause c
					JOIN humcli.events f ON f.task_id = e.task_id
						AND f.occurred_at = e.occurred_at
						AND f.status = c.previous_status
					WHERE f.id <> ALL (c.path)
				)
				SELECT max(cardinality(c.path)) FROM cause c
			) ELSE 1 END AS depth
		FROM (
			SELECT v.*, count(*) OVER (PARTITION BY v.task_id, v.occurred_at) AS at_once
			FROM humcli.events v
		) e
	) t
	LEFT JOIN humcli.statuses s ON s.status = t.status
	ORDER BY t.task_id, t.occurred_at, t.depth, t.id;
END IF; END $$;

-- Each task as it stands: the last row of its timeline.
DO $$ BEGIN IF to_regclass('humcli.tasks') IS NULL THEN
	CREATE VIEW humcli.tasks AS
	SELECT DISTINCT ON (l.task_id)
		l.task_id, l.status, l.previous_status, l.occurred_at, l.id, l.event,
		l.meaning, l.trigger, l.terminal, l.place AS events
	FROM humcli.timeline l
	ORDER BY l.task_id, l.place DESC;
END IF; END $$;
-- A payload as jsonb; NULL for what jsonb cannot hold, such as \u0000 or a
-- lone surrogate, where payload ->> 'x' would fail for the whole query.
-- (Not PARALLEL SAFE: the exception block is a subtransaction.)
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
-- Looks along a task's history of one event type, from a point in it to one
-- side: the nearest delivery there, and of the visit that this one belongs
-- to, as far as it lies on this side, an event, or else the earliest repeat.
CREATE OR REPLACE FUNCTION humcli.beside(
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
	walk refcursor;
	d humcli.deliveries;
	reached timestamptz;
BEGIN
	-- Bytes of the status decide between equal times. A third level is not
	-- needed: task, event type, time and status together are unique.
	IF p_later THEN
		OPEN walk NO SCROLL FOR
			SELECT v.* FROM humcli.deliveries v
			WHERE v.task_id = p_task_id AND v.event = p_event
				AND (v.occurred_at, v.status) > (p_occurred_at, p_status)
			ORDER BY v.occurred_at, v.status;
	ELSE
		OPEN walk NO SCROLL FOR
			SELECT v.* FROM humcli.deliveries v
			WHERE v.task_id = p_task_id AND v.event = p_event
				AND (v.occurred_at, v.status) < (p_occurred_at, p_status)
			ORDER BY v.occurred_at DESC, v.status DESC;
	END IF;

	FETCH walk INTO d;
	occurred_at := d.occurred_at;
	status := d.status;
	previous_status := d.previous_status;
	reached := d.occurred_at;
	WHILE d.task_id IS NOT NULL
		AND d.status = status AND d.previous_status IS NOT DISTINCT FROM previous_status
		AND greatest(d.occurred_at, reached) - least(d.occurred_at, reached) <= p_window
	LOOP
		IF d.event_id IS NOT NULL THEN
			event_id := d.event_id;
			repeat_id := NULL;
			EXIT;
		END IF;
		IF repeat_id IS NULL OR NOT p_later THEN
			repeat_id := d.repeat_id;
		END IF;
		reached := d.occurred_at;
		FETCH walk INTO d;
	END LOOP;
	CLOSE walk;
END $$;
-- Wakes whoever LISTENs on humcli_events: one notification an event, or an
-- empty one, {}, where no event is named: "look now". It is a hint that may
-- be lost, merged or forged. Called once the events are committed, in a
-- transaction of its own: a commit that notifies holds a lock of the whole
-- cluster through its fsync and its wait for a standby.
CREATE OR REPLACE FUNCTION humcli.notify(p_id bigint[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off	-- a plan made while the table was small stays good
AS $$
BEGIN
	-- The lock is taken by the commit. Another's stuck notifying commit must
	-- not hold up ours, so this setting outlives the function.
	PERFORM set_config('lock_timeout', '250ms', true);

	IF coalesce(cardinality(p_id), 0) = 0 THEN
		PERFORM pg_notify('humcli_events', '{}');
		RETURN;
	END IF;

	PERFORM pg_notify('humcli_events', CASE WHEN octet_length(m.whole) > 1000
		THEN format('{"id":"%s"}', m.id) ELSE m.whole END)
	FROM (
		SELECT e.id, e.whole
		FROM (SELECT DISTINCT unnest(p_id) AS id) n
		CROSS JOIN LATERAL (
			SELECT v.id, format('{"id":"%s","task_id":%s,"status":%s,"previous_status":%s,"first":%s}',
				v.id, to_json(v.task_id), to_json(v.status),
				coalesce(to_json(v.previous_status)::text, 'null'),
				to_json(v.first_of_status)) AS whole
			FROM humcli.events v
			WHERE v.id = n.id
			LIMIT 1		-- keeps it a look-up by the primary key
		) e
		ORDER BY e.id
	) m;
END $$;
-- The recording rule.
--
-- Records a batch of signed deliveries and returns a row an input: its place
-- in the arrays, the outcome, and the id of the event:
--
--	recorded	a new event
--	duplicate	the same task, event type, status and time were here before
--	repeat		the same visit delivered again with another time; kept
--			in humcli.repeats, and answered like a duplicate
--	busy		another transaction holds the task: try once more
--
-- and a row a promotion (below), with the place of the input that caused it.
--
-- HumCLI says: drop what has the same task_id and status, against repeated
-- delivery. To the letter that drops the second ESTIMATE_PENDING of a task
-- whose first estimate was rejected, and its owner waits for ever. So the
-- rule holds per visit to a status. Put all distinct deliveries of one task
-- and event type in order, by time, then by the bytes of the status: a visit
-- is a stretch of one (status, previous_status) without a step longer than
-- p_window. Each visit has a row in humcli.events, the other deliveries of
-- it are in humcli.repeats.
--
-- That holds in whatever order they arrive:
--  - Beside a neighbour of the same visit, a delivery is a repeat.
--  - Else it is an event, and if its neighbours were of one visit, it has
--    split that in two. The half that is left without an event gets one, by
--    promotion of its earliest repeat: a transition that was taken for a
--    repeat is news after all.
-- Farther apart than the window, the same status again is an event even with
-- nothing in between: what was in between may have been lost on the way.
CREATE OR REPLACE FUNCTION humcli.record(
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
	previous_status text
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Plans are kept for the life of the session, also one made while the tables
-- were empty and reading them whole was cheapest: let it be by index always.
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
DECLARE
	busy text[];
	fresh bigint[];		-- by place: the id, where the task is new
	x record;
	before record;
	after record;
	beside_before boolean;
	beside_after boolean;
	known boolean;
	news bigint[] := '{}';
BEGIN
	IF NOT cardinality(p_event) = ALL (ARRAY[cardinality(p_task_id), cardinality(p_status),
		cardinality(p_previous_status), cardinality(p_occurred_at), cardinality(p_received_at),
		cardinality(p_secret_name), cardinality(p_signature), cardinality(p_payload)])
	THEN
		RAISE EXCEPTION 'humcli: the arrays are not of one length' USING ERRCODE = 'array_subscript_error';
	END IF;
	IF p_window IS NULL OR p_window < interval '0' THEN
		RAISE EXCEPTION 'humcli: the window is % but cannot be', coalesce(p_window::text, 'NULL')
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	-- With one snapshot for the whole transaction, what another one recorded
	-- while we waited for its lock would stay unseen.
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE EXCEPTION 'humcli: recording needs READ COMMITTED, not %', current_setting('transaction_isolation')
			USING ERRCODE = 'active_sql_transaction';
	END IF;
	-- Recorded means durable, whatever the role or the database has set.
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;

	-- One task, one writer, until the commit. A statement of its own, so that
	-- those below see what others have recorded up to here.
	busy := humcli.lock_tasks(p_task_id);

	-- The first delivery of a task is an event, and most tasks of a full
	-- batch are new: all those at once. (As scalar subqueries the look-ups
	-- cannot become joins, which might read the tables whole.)
	WITH input AS (
		SELECT i.*, count(*) OVER (PARTITION BY i.task_id) = 1 AS alone
		FROM unnest(p_event, p_task_id, p_status, p_previous_status, p_occurred_at,
			p_received_at, p_secret_name, p_signature, p_payload) WITH ORDINALITY
			AS i (event, task_id, status, previous_status, occurred_at,
			received_at, secret_name, signature, payload, place)
	), inserted AS (
		INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
			received_at, first_of_status, secret_name, signature, payload)
		SELECT i.event, i.task_id, i.status, i.previous_status, i.occurred_at,
			i.received_at, true, i.secret_name, i.signature, i.payload
		FROM input i
		WHERE i.alone AND i.task_id <> ALL (busy)
			AND (SELECT v.id FROM humcli.events v WHERE v.task_id = i.task_id LIMIT 1) IS NULL
			AND (SELECT r.id FROM humcli.repeats r WHERE r.task_id = i.task_id LIMIT 1) IS NULL
		ORDER BY i.place
		ON CONFLICT DO NOTHING
		RETURNING e.id, e.task_id
	)
	SELECT array_agg(n.id ORDER BY i.place) INTO fresh
	FROM input i LEFT JOIN inserted n ON n.task_id = i.task_id;

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

		IF x.task_id = ANY (busy) THEN
			RETURN NEXT;
			CONTINUE;
		END IF;
		IF fresh[x.place] IS NOT NULL THEN
			outcome := 'recorded';
			id := fresh[x.place];
			news := news || id;
			RETURN NEXT;
			CONTINUE;
		END IF;

		-- The same again?
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
		known := FOUND;
		IF known THEN
			x.previous_status := before.previous_status;
		END IF;

		-- Beside a neighbour of the same visit?
		SELECT * INTO before FROM humcli.beside(x.task_id, x.event, x.occurred_at, x.status, false, p_window);
		SELECT * INTO after FROM humcli.beside(x.task_id, x.event, x.occurred_at, x.status, true, p_window);
		beside_before := before.status = x.status
			AND before.previous_status IS NOT DISTINCT FROM x.previous_status
			AND x.occurred_at - before.occurred_at <= p_window;
		beside_after := after.status = x.status
			AND after.previous_status IS NOT DISTINCT FROM x.previous_status
			AND after.occurred_at - x.occurred_at <= p_window;
		IF known OR beside_before OR beside_after THEN
			outcome := CASE WHEN known THEN 'duplicate' ELSE 'repeat' END;
			id := coalesce(
				CASE WHEN beside_before THEN before.event_id END,
				CASE WHEN beside_after THEN after.event_id END);
			IF NOT known THEN
				INSERT INTO humcli.repeats (event, task_id, status, previous_status, occurred_at,
					received_at, secret_name, signature, payload)
				VALUES (x.event, x.task_id, x.status, x.previous_status, x.occurred_at,
					x.received_at, x.secret_name, x.signature, x.payload)
				ON CONFLICT DO NOTHING;
			END IF;
			RETURN NEXT;
			CONTINUE;
		END IF;

		-- An event. The lock keeps others out, unless somebody writes by hand:
		-- then the constraint does.
		INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
			received_at, first_of_status, secret_name, signature, payload)
		VALUES (x.event, x.task_id, x.status, x.previous_status, x.occurred_at, x.received_at,
			NOT EXISTS (SELECT FROM humcli.events f WHERE f.task_id = x.task_id AND f.status = x.status),
			x.secret_name, x.signature, x.payload)
		ON CONFLICT DO NOTHING
		RETURNING e.id INTO id;
		IF NOT FOUND THEN
			outcome := 'duplicate';
			SELECT e.id INTO id FROM humcli.events e
			WHERE e.task_id = x.task_id AND e.event = x.event
				AND e.occurred_at = x.occurred_at AND e.status = x.status;
			RETURN NEXT;
			CONTINUE;
		END IF;
		outcome := 'recorded';
		news := news || id;
		RETURN NEXT;

		-- Has it split a visit, and left a half without an event? That half
		-- names its earliest repeat; a whole visit has an event, and names none.
		CONTINUE WHEN coalesce(before.repeat_id, after.repeat_id) IS NULL;
		-- The id and the transaction of the promoted row are new: readers find it.
		WITH promoted AS (
			DELETE FROM humcli.repeats r
			WHERE r.id = coalesce(before.repeat_id, after.repeat_id)
			RETURNING r.*
		)
		INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
			received_at, first_of_status, secret_name, signature, payload)
		SELECT p.event, p.task_id, p.status, p.previous_status, p.occurred_at,
			p.received_at, false, p.secret_name, p.signature, p.payload
		FROM promoted p
		ON CONFLICT DO NOTHING
		RETURNING e.id, e.task_id, e.status, e.previous_status
		INTO id, task_id, status, previous_status;
		CONTINUE WHEN NOT FOUND;
		outcome := 'promoted';
		news := news || id;
		RETURN NEXT;
	END LOOP;

	-- Where a process brings a single event, one transaction is enough.
	IF p_notify AND news <> '{}' THEN
		PERFORM humcli.notify(news);
	END IF;
END $$;
-- Keeps signed bodies that are no events. A body that comes again is only
-- counted, so that nobody's retries fill the table. In the order of the
-- signature, so that two calls with the same ones do not deadlock.
CREATE OR REPLACE FUNCTION humcli.set_aside(
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
BEGIN
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;

	INSERT INTO humcli.quarantine AS q (received_at, reason, secret_name, signature, body, seen)
	SELECT DISTINCT ON (b.signature)
		b.received_at, b.reason, b.secret_name, b.signature, b.body,
		count(*) OVER (PARTITION BY b.signature)
	FROM unnest(p_received_at, p_reason, p_secret_name, p_signature, p_body)
		WITH ORDINALITY AS b (received_at, reason, secret_name, signature, body, place)
	ORDER BY b.signature, b.place
	ON CONFLICT (signature) DO UPDATE SET seen = q.seen + EXCLUDED.seen;
END $$;
-- Who may do what. Nothing for PUBLIC; with the roles, this and no more.

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
		humcli.record(text[], text[], text[], text[], timestamptz[], timestamptz[], text[], text[], json[], interval, boolean),
		humcli.notify(bigint[]),
		humcli.set_aside(timestamptz[], text[], text[], text[], bytea[])
		TO humcli_writer;

	GRANT SELECT ON ALL TABLES IN SCHEMA humcli TO humcli_reader;
	GRANT EXECUTE ON FUNCTION humcli.payload(json) TO humcli_reader;

	GRANT DELETE ON humcli.quarantine TO humcli_admin;
END $$;

COMMIT;
