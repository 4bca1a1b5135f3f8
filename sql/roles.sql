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
