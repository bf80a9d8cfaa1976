-- Projections whose parts came apart: a restore of some tables drops a table and makes it anew, with its triggers but
-- without its registration. Writes go on meanwhile; the projection goes on by itself where it can, and otherwise by
-- campfire.repair_projection().

create function campfire.is_restoring() returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return pg_catalog.current_setting('application_name') = 'pg_restore'
  -- The head of every dump as a script, which psql runs.
  or pg_catalog.current_setting('check_function_bodies') = 'off' and pg_catalog.current_setting('row_security') = 'off';
comment on function campfire.is_restoring() is
  'Internal. Whether this session runs a dump: objects then come in any order, and the dump brings what is missing.';

create function campfire.cut_columns(source regclass) returns table (column_name name, type_name text, source_type text, definition text)
language sql stable strict set search_path = pg_catalog, pg_temp
begin atomic
  select a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
    coalesce(pg_catalog.format_type(s.atttypid, s.atttypmod), 'any length'), u.definition
  from campfire.projections as p
  cross join lateral rows from (pg_catalog.unnest(p.columns), pg_catalog.unnest(p.definitions)) as u (name, definition)
  join pg_catalog.pg_attribute as a on a.attrelid = p.mirror and a.attname = u.name and a.atttypmod >= 0
  left join pg_catalog.pg_attribute as s on s.attrelid = p.source and pg_catalog.quote_ident(s.attname) = u.definition
  cross join lateral (select campfire.type_modifier(s.atttypid, s.atttypmod)) as m (modifier)
  where p.source = cut_columns.source
    and not coalesce(campfire.projected_type(s.atttypid) = a.atttypid::regtype and (
      m.modifier = a.atttypmod or a.atttypid = 'varchar'::regtype and m.modifier between 0 and a.atttypmod), false);
end;
comment on function campfire.cut_columns(regclass) is
  'Internal. Columns of a mirror whose length or precision cannot hold every value of the source. Columns that '
  'campfire.create_projection() makes have neither.';

create function campfire.described_projection(source regclass) returns campfire.projection_remains
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  class constant pg_class := (select c from pg_class as c where c.oid = source);
  found campfire.projection_remains;
  mirror regclass;
begin
  select r.* into found from campfire.projection_remains as r
  join pg_class as c on c.oid = to_regclass(r.mirror)
  -- Somebody else, or another table, may have taken the name.
  where r.source = campfire.qualified_name(source) and c.relowner = class.relowner and c.relkind = 'r' and r.columns <@ array(
    select a.attname from pg_attribute as a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped);
  if found.source is not null then
    return found;
  end if;
  -- In a database that never had the registration: as its mirror describes itself.
  mirror := (
    select c.oid from pg_class as c
    where c.relnamespace = class.relnamespace and c.relname = campfire.name_around('realtime_', class.relname::text, '')
      and c.relowner = class.relowner and c.relkind = 'r' and starts_with(obj_description(c.oid, 'pg_class'), 'campfire: '));
  if mirror is null then
    return null;
  end if;
  found.source := campfire.qualified_name(source);
  found.mirror := campfire.qualified_name(mirror);
  found.dropped_partitions := 'keep';
  select array_agg(d.name order by d.number), array_agg(d.definition order by d.number) into found.columns, found.definitions
  from (
    select a.attname as name, a.attnum as number, case
      when starts_with(col_description(mirror, a.attnum), 'campfire: ') then substr(col_description(mirror, a.attnum), 11)
      when exists (select from pg_attribute as s where s.attrelid = source and s.attname = a.attname and not s.attisdropped)
        then quote_ident(a.attname) end as definition
    from pg_attribute as a where a.attrelid = mirror and a.attnum > 0 and not a.attisdropped) as d
  where d.definition is not null;
  -- By the key of the source: the mirror's may still be missing.
  select array_agg(u.name order by k.n) into found.key_columns
  from pg_index as i
  cross join unnest(i.indkey::int2[]) with ordinality as k (number, n)
  join pg_attribute as a on a.attrelid = source and a.attnum = k.number
  join rows from (unnest(found.columns), unnest(found.definitions)) as u (name, definition) on u.definition = quote_ident(a.attname)
  where i.indrelid = source and i.indisprimary and k.n <= i.indnkeyatts;
  return case when found.key_columns is not null then found end;
end
$$;
comment on function campfire.described_projection(regclass) is
  'Internal. The projection that a table had whose registration is gone: as recorded when the tables were dropped, else as the columns of '
  'the mirror beside it and their comments describe it. Null if there is neither.';

