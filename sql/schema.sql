-- The schema, the roles of the cluster, and the registries.
--
-- Everything is written with its schema: the script runs with whatever search_path CREATE EXTENSION found.
set local search_path = pg_catalog, pg_temp;

-- The script makes the schema itself. With `schema =` in the control file an existing schema would be adopted,
-- and whoever owned it could drop us.
create schema campfire;
comment on schema campfire is 'campfire: sends committed rows to clients, live. Start with: select campfire.install();';
grant usage on schema campfire to public;

-- Postgres notes the schema that CREATE EXTENSION found first, and would drop the extension with it: with public, in most
-- databases, where nothing of it is. A schema in the control file would refuse the dumps of databases that noted another.
update pg_extension set extnamespace = 'pg_catalog'::regnamespace where extname = 'campfire';
delete from pg_depend
where classid = 'pg_extension'::regclass and objid = (select oid from pg_extension where extname = 'campfire')
  and refclassid = 'pg_namespace'::regclass;

-- Roles ---------------------------------------------------------------------------------------------------------

do $roles$
declare
  wanted constant name[] := '{anon,authenticated,service_role,campfire_relay,campfire_sender}';
  memberships constant name[] := '{anon,authenticated,service_role,pg_read_all_stats}';
  purposes constant text[] := array[
    'campfire: a visitor, bound to one conversation by the claims',
    'campfire: an agent, bound to one organization by the claims',
    'campfire: trusted server code, sees every organization',
    'campfire: the relay logs in as this role; the DBA grants it LOGIN and REPLICATION',
    'campfire: may send from SQL; the DBA grants it to roles of the application'];
  wanted_role name;
  existing record;
begin
  if exists (select from unnest(wanted) as r where r not in (select rolname from pg_roles)) then
    -- Roles belong to the cluster: two databases may get here at once. Log-ins only read this table and go on.
    lock table pg_authid in share row exclusive mode;
  end if;

  for i in 1 .. cardinality(wanted) loop
    wanted_role := wanted[i];
    select rolsuper, rolcanlogin, rolbypassrls into existing from pg_roles where rolname = wanted_role;
    if not found then
      execute format('create role %I nologin', wanted_role);
      execute format('comment on role %I is %L', wanted_role, purposes[i]);
    elsif existing.rolsuper then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('role "%s" exists and is a superuser', wanted_role),
        hint = format('alter role %I nosuperuser;', wanted_role);
    elsif existing.rolcanlogin and wanted_role not in ('campfire_relay', 'campfire_sender') then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('role "%s" exists and can log in', wanted_role),
        detail = 'A session of this role chooses its own claims, so nobody may log in as it.',
        hint = format('alter role %I nologin;', wanted_role);
    elsif existing.rolbypassrls and wanted_role not in ('service_role', 'campfire_relay') then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('role "%s" exists and bypasses row-level security', wanted_role),
        hint = format('alter role %I nobypassrls;', wanted_role);
    end if;
  end loop;

  for wanted_role in
    select m from unnest(memberships) as m
    where not exists (
      select from pg_auth_members
      where member = 'campfire_relay'::regrole and roleid = m::text::regrole)
  loop
    execute format('grant %I to campfire_relay', wanted_role);
  end loop;
end
$roles$;

-- Who may do what -----------------------------------------------------------------------------------------------

create function campfire.require_superuser(action text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('%s must be run by a superuser', action),
      hint = format('Connect as a superuser, then repeat %s. What it makes can be given away with ALTER ... OWNER TO.', action);
  end if;
end
$$;
comment on function campfire.require_superuser(text) is
  'Internal. Raises 42501 unless the caller is a superuser.';

create function campfire.require_read_committed(changed text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    perform campfire.refuse_command('55000',
      format('%s cannot be altered in a %s transaction', changed, current_setting('transaction_isolation')),
      'What others have committed since the transaction began could not be seen.',
      'set transaction isolation level read committed; -- before anything else in the transaction');
  end if;
end
$$;
comment on function campfire.require_read_committed(text) is
  'Internal. Raises 55000 in a repeatable read or serializable transaction, whose queries see only what had committed when it began.';

-- Names ---------------------------------------------------------------------------------------------------------

create function campfire.qualified_name(relation regclass) returns text
language sql stable strict parallel safe
return (
  select pg_catalog.format('%I.%I', n.nspname, c.relname)
  from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
  where c.oid = relation
);
comment on function campfire.qualified_name(regclass) is
  'Schema and name of a relation, quoted for SQL whatever search_path is.';
