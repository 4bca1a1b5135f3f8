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