create function campfire.missing_key(source regclass) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  -- A table that pg_restore -t brought back has no key.
  select pg_catalog.format('alter table %s add primary key (%s);', campfire.qualified_name(missing_key.source), pg_catalog.string_agg(u.definition, ', '))
  from campfire.projection_remains as r
  cross join lateral pg_catalog.unnest(r.key_columns) as k (name)
  cross join lateral rows from (pg_catalog.unnest(r.columns),
    pg_catalog.unnest(coalesce(r.definitions, array(select pg_catalog.quote_ident(c) from pg_catalog.unnest(r.columns) as c)))) as u (name, definition)
  where r.source = campfire.qualified_name(missing_key.source) and u.name = k.name
    and not exists (select from pg_catalog.pg_index as i where i.indrelid = missing_key.source and i.indisprimary)
  having pg_catalog.count(*) > 0
);
comment on function campfire.missing_key(regclass) is
  'Internal. SQL that makes the primary key that a projected table had before it came back from a dump without it; null if the table has '
  'one.';

create function campfire.adopt_projection(source regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  described campfire.projection_remains;
begin
  -- Of tables that are gone: their oids may come back.
  delete from campfire.projection_registry as p
  where not exists (select from pg_class as c where c.oid = p.source) or p.source = source
    and not exists (select from pg_class as c where c.oid = p.mirror) and campfire.described_projection(source) is not null;
  if exists (select from campfire.projection_registry as p where p.source = source) then
    return;
  end if;
  described := campfire.described_projection(source);
  if described.source is null then
    perform campfire.require_projection(source);
  elsif campfire.missing_key(source) is not null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s has no primary key', campfire.qualified_name(source)),
      detail = 'A row is found in the mirror by its primary key.',
      hint = campfire.missing_key(source);
  end if;
  perform campfire.require_projectable(source);
  delete from campfire.projection_remains as r where r.source = described.source or r.mirror = described.mirror;
  insert into campfire.projection_registry (source, mirror, key_columns, columns, definitions, restored, dropped_partitions)
  values (source, described.mirror::regclass, described.key_columns, described.columns, described.definitions, true,
    described.dropped_partitions);
end
$$;
comment on function campfire.adopt_projection(regclass) is
  'Internal. Registers a projection again after its tables came back from a dump. Raises 42704 if there was none, and the error of a '
  'table that cannot have one.';

create function campfire.resume_projection(source regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  problem text;
begin
  if source is null or not campfire.has_row_trigger(source)
    or exists (
      select from campfire.projections as p where p.source = source or p.source in (select relid from pg_partition_ancestors(source))) then
    return;
  end if;
  perform campfire.adopt_projection(source);
  problem := (select r.problem from campfire.projection_problem(source) as r);
  if problem is not null then
    raise exception using errcode = 'object_not_in_prerequisite_state', message = problem;
  end if;
exception when others then
  -- Not yet, or never: writes go on, and the check says so. What is not in order must not end a restore.
  raise debug '% is not projected yet: %', source, sqlerrm;
end
$$;
comment on function campfire.resume_projection(regclass) is
  'Internal. Registers a projection again once its table has the trigger and everything else is in order; otherwise changes nothing.';

create function campfire.mend_parts(source regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  projection campfire.projections;
  mirror text;
  changes text;
begin
  perform campfire.adopt_projection(source);
  projection := campfire.require_projection(source);
  mirror := campfire.qualified_name(projection.mirror);
  select string_agg(format('alter column %I type %s', c.column_name, campfire.type_without_length(a.atttypid)), ', ') into changes
  from campfire.cut_columns(source) as c
  join pg_attribute as a on a.attrelid = projection.mirror and a.attname = c.column_name;
  -- Where a dump of this table alone left the key out.
  if not exists (select from pg_index as i where i.indrelid = projection.mirror and i.indisunique and i.indisvalid) then
    changes := concat_ws(', ', changes, format('add primary key (%s)', campfire.projection_column_list(projection.key_columns, '')));
  end if;
  if (select c.relreplident <> 'f' from pg_class as c where c.oid = projection.mirror) then
    changes := concat_ws(', ', changes, 'replica identity full');
  end if;
  if (select not c.relrowsecurity from pg_class as c where c.oid = projection.mirror) then
    changes := concat_ws(', ', changes, 'enable row level security');
  end if;
  if changes is not null then
    execute format('alter table %s %s', mirror, changes);
  end if;
  perform campfire.note_definitions(source);
  perform campfire.attach_triggers(source);
end
$$;
comment on function campfire.mend_parts(regclass) is
  'Internal. Restores registration, mirror and triggers of a projection: what campfire.repair_projection() does before the rows.';

create function campfire.note_repaired(source regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
begin
  update campfire.projection_registry as p set restored = false where p.source = source and p.restored;
  -- Every row is there now.
  perform campfire.end_backfill(source);
end
$$;
comment on function campfire.note_repaired(regclass) is 'Internal. Records that table and mirror hold the same.';

create function campfire.check_projections()
returns table (relation regclass, column_name name, type_name text, problem text, fix text)
-- Definer: what a projection is made of is read as the owner of its table, which not even the relay may do otherwise.
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
begin
  return query
  select p.source::regclass, null::name, null::text, found.problem, found.fix
  from campfire.projection_registry as p
  join pg_class as c on c.oid = p.source
  cross join lateral (select campfire.qualified_name(p.source)) as q (name)
  cross join lateral (
    select r.problem, r.fix from campfire.projection_problem(p.source) as r where r.problem is not null
      -- A mirror of the chat tables that is gone is named as what an installation misses, with what brings it back.
      and (exists (select from pg_class as m where m.oid = p.mirror) or not exists (
        select from campfire.installations as i where to_regclass(format('%I.conversations', i.schema_name)) = p.source))
    union all
    select format('%s has lost a trigger: its mirror is not kept', q.name), format('call campfire.repair_projection(%L);', q.name)
    where not campfire.has_row_trigger(p.source) or exists (
      select p.source as relid union select t.relid from pg_partition_tree(p.source) as t
      except
      select t.tgrelid from pg_trigger as t
      where t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure and t.tgtype & 33 = 32)
    union all
    select format('trigger %I of %s does not fire: its mirror is not kept', t.tgname, campfire.qualified_name(t.tgrelid)),
      format('alter table %s enable trigger %I; call campfire.repair_projection(%L);', campfire.qualified_name(t.tgrelid), t.tgname, q.name)
    from pg_trigger as t
    where t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure and t.tgenabled in ('D', 'R')
      and (t.tgrelid = p.source or t.tgrelid in (select relid from pg_partition_tree(p.source)))
    union all
    select format('%s came back from a dump: its mirror may differ from it', q.name), format('call campfire.repair_projection(%L);', q.name)
    where p.restored
    union all
    select format('the old rows of %s are not all in its mirror', q.name), format('call campfire.create_projection(%L);', q.name)
    where exists (select from campfire.projection_backfills as b where b.source = p.source)
  ) as found;

  return query
  select lost.source, null::name, null::text,
    format('%s had a projection, and is not registered any more: its mirror is not kept', campfire.qualified_name(lost.source)),
    case
      when (campfire.described_projection(lost.source)).source is not null
        then concat_ws(' ', campfire.missing_key(lost.source), format('call campfire.repair_projection(%L);', campfire.qualified_name(lost.source)))
      else format('call campfire.create_projection(%L);', campfire.qualified_name(lost.source)) end
  from (
    select t.tgrelid::regclass as source from pg_trigger as t
    where t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure and t.tgparentid = 0 and t.tgtype & 1 = 1
    union
    select to_regclass(r.source) from campfire.projection_remains as r where to_regclass(r.mirror) is not null
    union
    -- Both came back without the trigger, and the mirror is published.
    select s.oid
    from pg_class as m
    join pg_class as s on s.relnamespace = m.relnamespace and s.relkind in ('r', 'p') and not s.relispartition
      and m.relname = campfire.name_around('realtime_', s.relname::text, '')
    where m.relkind = 'r' and m.relname like 'realtime\_%' and starts_with(obj_description(m.oid, 'pg_class'), 'campfire: ')
      and exists (select from pg_publication_rel as r where r.prrelid = m.oid)
      and not exists (select from campfire.projection_registry as p where p.mirror = m.oid)
  ) as lost
  where lost.source is not null and not exists (
    select from campfire.projections as p
    where p.source = lost.source or p.source in (select relid from pg_partition_ancestors(lost.source)))
    and not exists (select from campfire.projection_registry as p where p.source = lost.source);
end
$$;
comment on function campfire.check_projections() is
  'Problems of projections, each with SQL that fixes it; no rows if there are none. It does not compare rows: '
  'campfire.verify_projection() does. Part of campfire.check_publication(). Example: select * from campfire.check_projections();';

-- Rows of partitions that went ------------------------------------------------------------------------------------------

create function campfire.set_dropped_partitions(source regclass, choice text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
begin
  perform campfire.require_projection(source);
  if choice not in ('keep', 'delete') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" cannot be done with the rows of dropped partitions', choice),
      hint = 'Choose keep or delete.';
  end if;
  update campfire.projection_registry as p set dropped_partitions = choice where p.source = source;
end
$$;
comment on function campfire.set_dropped_partitions(regclass, text) is
  'Internal. What campfire.alter_projection() does, as the owner of the extension.';

create function campfire.delete_surplus(source regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  projection constant campfire.projections := campfire.require_projection(source);
begin
  perform campfire.query_as_owner(source, (
    select format('with gone as (delete from only %s as m where not exists (select from %s where %s) returning 1) '
        'select to_jsonb(count(*)) from gone', campfire.qualified_name(projection.mirror), campfire.only_of(source),
      string_agg(format('(%s)::%s = m.%I', u.definition, campfire.type_without_length(a.atttypid), u.name), ' and '))
    from rows from (unnest(projection.columns), unnest(projection.definitions)) as u (name, definition)
    join pg_attribute as a on a.attrelid = projection.mirror and a.attname = u.name
    where u.name = any (projection.key_columns)));
end
$$;
comment on function campfire.delete_surplus(regclass) is 'Internal. Deletes the rows of a mirror that its table does not have.';
