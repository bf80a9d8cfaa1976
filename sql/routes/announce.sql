-- How a change of routes or installations reaches the relay.

create function campfire.lock_routes() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  patience constant interval := '5 s';
  wanted constant text := current_setting('lock_timeout');
begin
  if wanted::interval = '0' or wanted::interval > patience then
    perform set_config('lock_timeout', '5s', true);
  end if;
  -- Not a table of routes: two that write to one hold it already.
  lock table campfire.installations in share row exclusive mode;
  perform set_config('lock_timeout', wanted, true);
exception when lock_not_available then
  raise exception using
    errcode = 'lock_not_available',
    message = 'routes or installations are being changed in another transaction, which has not ended',
    detail = 'Each transaction must see the changes of those before it, so only one runs at a time.',
    hint = format('select pid, usename, state, query from pg_stat_activity where pid = any (%L);', (
      select array_agg(l.pid) from pg_locks as l
      where l.relation = 'campfire.installations'::regclass and l.granted and l.pid <> pg_backend_pid()
        and l.database = (select d.oid from pg_database as d where d.datname = current_database())
        and l.mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'AccessExclusiveLock')));
end
$$;
comment on function campfire.lock_routes() is
  'Internal. Lets one transaction at a time change routes or installations. Waits 5 seconds, or lock_timeout if that is less; then raises '
  '55P03 and names the processes in the way.';

create function campfire.emit_routes() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform campfire.require_read_committed('routes');
  perform campfire.lock_routes();
  -- In the transaction of the change, so that the relay switches at that place of the WAL.
  perform campfire.emit('campfire.routes', jsonb_build_object('schemas', coalesce((
    select jsonb_agg(i.schema_name order by i.number) from campfire.installations as i), '[]'), 'routes', coalesce((
    select jsonb_agg(jsonb_build_object(
      'id', r.id, 'schema_name', r.schema_name, 'table_name', r.table_name, 'relation', r.relation::oid::bigint,
      'operation', r.operation, 'on_move', r.on_move,
      'channel', r.channel, 'event', r.event, 'columns', r.columns, 'when_changed', r.when_changed,
      'public', r.public, 'snapshot_by', r.snapshot_by, 'gate', r.gate) order by r.id)
    from campfire.routes as r where r.enabled), '[]'))::text);
end
$$;
comment on function campfire.emit_routes() is
  'Internal. Writes the enabled routes and the schemas of installations into the WAL, as a transactional logical message campfire.routes. '
  'One transaction at a time: raises 55P03 if another has not ended. Raises 55000 in a repeatable read or serializable transaction.';

create function campfire.routes_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform campfire.emit_routes();
  return null;
end
$$;
comment on function campfire.routes_changed() is 'Internal trigger: tells the relay that routes changed.';

create trigger routes_changed after insert or update or delete on campfire.user_routes
for each statement execute function campfire.routes_changed();
create trigger routes_changed after insert or update or delete on campfire.route_overrides
for each statement execute function campfire.routes_changed();
-- An installation brings the built-in routes of its tables.
create trigger routes_changed after insert or update or delete on campfire.installations
for each statement execute function campfire.routes_changed();

-- The relay knows the tables of users' routes by their oids, and the standard ones by the schemas of installations. These
-- two tell it when the name of such a schema changes, at its place in the WAL. Nothing is told of other tables, so that
-- an owner whose transaction stays open holds up nobody.

create function campfire.remember_schemas() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  -- Not a setting called campfire.…: that prefix may be reserved.
  perform set_config('campfire_renames.schemas', coalesce((
    select jsonb_object_agg(n.oid, n.nspname)
    from campfire.installations as i join pg_namespace as n on n.nspname = i.schema_name), '{}')::text, true);
end
$$;
comment on function campfire.remember_schemas() is
  'Internal event trigger: records the oids of the schemas of installations before one is altered.';

create function campfire.follow_renames() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  renamed record;
  publication record;
begin
  -- Up to Postgres 15, a subscriber that knows a table is not told of its schema's new name unless the publication changes.
  for publication in
    select p.* from campfire.managed_publications as m join pg_publication as p on p.pubname = m.name
    where exists (
      select from pg_event_trigger_ddl_commands() as d
      join pg_class as c on d.classid = 'pg_namespace'::regclass and c.relnamespace = d.objid
      join pg_publication_rel as r on r.prrelid = c.oid and r.prpubid = p.oid)
  loop
    execute format('alter publication %I set (publish = %L)', publication.pubname, concat_ws(', ',
      case when publication.pubinsert then 'insert' end, case when publication.pubupdate then 'update' end,
      case when publication.pubdelete then 'delete' end, case when publication.pubtruncate then 'truncate' end));
  end loop;
  for renamed in
    select before.value as old, n.nspname as new
    from pg_event_trigger_ddl_commands() as d
    join pg_namespace as n on n.oid = d.objid
    join jsonb_each_text(nullif(current_setting('campfire_renames.schemas', true), '')::jsonb) as before on before.key = n.oid::text
    where d.classid = 'pg_namespace'::regclass and before.value <> n.nspname
  loop
    perform campfire.lock_routes();
    -- An older installation may have been dropped with a schema of the new name.
    delete from campfire.route_overrides as o where o.schema_name = renamed.new;
    delete from campfire.installations as i where i.schema_name = renamed.new;
    update campfire.route_overrides as o set schema_name = renamed.new where o.schema_name = renamed.old;
    update campfire.installations as i set schema_name = renamed.new where i.schema_name = renamed.old;
  end loop;
end
$$;
comment on function campfire.follow_renames() is
  'Internal event trigger: updates installations when their schemas are renamed. Raises 55000 in a repeatable read or serializable '
  'transaction, 55P03 if another transaction that changes routes has not ended.';

create event trigger campfire_remember_schemas on ddl_command_start
  when tag in ('ALTER SCHEMA')
  execute function campfire.remember_schemas();
comment on event trigger campfire_remember_schemas is 'campfire: lets installations follow renames of their schemas.';
create event trigger campfire_follow_renames on ddl_command_end
  when tag in ('ALTER SCHEMA')
  execute function campfire.follow_renames();
comment on event trigger campfire_follow_renames is 'campfire: updates installations when their schemas are renamed.';
