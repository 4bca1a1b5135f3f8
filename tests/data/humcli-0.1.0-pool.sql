-- Installs the functions of the worker pool, on request, after install.sql.
-- Safe to run again. Run it again whenever you run install.sql again.
--
--	psql -X -v ON_ERROR_STOP=1 -f pool.sql
--
-- humcli-pool.sql is this file with its parts put in, for users without psql.


BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL statement_timeout = 0;
SET LOCAL lock_timeout = '10s';
SET LOCAL client_min_messages = notice;

DO $$
BEGIN
	PERFORM pg_advisory_xact_lock(1752526179);	-- as in schema.sql
	IF to_regclass('humcli.jobs') IS NULL THEN
		RAISE EXCEPTION 'humcli: the schema humcli does not exist'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run install.sql first.';
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
-- Moves unread events of a pool from the log into its jobs: replayed events
-- first, then at most p_rows others (NULL: all of a window). Returns the
-- subscription with its new cursor. Call with the subscription locked.
CREATE OR REPLACE FUNCTION humcli.enqueue_unread(s humcli.subscriptions, p_rows bigint)
RETURNS humcli.subscriptions
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
	until constant txid_snapshot := coalesce(s.win, humcli.complete_snapshot());
	moved record;
BEGIN
	WITH replayed AS (
		DELETE FROM humcli.replays r WHERE r.subscription = s.name RETURNING r.event_id
	)
	INSERT INTO humcli.jobs (subscription, event_id, task_id, occurred_at)
	SELECT s.name, e.id, e.task_id, e.occurred_at
	FROM replayed a
	JOIN humcli.events e ON e.id = a.event_id
	ORDER BY e.id
	ON CONFLICT (subscription, event_id) DO NOTHING;

	WITH next AS (
		SELECT a.xid, a.id
		FROM humcli.unread_events(s.done, until, s.win_xid, s.win_id, s.statuses, s.secrets, p_rows) a
	), inserted AS (
		INSERT INTO humcli.jobs (subscription, event_id, task_id, occurred_at)
		SELECT s.name, e.id, e.task_id, e.occurred_at
		FROM next n
		JOIN humcli.events e ON e.id = n.id
		ORDER BY n.xid, n.id
		ON CONFLICT (subscription, event_id) DO NOTHING
	)
	SELECT count(*) AS rows, (array_agg(n.xid ORDER BY n.xid DESC, n.id DESC))[1] AS xid,
		(array_agg(n.id ORDER BY n.xid DESC, n.id DESC))[1] AS id
	INTO moved
	FROM next n;

	IF moved.rows = p_rows THEN
		s.win := until;
		s.win_xid := moved.xid;
		s.win_id := moved.id;
	ELSE
		s.done := until;
		s.win := NULL;
		s.win_xid := 0;
		s.win_id := 0;
	END IF;
	PERFORM humcli.save_cursor(s);
	RETURN s;
END $$;
-- Moves jobs of a pool that have no attempts left to humcli.dead, where
-- redrive() finds them.
CREATE OR REPLACE FUNCTION humcli.move_to_dead(p_name text, p_event_id bigint[], p_error text)
RETURNS void
LANGUAGE sql VOLATILE
AS $$
	WITH gone AS (
		DELETE FROM humcli.jobs j
		WHERE j.subscription = p_name AND j.event_id = ANY (p_event_id)
		RETURNING j.*
	)
	INSERT INTO humcli.dead AS d (subscription, event_id, attempts, error)
	SELECT g.subscription, g.event_id, g.attempts,
		coalesce(p_error, g.error, 'the lease ran out')
	FROM gone g
	ON CONFLICT (subscription, event_id) DO UPDATE
		SET attempts = EXCLUDED.attempts, error = EXCLUDED.error, died_at = EXCLUDED.died_at
