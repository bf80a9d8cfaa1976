-- Whether a mirror holds what it should, mending it, and its end.

create function campfire.difference_query(source regclass) returns text
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
declare
  projection constant campfire.projections := campfire.require_projection(source);
  first_key constant text := quote_ident(projection.key_columns[1]);
begin
  -- As they are stored (*<>), which is finer than equal: 1.0 and 1.00 look different to a reader. Whole rows as s.*, because
  -- a column may be called s.
  return format(
    'select jsonb_build_object(''key'', jsonb_build_object(%1$s), ''kind'', case when m.%2$s is null then ''missing'' '
    'when s.%2$s is null then ''surplus'' else ''different'' end) '
    'from (%3$s) as s full join (select %4$s from %5$s) as m on %6$s '
    'where m.%2$s is null or s.%2$s is null or s.* *<> m.*',
    (select string_agg(format('%1$L, coalesce(s.%1$I, m.%1$I)', k), ', ') from unnest(projection.key_columns) as k),
    first_key, campfire.projection_query(source), campfire.projection_column_list(projection.columns, ''),
    campfire.only_of(projection.mirror),
    (select string_agg(format('s.%1$I = m.%1$I', k), ' and ') from unnest(projection.key_columns) as k));
end
$$;
comment on function campfire.difference_query(regclass) is
  'Internal. The query that compares a table with its mirror; raises 42704 for a table without a projection.';

create function campfire.verify_projection(source regclass) returns table (key jsonb, kind text)
language sql volatile strict set search_path = pg_catalog, pg_temp
begin atomic
  select d -> 'key', d ->> 'kind'
  from campfire.query_as_owner(source, campfire.difference_query(source)) as d
  order by d -> 'key';
end;
comment on function campfire.verify_projection(regclass) is
  'Rows in which a mirror differs from its table: missing, surplus or different. Both are read in one snapshot, so that it can run at any '
  'time and blocks no one. For the owner of the table. Raises 42501, 42704 for a table without a projection. Example: select * from '
  'campfire.verify_projection(''orders'');';

create function campfire.repair_keys(source regclass, keys jsonb) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  projection constant campfire.projections := campfire.require_projection(source);
  query constant text := campfire.projection_query(source);
  names constant text := campfire.projection_column_list(projection.columns, '');
  key_names constant text := campfire.projection_column_list(projection.key_columns, '');
  wanted constant text := (
    select format('(select %s from jsonb_to_recordset(%L::jsonb) as k (%s))', key_names, keys,
      string_agg(format('%I %s', a.attname, campfire.type_without_length(a.atttypid)), ', '))
    from pg_attribute as a where a.attrelid = projection.mirror and a.attname = any (projection.key_columns));
  source_keys constant text := (
    select string_agg(format('(%s)::%s', u.definition, campfire.type_without_length(a.atttypid)), ', ' order by k.n)
    from unnest(projection.key_columns) with ordinality as k (name, n)
    join rows from (unnest(projection.columns), unnest(projection.definitions)) as u (name, definition) on u.name = k.name
    join pg_attribute as a on a.attrelid = projection.mirror and a.attname = k.name);
  -- Also the key: equal ones can be written in several ways, such as 1.0 and 1.00.
  changes constant text := (
    select string_agg(format('%1$I = excluded.%1$I', c), ', ') from unnest(projection.columns) as c);
  same_key constant text := (select string_agg(format('m.%1$I = s.%1$I', k), ' and ') from unnest(projection.key_columns) as k);
  mended bigint;
begin
  -- As every writer: first the row of the source, then the row of the mirror. From here on neither can change, and each
  -- statement that follows sees what was committed until now.
  perform campfire.query_as_owner(source, format('with locked as (select from %s where (%s) in %s for share) select to_jsonb(count(*)) from locked',
    campfire.only_of(source), source_keys, wanted));
  perform campfire.query_as_owner(source, format('with locked as (select from %s where (%s) in %s for update) select to_jsonb(count(*)) from locked',
    campfire.only_of(projection.mirror), key_names, wanted));
  select d::bigint into mended from campfire.query_as_owner(source, format(
    'with mended as (insert into %1$s (%2$s) select %2$s from (%3$s where (%9$s) in %5$s) as s '
    'where not exists (select from (select %2$s from %6$s) as m where %7$s and m.* *= s.*) '
    'on conflict (%4$s) do update set %8$s returning 1) select to_jsonb(count(*)) from mended',
    campfire.qualified_name(projection.mirror), names, query, key_names, wanted, campfire.only_of(projection.mirror), same_key,
    changes, source_keys)) as d;
  return mended + (select d::bigint from campfire.query_as_owner(source, format(
    'with mended as (delete from %1$s as m where (%2$s) in %3$s and not exists (select from (%4$s) as s where %5$s) returning 1) '
    'select to_jsonb(count(*)) from mended',
    campfire.only_of(projection.mirror), campfire.projection_column_list(projection.key_columns, 'm.'), wanted, query, same_key)) as d);
