-- Making a projection: mirror, registration and triggers in one short transaction, then the old rows in batches.

create function campfire.attach_projection(
  source regclass, mirror regclass, key_columns name[], columns name[], definitions text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
begin
  -- Of tables that were dropped.
  delete from campfire.projection_registry as p where not exists (select from pg_class as c where c.oid = p.source);
  delete from campfire.projection_remains as r
  where campfire.qualified_name(source) = r.source or campfire.qualified_name(mirror) = r.mirror;
  insert into campfire.projection_registry (source, mirror, key_columns, columns, definitions)
  values (source, mirror, key_columns, columns, definitions);
  perform campfire.note_definitions(source);
  perform campfire.attach_triggers(source);
end
$$;
comment on function campfire.attach_projection(regclass, regclass, name[], name[], text[]) is
  'Internal. Registers a projection and adds its triggers to the source. Also used by campfire.install().';

create function campfire.note_definitions(source regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  item record;
begin
  -- A dump of these tables alone carries comments, and no registry.
  for item in
    select campfire.qualified_name(p.mirror) as mirror, a.attname, u.definition, col_description(p.mirror, a.attnum) as noted
    from campfire.projections as p
    cross join lateral rows from (unnest(p.columns), unnest(p.definitions)) as u (name, definition)
    join pg_attribute as a on a.attrelid = p.mirror and a.attname = u.name
    where p.source = source
  loop
    if item.definition <> quote_ident(item.attname) and item.noted is distinct from 'campfire: ' || item.definition then
      execute format('comment on column %s.%I is %L', item.mirror, item.attname, 'campfire: ' || item.definition);
    elsif item.definition = quote_ident(item.attname) and starts_with(item.noted, 'campfire: ') then
      execute format('comment on column %s.%I is null', item.mirror, item.attname);
    end if;
  end loop;
end
$$;
comment on function campfire.note_definitions(regclass) is
  'Internal. Records in the comment of each column of a mirror what it is made from, unless that is the column of the same name.';

create function campfire.has_row_trigger(relation regclass) returns boolean
language sql stable strict set search_path = pg_catalog, pg_temp
return exists (
  select from pg_catalog.pg_trigger as t
  where t.tgrelid = relation and t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure and t.tgtype & 1 = 1
);
comment on function campfire.has_row_trigger(regclass) is
  'Internal. Whether a table has the trigger that maintains its mirror, under any name.';

create function campfire.attach_triggers(source regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  row_trigger constant name := campfire.name_around(
    'sync_realtime_', (select c.relname from pg_class as c where c.oid = source), '_trigger');
begin
  if not campfire.has_row_trigger(source) then
    execute format('create trigger %I after insert or update or delete on %s for each row execute function campfire.sync_realtime_conversations()',
      row_trigger, campfire.qualified_name(source));
    execute format('comment on trigger %I on %s is %L', row_trigger, campfire.qualified_name(source),
      format('campfire: carries the row to %s.', (
        select c.relname from campfire.projection_registry as p join pg_class as c on c.oid = p.mirror where p.source = source)));
  end if;
  perform campfire.attach_truncate_triggers(source);
end
$$;
comment on function campfire.attach_triggers(regclass) is 'Internal. Adds the triggers of a projection that its source does not have.';

create function campfire.attach_truncate_triggers(source regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  trigger_name constant name := campfire.name_around(
    'sync_realtime_', (select c.relname from pg_class as c where c.oid = source), '_truncate_trigger');
  relation regclass;
begin
  -- Postgres copies row triggers to partitions, also to those that come later; statement triggers it does not.
  for relation in
    select source union select t.relid from pg_partition_tree(source) as t
    except
    select t.tgrelid::regclass from pg_trigger as t
    where t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure and t.tgtype & 33 = 32
  loop
    execute format('create trigger %I after truncate on %s for each statement execute function campfire.sync_realtime_conversations()',
      trigger_name, campfire.qualified_name(relation));
    execute format('comment on trigger %I on %s is %L', trigger_name, campfire.qualified_name(relation),
      'campfire: empties the mirror; row triggers do not see TRUNCATE.');
  end loop;
end
$$;
comment on function campfire.attach_truncate_triggers(regclass) is
  'Internal. Adds the trigger for TRUNCATE to a projected table and to those of its partitions that have none yet.';

create function campfire.require_projectable(source regclass) returns void
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  qualified constant text := campfire.qualified_name(source);
  class constant pg_class := (select c from pg_class as c where c.oid = source);
  key pg_index;
begin
  if class.relkind not in ('r', 'p') or class.relpersistence <> 'p' then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('%s cannot be projected', qualified),
      detail = 'Only tables that are written to the WAL can be.',
      hint = case when class.relpersistence = 'u' then format('alter table %s set logged;', qualified)
        else 'Project the table that holds the rows.' end;
  elsif class.relnamespace in ('campfire'::regnamespace, 'pg_catalog'::regnamespace) then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('%s cannot be projected', qualified),
      detail = 'It belongs to the system.';
  elsif class.relispartition then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('%s is a partition', qualified),
      hint = format('call campfire.create_projection(%L);', (select campfire.qualified_name(pg_partition_root(source))));
  elsif exists (select from campfire.projections as p where p.mirror = source) then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('%s is a mirror itself', qualified),
      hint = format('It is scalar already: select campfire.publish(''campfire'', %L);', qualified);
  end if;
  select i.* into key from pg_index as i where i.indrelid = source and i.indisprimary;
  if not found then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s has no primary key', qualified),
      detail = 'A row is found in the mirror by its primary key.',
      hint = format('alter table %s add primary key (...); with the columns that identify a row.', qualified);
  elsif not key.indimmediate then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('the primary key of %s is deferrable', qualified),
      detail = 'Two rows may have the same key until the transaction commits, but the mirror has one row per key.',
      hint = (select format('alter table %1$s drop constraint %2$I, add constraint %2$I %3$s;', qualified, k.conname,
          regexp_replace(pg_get_constraintdef(k.oid), ' DEFERRABLE.*$', ''))
        from pg_constraint as k where k.conindid = key.indexrelid and k.contype = 'p');
  end if;
end
$$;
comment on function campfire.require_projectable(regclass) is
  'Internal. Raises 0A000 or 55000 for a table that cannot have a projection.';

create function campfire.read_projection(
  source regclass, items jsonb, out names name[], out definitions text[], out types regtype[], out bodies text[], out key_names name[])
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  qualified constant text := campfire.qualified_name(source);
  keys constant name[] := array(
    select a.attname from pg_index as i
    cross join unnest(i.indkey::int2[]) with ordinality as k (number, n)
    join pg_attribute as a on a.attrelid = source and a.attnum = k.number
    where i.indrelid = source and i.indisprimary and k.n <= i.indnkeyatts order by k.n);
  item record;
  key name;
  key_name name;
  projected regtype;
begin
  names := '{}';
  definitions := '{}';
  types := '{}';
  bodies := '{}';
  key_names := '{}';
  for item in
    select c.* from jsonb_array_elements(items) with ordinality as e (item, n)
    cross join lateral jsonb_to_record(e.item) as c (column_name name, definition text, type oid, collation_id oid)
    order by e.n
  loop
    projected := campfire.projected_type(item.type::regtype);
    if projected is null then
      raise exception using
        errcode = 'feature_not_supported',
        message = format('%s.%I of type %s cannot be projected', qualified, item.column_name, format_type(item.type, -1)),
        hint = format('Project a scalar that is made of it: an item such as (%s)::text as %I, if its cast to text is immutable, or what you need of it, such as customer->>''plan'' as plan.',
          item.definition, item.column_name);
    elsif item.column_name = any (names) then
      raise exception using
        errcode = 'duplicate_column',
        message = format('column "%s" is projected twice', item.column_name),
        hint = 'Give one of them another name: an item such as customer->>''plan'' as plan.';
    elsif exists (
        select from pg_attribute as a
        where a.attrelid = source and a.attgenerated not in ('', 's') and quote_ident(a.attname) = item.definition) then
      raise exception using
        errcode = 'feature_not_supported',
        message = format('%s.%I is a virtual generated column and cannot be projected', qualified, item.column_name),
        hint = 'Project the expression it is generated by.';
    end if;
    names := names || item.column_name;
    definitions := definitions || item.definition;
    types := types || projected;
    bodies := bodies || format('%I %s%s%s', item.column_name, campfire.type_without_length(projected),
      (select format(' collate %I.%I', n.nspname, k.collname)
       from pg_collation as k join pg_namespace as n on n.oid = k.collnamespace
       where k.oid = item.collation_id and k.collname <> 'default'
         and (select t.typcollation <> 0 from pg_type as t where t.oid = projected)),
      case when item.definition = any (select quote_ident(c) from unnest(keys) as c) then ' not null' end);
  end loop;
  foreach key in array keys loop
    key_name := (select u.name from rows from (unnest(names), unnest(definitions)) as u (name, definition)
      where u.definition = quote_ident(key) limit 1);
    if key_name is null then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('%s.%I is part of the primary key and must be projected', qualified, key),
        detail = coalesce((
          select format('Its type %s is not scalar.', format_type(a.atttypid, a.atttypmod)) from pg_attribute as a
          where a.attrelid = source and a.attname = key and campfire.projected_type(a.atttypid::regtype) is null),
          'A row is found in the mirror by its primary key.'),
        hint = format('Add %s to the columns, or give the table a primary key of scalar columns.', quote_ident(key));
    end if;
    key_names := key_names || key_name;
  end loop;
  if cardinality(names) > 1600 - 1 then
    raise exception using errcode = 'too_many_columns', message = 'a mirror has at most 1599 columns';
  end if;
end
$$;
comment on function campfire.read_projection(regclass, jsonb) is
  'Internal. Columns of a mirror that is made of these items, and how each is declared. Raises 0A000, 42701, 55000 for what cannot be '
  'projected. Called with the items that campfire.projection_columns() read as the owner of the source.';

create function campfire.make_projection(source regclass, items jsonb, by_default boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  qualified constant text := campfire.qualified_name(source);
  class constant pg_class := (select c from pg_class as c where c.oid = source);
  schema_name constant name := (select n.nspname from pg_namespace as n where n.oid = class.relnamespace);
  mirror_name constant name := campfire.name_around('realtime_', class.relname::text, '');
  mirror constant text := format('%I.%I', schema_name, mirror_name);
  part record;
  left_out text;
  grantee text;
begin
  perform campfire.require_projectable(source);
  if exists (select from campfire.projections as p where p.source = source) then
    raise exception using
      errcode = 'duplicate_object',
      message = format('%s has a projection already', qualified),
      hint = format('To project other columns: call campfire.alter_projection(%L, columns => ...);', qualified);
  elsif to_regclass(mirror) is not null then
    raise exception using
      errcode = 'duplicate_table',
      message = format('%s already exists and is not campfire''s', mirror),
      hint = case when (campfire.described_projection(source)).source is not null
        then format('If it came back from a dump: call campfire.repair_projection(%L);', qualified)
        else format('The mirror needs that name: alter table %s rename to ...;', mirror) end;
  end if;
  part := campfire.read_projection(source, items);

  execute format('create table %s (%s, primary key (%s))', mirror, array_to_string(part.bodies, ', '),
    campfire.projection_column_list(part.key_names, ''));
  execute format('alter table %s replica identity full', mirror);
  execute format('alter table %s enable row level security', mirror);
  execute format('comment on table %s is %L', mirror,
    format('campfire: scalar mirror of %I, written by a trigger and published without a column list. Never write to it.', class.relname));
  -- Default privileges may have opened it.
  for grantee in
    select distinct case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
    from pg_class as c cross join lateral aclexplode(c.relacl) as a
    where c.oid = mirror::regclass and a.grantee <> c.relowner
  loop
    execute format('revoke all on table %s from %s', mirror, grantee);
  end loop;
  execute format('alter table %s owner to %I', mirror, pg_get_userbyid(class.relowner));
  perform campfire.attach_projection(source, mirror::regclass, part.key_names, part.names, part.definitions);
  insert into campfire.projection_backfills as b (source) values (source)
  on conflict on constraint projection_backfills_pkey do update set after_key = null, carried = 0, columns = null, muted = '{}';

  if by_default then
    select string_agg(format('%I (%s)', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum) into left_out
    from pg_attribute as a
    where a.attrelid = source and a.attnum > 0 and not a.attisdropped and a.attname::text <> all (campfire.default_projection(source));
    if left_out is not null then
      raise notice '%: left out of the projection: %', qualified, left_out;
    end if;
  end if;
end
$$;
comment on function campfire.make_projection(regclass, jsonb, boolean) is
  'Internal. Makes the mirror of a table, closed to everyone but the owner of the source, and attaches it. Called with the items that '
  'campfire.projection_columns() read as that owner.';

-- Old rows ---------------------------------------------------------------------------------------------------------

create function campfire.backfill_statement(source regclass, batch_rows integer) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  projection constant campfire.projections := campfire.require_projection(source);
  progress campfire.projection_backfills;
  source_name constant name := (select c.relname from pg_class as c where c.oid = source);
  keys text; -- of the source: ORDER BY would take a bare name for the mirror's
  named_keys text;
  last_key text;
begin
  -- Two that fill one mirror go one after the other.
  select * into progress from campfire.projection_backfills as b where b.source = source for update;
  if not found then
    return null;
  end if;
  select string_agg(format('%I.%s', source_name, u.definition), ', ' order by k.n),
    string_agg(format('%I.%s as %I', source_name, u.definition, k.name), ', ' order by k.n),
    string_agg(format('(%L::jsonb ->> %L)::%s', progress.after_key, k.name, format_type(a.atttypid, a.atttypmod)), ', ' order by k.n)
  into keys, named_keys, last_key
  from unnest(projection.key_columns) with ordinality as k (name, n)
  join rows from (unnest(projection.columns), unnest(projection.definitions)) as u (name, definition) on u.name = k.name
  join pg_attribute as a on a.attrelid = source and quote_ident(a.attname) = u.definition;
  if progress.columns is not null then
    -- Columns that the mirror got later. Rows of the source are locked first, as a writer does, so that no value can be
    -- older than what the trigger brings.
    return to_jsonb(format(
      'with keys as materialized (select %1$s from %2$s%3$s order by %4$s limit %5$s), '
      'batch as materialized (%6$s where (%4$s) in (select * from keys) for share of %7$I), '
      'carried as (update only %8$s as m set %9$s from batch as b where %10$s and record_image_ne(row(%11$s), row(%12$s)) returning 1) '
      'select jsonb_build_object(''rows'', (select count(*) from keys), ''after'', '
      '(select to_jsonb(l) from (select * from keys offset (select greatest(count(*) - 1, 0) from keys)) as l))',
      named_keys, campfire.only_of(source), case when progress.after_key is not null then format(' where (%s) > (%s)', keys, last_key) end,
      keys, greatest(batch_rows, 1), campfire.projection_query(source), source_name, campfire.qualified_name(projection.mirror),
      (select string_agg(format('%1$I = b.%1$I', c), ', ' order by n) from unnest(progress.columns) with ordinality as u (c, n)),
      (select string_agg(format('m.%1$I = b.%1$I', k), ' and ') from unnest(projection.key_columns) as k),
      campfire.projection_column_list(progress.columns, 'm.'), campfire.projection_column_list(progress.columns, 'b.')));
  end if;
  -- First the keys as the snapshot has them, so that a row that moves meanwhile moves no boundary. Then their rows,
  -- locked, so that none is deleted or gets another key between its being read and its being in the mirror. What the
  -- trigger brought is newer and stays.
  return to_jsonb(format(
    'with keys as materialized (select %1$s from %2$s%3$s order by %4$s limit %5$s), '
    'batch as materialized (%6$s where (%4$s) in (select * from keys) for key share of %7$I), '
    'carried as (insert into %8$s (%9$s) select %9$s from batch on conflict (%10$s) do nothing) '
    'select jsonb_build_object(''rows'', (select count(*) from keys), ''after'', '
    '(select to_jsonb(l) from (select * from keys offset (select greatest(count(*) - 1, 0) from keys)) as l))',
    named_keys, campfire.only_of(source), case when progress.after_key is not null then format(' where (%s) > (%s)', keys, last_key) end,
    keys, greatest(batch_rows, 1), campfire.projection_query(source), source_name, campfire.qualified_name(projection.mirror),
    campfire.projection_column_list(projection.columns, ''), campfire.projection_column_list(projection.key_columns, '')));
end
$$;
comment on function campfire.backfill_statement(regclass, integer) is
  'Internal. The statement that copies the next rows to a mirror, for the owner of the source to run; null if all are there.';

create function campfire.end_backfill(source regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  done campfire.projection_backfills;
begin
  delete from campfire.projection_backfills as b where b.source = source returning b.* into done;
  if done.muted <> '{}' then
    update campfire.user_routes as u set when_changed = null where u.id = any (done.muted);
  end if;
end
$$;
comment on function campfire.end_backfill(regclass) is
  'Internal. Records that a mirror has all old rows, and all of each. Routes that were not to tell of them fire on every change again.';

create function campfire.note_backfill(source regclass, carried jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
begin
  if (carried ->> 'rows')::bigint = 0 then
    perform campfire.end_backfill(source);
  else
    update campfire.projection_backfills as b
    set after_key = carried -> 'after', carried = b.carried + (carried ->> 'rows')::bigint
    where b.source = source;
  end if;
end
$$;
comment on function campfire.note_backfill(regclass, jsonb) is 'Internal. Records how far the copying of old rows has got.';

-- Procedures cannot pin their search_path, because they commit: they name everything with its schema, and run with the
-- caller's own rights.

create procedure campfire.carry_old_rows(source regclass, batch_rows integer, inout carried bigint)
language plpgsql as $$
declare
  moved bigint;
begin
  carried := 0;
  loop
    set transaction isolation level read committed;
    moved := campfire.backfill_batch(source, batch_rows);
    commit;
    exit when moved operator(pg_catalog.=) 0;
    carried := carried operator(pg_catalog.+) moved;
    if carried operator(pg_catalog.%) 100000 operator(pg_catalog.<) moved then
      raise notice '%: % rows copied', campfire.qualified_name(source), carried;
    end if;
  end loop;
end
$$;
comment on procedure campfire.carry_old_rows(regclass, integer, bigint) is
  'Internal. Copies what a mirror does not have yet, in committed batches; returns how many rows it looked at.';

create procedure campfire.create_projection(source regclass, columns text[] default null, batch_rows integer default 1000)
language plpgsql as $$
declare
  carried bigint := 0;
  mirror pg_catalog.text;
begin
  perform campfire.require_no_transaction('campfire.create_projection()');
  commit;
  if exists (select from campfire.projections as p where p.source operator(pg_catalog.=) create_projection.source and not p.complete)
    and columns is null then
    perform campfire.mend_projection(source);
    raise notice '% is already projected; continuing with the old rows', campfire.qualified_name(source);
  else
    perform campfire.start_projection(source, columns);
  end if;
  commit;
  call campfire.carry_old_rows(source, batch_rows, carried);
  select campfire.qualified_name(p.mirror) into mirror
  from campfire.projections as p where p.source operator(pg_catalog.=) create_projection.source;
  raise notice '% is projected to %, % rows; next: select campfire.publish(''campfire'', %);',
    campfire.qualified_name(source), mirror, carried, pg_catalog.quote_literal(mirror);
end
$$;
comment on procedure campfire.create_projection(regclass, text[], integer) is
  'Makes realtime_<source> beside a table and keeps it up to date: first the mirror and the triggers, then the old rows in committed '
  'batches, so that no other session waits. Items are columns, or expressions as in a select list; without items, all columns that can be '
  'projected, and a NOTICE names the rest. Called again after a crash, it continues. For the owner of the table. Raises 2D000 inside a '
  'transaction block, 42501, 0A000 and 55000 for tables, columns and keys that cannot be projected, 42P17 for an expression that is not '
  'immutable, 42710, 42P07. Example: call campfire.create_projection(''orders'', array[''id'', ''state'', ''customer->>''''plan'''' as '
  'plan'']);';