$$;
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
-- Claims at most max_rows events for a worker and returns them. The lease says
-- how long the worker may keep a claim. It ends a claim by complete() or
-- fail(), and prolongs it by extend(). When a lease expires, the event goes to
-- another worker.
--
-- Each claim has a number, which complete(), fail() and extend() check. A
-- worker that lost its lease can therefore no longer change the event. Attempts
-- are counted here, so that an event that kills its worker each time is dead in
-- the end.
--
-- Events are claimed in any order, or in the order of each task (see pool()).
-- In the order of each task, one worker at a time chooses, because each must
-- see what the others hold.
CREATE OR REPLACE FUNCTION humcli.claim(
	name text,
	worker text,
	max_rows int DEFAULT 1,
	lease interval DEFAULT '60 s'
)
RETURNS TABLE (
	id bigint,
	claim_no bigint,
	attempt int,
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
	refill_rows constant int := 500;
	claim_numbers constant regclass := pg_get_serial_sequence('humcli.jobs', 'claim_no')::regclass;
	s humcli.subscriptions;
	present timestamptz := clock_timestamp();
	ready int;
	has_unread boolean;
	candidates bigint[];
	exhausted bigint[];
	claimed bigint[];
BEGIN
	IF claim.worker IS NULL OR max_rows IS NULL OR max_rows < 1 OR lease IS NULL OR lease <= interval '0' THEN
		RAISE EXCEPTION 'humcli: a claim needs a worker, max_rows of at least 1 and a lease longer than 0'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	s := humcli.require_subscription(claim.name);
	IF NOT s.pool THEN
		PERFORM humcli.pool(claim.name);
		s := humcli.require_subscription(claim.name);
	END IF;

	-- Are there enough jobs, and are there unread events? If there are neither,
	-- return without a write.
	ready := (SELECT count(*) FROM (
		SELECT FROM humcli.jobs j
		WHERE j.subscription = s.name AND j.due <= present AND j.attempts < s.max_attempts
		LIMIT max_rows) r);
	has_unread := (s.in_order OR ready < max_rows) AND (
		EXISTS (SELECT FROM humcli.replays r WHERE r.subscription = s.name)
		OR EXISTS (SELECT FROM humcli.unread_events(s.done, s.win, s.win_xid, s.win_id, s.statuses, s.secrets, 1))
		OR (humcli.open_next_window(s)).name IS NOT NULL);
	IF NOT has_unread AND NOT EXISTS (
		SELECT FROM humcli.jobs j WHERE j.subscription = s.name AND j.due <= present)
	THEN
		RETURN;
	END IF;

	IF s.in_order THEN
		s := humcli.require_subscription(claim.name, 'work');
	ELSIF has_unread THEN
		-- One worker enqueues unread events; the others do not wait for it.
		PERFORM FROM humcli.subscriptions u WHERE u.name = s.name FOR NO KEY UPDATE SKIP LOCKED;
		has_unread := FOUND;
		s := humcli.require_subscription(claim.name);
	END IF;
	IF has_unread THEN	-- the rest of a window, then the next window
		IF s.win IS NOT NULL THEN
			s := humcli.enqueue_unread(s, CASE WHEN NOT s.in_order THEN refill_rows END);
		END IF;
		IF s.win IS NULL THEN
			s := humcli.enqueue_unread(s, CASE WHEN NOT s.in_order THEN refill_rows END);
		END IF;
	END IF;

	LOOP
		present := clock_timestamp();
		IF s.in_order THEN
			candidates := humcli.claimable_heads(s.name, present, max_rows);
		ELSE
			SELECT array_agg(d.event_id) INTO candidates
			FROM (
				SELECT j.event_id
				FROM humcli.jobs j
				WHERE j.subscription = s.name AND j.due <= present
				ORDER BY j.due, j.event_id
				LIMIT max_rows
				FOR UPDATE SKIP LOCKED
			) d;
		END IF;
		SELECT array_agg(d.event_id) FILTER (WHERE d.attempts >= s.max_attempts),
			array_agg(d.event_id) FILTER (WHERE d.attempts < s.max_attempts)
		INTO exhausted, claimed
		FROM (
			SELECT j.event_id, j.attempts
			FROM humcli.jobs j
			WHERE j.subscription = s.name AND j.event_id = ANY (candidates) AND j.due <= present
			FOR UPDATE SKIP LOCKED
		) d;

		PERFORM humcli.move_to_dead(s.name, exhausted, NULL);
		RETURN QUERY
		WITH taken AS (
			UPDATE humcli.jobs j
			-- above the job's last number, even if the sequence is behind
			SET claim_no = greatest(nextval(claim_numbers), j.claim_no + 1), attempts = j.attempts + 1, worker = claim.worker, due = present + lease
			WHERE j.subscription = s.name AND j.event_id = ANY (claimed)
			RETURNING j.event_id, j.claim_no, j.attempts
		)
		SELECT e.id, t.claim_no, t.attempts, e.event, e.task_id, e.status, e.previous_status, e.occurred_at,
			e.received_at, e.recorded_at, e.secret_name, e.payload, e.signature
		FROM taken t
		JOIN humcli.events e ON e.id = t.event_id
		ORDER BY e.occurred_at, e.id;
		EXIT WHEN claimed IS NOT NULL OR exhausted IS NULL;
	END LOOP;
END $$;
-- Completes a claimed event and returns true. Returns false if the claim is
-- lost, because another worker has claimed the event since. The caller must
-- then roll back the work that belongs to the event.
CREATE OR REPLACE FUNCTION humcli.complete(name text, id bigint, claim_no bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
BEGIN
	PERFORM humcli.require_subscription(complete.name);
	DELETE FROM humcli.jobs j
	WHERE j.subscription = complete.name AND j.event_id = complete.id
		AND j.claim_no = complete.claim_no AND j.worker IS NOT NULL;
	RETURN FOUND;
END $$;
-- Sets the end of a claim's lease to now plus "lease" and returns true. Returns
-- false if the claim is lost. In a pool with in_order an expired lease is lost
-- too, because another event of the task may be claimed by now.
CREATE OR REPLACE FUNCTION humcli.extend(name text, id bigint, claim_no bigint, lease interval DEFAULT '60 s')
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
	s humcli.subscriptions;
BEGIN
	IF lease IS NULL OR lease <= interval '0' THEN
		RAISE EXCEPTION 'humcli: the lease must be longer than 0' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	s := humcli.require_subscription(extend.name);
	IF s.in_order THEN
		s := humcli.require_subscription(extend.name, 'work');
	END IF;
	UPDATE humcli.jobs j
	SET due = clock_timestamp() + lease
	WHERE j.subscription = s.name AND j.event_id = extend.id
		AND j.claim_no = extend.claim_no AND j.worker IS NOT NULL
		AND (NOT s.in_order OR j.due > clock_timestamp());
	RETURN FOUND;
END $$;
-- Ends a claim whose attempt has failed. Returns 'retry' if the event is
-- delivered again, after retry_in or the pool's backoff; 'dead' if this was the
-- last attempt; 'lost' if another worker has claimed the event.
CREATE OR REPLACE FUNCTION humcli.fail(
	name text,
	id bigint,
	claim_no bigint,
	error text,
	retry_in interval DEFAULT NULL
)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
	s humcli.subscriptions;
	tried int;
BEGIN
	s := humcli.require_subscription(fail.name);
	SELECT j.attempts INTO tried
	FROM humcli.jobs j
	WHERE j.subscription = s.name AND j.event_id = fail.id
		AND j.claim_no = fail.claim_no AND j.worker IS NOT NULL
	FOR UPDATE;
	IF NOT FOUND THEN
		RETURN 'lost';
	END IF;
	IF tried >= s.max_attempts THEN
		PERFORM humcli.move_to_dead(s.name, ARRAY[fail.id], left(fail.error, 2000));
		RETURN 'dead';
	END IF;
	-- Jitter of a quarter, so that failed events do not all return at once. In
	-- seconds, because a doubled interval can exceed its range; 100 years at most.
	UPDATE humcli.jobs j
	SET worker = NULL, error = left(fail.error, 2000),
		due = clock_timestamp() + coalesce(retry_in,
			least(3155760000, date_part('epoch', s.longest_backoff),
				date_part('epoch', s.backoff) * power(2, least(tried - 1, 30)))
			* (0.75 + random() / 2) * interval '1 second')
	WHERE j.subscription = s.name AND j.event_id = fail.id;
	RETURN 'retry';
END $$;
-- Makes dead events jobs again, with all their attempts: the event with this
-- id, or at most max_rows, the longest dead first. Returns how many.
CREATE OR REPLACE FUNCTION humcli.redrive(name text, id bigint DEFAULT NULL, max_rows int DEFAULT 100)
RETURNS int
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rows int;
BEGIN
	PERFORM humcli.require_subscription(redrive.name);
	WITH chosen AS (
		SELECT d.event_id
		FROM humcli.dead d
		WHERE d.subscription = redrive.name AND (redrive.id IS NULL OR d.event_id = redrive.id)
		ORDER BY d.died_at, d.event_id
		LIMIT max_rows
		FOR UPDATE SKIP LOCKED
	), gone AS (
		DELETE FROM humcli.dead d
		USING chosen c
		WHERE d.subscription = redrive.name AND d.event_id = c.event_id
		RETURNING d.event_id, d.error
	), back AS (
		INSERT INTO humcli.jobs (subscription, event_id, task_id, occurred_at, error)
		SELECT redrive.name, e.id, e.task_id, e.occurred_at, g.error
		FROM gone g
		JOIN humcli.events e ON e.id = g.event_id
		ON CONFLICT (subscription, event_id) DO NOTHING
	)
	SELECT count(*) INTO rows FROM gone;
	IF rows > 0 THEN
		PERFORM pg_notify('humcli_events', '{}');
	END IF;
	RETURN rows;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA humcli FROM PUBLIC;

DO $$
BEGIN
	IF (SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'humcli')
		IS DISTINCT FROM to_regrole('humcli_owner')::oid
	THEN
		RETURN;		-- installed without the roles
	END IF;

	GRANT EXECUTE ON FUNCTION
		humcli.pool(text, boolean, int, interval, interval),
		humcli.claim(text, text, int, interval),
		humcli.complete(text, bigint, bigint),
		humcli.extend(text, bigint, bigint, interval),
		humcli.fail(text, bigint, bigint, text, interval),
		humcli.redrive(text, bigint, int)
		TO humcli_consumer;
END $$;

COMMIT;