end
$$;
comment on function campfire.repair_keys(regclass, jsonb) is
  'Internal. Makes the mirror equal to the table for these keys, and returns how many rows that changed.';

create procedure campfire.repair_projection(source regclass, inout repaired bigint default 0, batch_rows integer default 1000)
language plpgsql as $$
declare
  keys pg_catalog.jsonb;
  batch pg_catalog.jsonb;
  done integer := 0;
begin
  perform campfire.require_no_transaction('campfire.repair_projection()');
  commit;
  set transaction isolation level read committed;
  perform campfire.mend_projection(source);
  commit;
  set transaction isolation level read committed;
  repaired := 0;
  keys := (select pg_catalog.jsonb_agg(v.key) from campfire.verify_projection(source) as v);
  commit;
  while done operator(pg_catalog.<) coalesce(pg_catalog.jsonb_array_length(keys), 0) loop
    batch := pg_catalog.jsonb_path_query_array(keys, '$[$from to $to]', pg_catalog.jsonb_build_object(
      'from', done, 'to', done operator(pg_catalog.+) greatest(batch_rows, 1) operator(pg_catalog.-) 1));
    set transaction isolation level read committed;
    repaired := repaired operator(pg_catalog.+) campfire.repair_keys(source, batch);
    commit;
    done := done operator(pg_catalog.+) greatest(batch_rows, 1);
  end loop;
  perform campfire.mend_projection(source, rows_too => true);
  commit;
end
$$;
comment on procedure campfire.repair_projection(regclass, bigint, integer) is
  'Repairs a projection: first its registration, triggers and mirror, if they were lost or altered, as after a partial restore; then only '
  'those rows that campfire.verify_projection() finds, in committed batches under the locks of a writer. Returns how many. Each is an '
  'event of the mirror. For the owner of the table. Raises 2D000 inside a transaction block, 42501, 42704. Example: call '
  'campfire.repair_projection(''orders'');';

create function campfire.unmake_projection(source regclass, unpublish boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  projection campfire.projection_registry;
  qualified constant text := campfire.qualified_name(source);
  mirror text;
  publications text;
  routes text;
  made record;
begin
  select * into projection from campfire.projection_registry as p where p.source = source;
  if not found then
    perform campfire.require_projection(source);
  end if;
  mirror := campfire.qualified_name(projection.mirror);
  if exists (
      select from campfire.installations as i join pg_class as c on c.relname = 'realtime_conversations'
      join pg_namespace as n on n.oid = c.relnamespace and n.nspname = i.schema_name
      where c.oid = projection.mirror) then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('the projection of %s is part of campfire.install()', qualified);
  end if;
  select string_agg(quote_ident(p.pubname), ', ' order by p.pubname) into publications
  from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid where r.prrelid = projection.mirror;
  select string_agg(r.id::text, ', ' order by r.id) into routes from campfire.user_routes as r where r.relation = projection.mirror;
  if (publications is not null or routes is not null) and not unpublish then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s is in use', mirror),
      detail = concat_ws(' ', 'Publications: ' || publications || '.', 'Routes: ' || routes || '.'),
      hint = format('select campfire.drop_projection(%L, unpublish => true);', qualified);
  end if;

  delete from campfire.user_routes as r where r.relation = projection.mirror;
  for made in
    select p.pubname from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid where r.prrelid = projection.mirror
  loop
    execute format('alter publication %I drop table only %s', made.pubname, mirror);
  end loop;
  for made in
    select t.tgname, campfire.qualified_name(t.tgrelid) as relation
    from pg_trigger as t
    where t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure and t.tgparentid = 0
      and (t.tgrelid = source or t.tgrelid in (select relid from pg_partition_tree(source)))
  loop
    execute format('drop trigger %I on %s', made.tgname, made.relation);
  end loop;
  delete from campfire.projection_backfills as b where b.source = source;
  update campfire.live_tables as l set has_projection = false where l.source = source;
  delete from campfire.projection_registry as p where p.source = source;
  delete from campfire.projection_remains as r where qualified = r.source;
  if mirror is not null then
    execute format('drop table %s', mirror);
  end if;
end
$$;
comment on function campfire.unmake_projection(regclass, boolean) is
  'Internal. What campfire.drop_projection() does, as the owner of the extension.';

comment on function campfire.drop_projection(regclass, boolean) is
  'Drops a mirror and the triggers that maintain it; the table stays as it is. A mirror that is published or routed is dropped only with '
  'unpublish => true, which ends both. For the owner of the table. Raises 42501, 42704 for a table without a projection, 55000 for a '
  'mirror in use, or for the one of campfire.install(). Example: select campfire.drop_projection(''orders'');';
