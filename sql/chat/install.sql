-- campfire.install(): the chat tables in a schema, made once; run again, what an update or a restore has left to do.

create function campfire.install(schema name default 'public') returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  names constant name[] := '{organizations,organization_secrets,agents,visitors,conversations,messages,realtime_conversations,read_receipts}';
  types constant name[] := '{conversation_status,conversation_priority}';
  current_version constant text := (select extversion from pg_extension where extname = 'campfire');
  installed_version text;
  existing name[];
begin
  perform campfire.require_superuser('campfire.install()');
  if schema is null or schema = 'campfire' or schema = 'information_schema' or schema like 'pg\_%' then
    raise exception using
      errcode = 'invalid_schema_name',
      message = format('the chat tables cannot be installed in schema "%s"', schema),
      hint = 'create schema chat; select campfire.install(''chat'');';
  end if;
  if to_regnamespace(quote_ident(schema)) is null then
    raise exception using
      errcode = 'invalid_schema_name',
      message = format('schema "%s" does not exist', schema),
      hint = format('create schema %1$I; select campfire.install(%1$L);', schema);
  end if;
  perform campfire.lock_routes();

  -- Every table, index and enum has its name in one of these two catalogs.
  select array_agg(distinct taken.name order by taken.name) into existing from (
    select relname as name from pg_class
    where relnamespace = to_regnamespace(quote_ident(schema)) and relname = any (names)
    union all
    select typname from pg_type
    where typnamespace = to_regnamespace(quote_ident(schema)) and typname = any (names || types)
  ) as taken;
  select i.version into installed_version from campfire.installations as i where i.schema_name = schema;

  if existing @> (names || types) then
    if campfire.mend_installation(schema, installed_version is null) then
      raise notice 'campfire in schema "%" is in order again', schema;
      return;
    end if;
  end if;
  if installed_version is not null and existing @> (names || types) then
    if installed_version = current_version then
      raise notice 'campfire % is already installed in schema "%"', installed_version, schema;
      return;
    end if;
    update campfire.installations as i set version = current_version where i.schema_name = schema;
    perform campfire.create_publication();
    raise notice 'campfire in schema "%" went from % to %', schema, installed_version, current_version;
    return;
  end if;
  if installed_version is not null and existing is not null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('the installation in schema "%s" is incomplete', schema),
      detail = format('Missing: %s.', (select string_agg(n, ', ') from unnest(names || types) as n where n <> all (existing))),
      hint = format('Restore what is missing from a backup, or forget the rest: select campfire.uninstall(%L);', schema);
  end if;
  if existing is not null then
    raise exception using
      errcode = 'duplicate_table',
      message = format('%I.%I already exists and is not campfire''s', schema, existing[1]),
      detail = format('In the way in schema "%s": %s.', schema, array_to_string(existing, ', ')),
      hint = 'Install next to them: create schema chat; select campfire.install(''chat''); '
        'or keep your own tables, without install(), and publish them: see campfire.create_publication().';
  end if;

  -- Of an installation whose tables were dropped.
  delete from campfire.projection_registry as p where not exists (select from pg_class as c where c.oid = p.source);
  -- Not pg_catalog in front: that would be where the tables go. It is searched first all the same.
  perform set_config('search_path', format('%I, pg_temp', schema), true);
  perform campfire.install_tables();
  perform campfire.install_triggers();
  perform campfire.install_rights();
  perform set_config('search_path', 'pg_catalog, pg_temp', true);
  perform campfire.install_on_schema(schema);

  insert into campfire.installations as i (schema_name, version, number)
  values (schema, current_version, coalesce((select max(number) from campfire.installations), 0) + 1)
  on conflict (schema_name) do update set version = excluded.version, installed_at = now();
  perform campfire.create_publication();
end
$$;
-- Tables that came back from a dump without the registries, or without their triggers.
create function campfire.mend_installation(schema name, is_unknown boolean) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  conversations constant regclass := to_regclass(format('%I.conversations', schema));
  keys jsonb;
begin
  if is_unknown and not campfire.has_row_trigger(conversations)
    or exists (select from campfire.projection_registry as p where p.source = conversations and not p.restored)
      and campfire.has_row_trigger(conversations) and not is_unknown then
    return false;
  end if;
  perform campfire.mend_parts(conversations);
  keys := (select jsonb_agg(v.key) from campfire.verify_projection(conversations) as v);
  if keys is not null then
    perform campfire.repair_keys(conversations, keys);
  end if;
  perform campfire.note_repaired(conversations);
  if is_unknown then
    insert into campfire.installations (schema_name, version, number)
    values (schema, (select extversion from pg_extension where extname = 'campfire'),
      coalesce((select max(number) from campfire.installations), 0) + 1);
  end if;
  perform campfire.create_publication();
  return true;
end
$$;
comment on function campfire.mend_installation(name, boolean) is
  'Internal. Registers the tables of an installation again after they came back from a dump, with their projection and publications; '
  'false if there is nothing to do, or if the tables are not campfire''s.';

comment on function campfire.install(name) is
  'Makes the chat tables in a schema, with their triggers, policies and publications. They are ordinary tables: dumped, altered and kept '
  'like any other, even by DROP EXTENSION ... CASCADE. Run again after an upgrade, it applies what is new; run again after a partial '
  'restore of these tables, it registers and publishes them; otherwise it changes nothing. Superuser; EXECUTE is revoked from public. '
  'Raises 42501, 3F000 for a schema that is missing or reserved, 42P07 if tables of these names are not campfire''s, 55000 if some of '
  'campfire''s are gone. Example: select campfire.install();';
