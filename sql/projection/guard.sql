-- Event triggers that keep DDL from breaking the writes to a projected table: the error comes to whoever alters the
-- table, never to whoever inserts into it. They follow renames, and give new partitions their trigger for TRUNCATE.

create function campfire.projection_problem(source regclass, out problem text, out fix text, out cuts boolean)
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  projection campfire.projection_registry;
  qualified constant text := campfire.qualified_name(source);
  mirror text;
  definitions text[];
  part record;
begin
  select * into projection from campfire.projection_registry as p where p.source = source;
  mirror := campfire.qualified_name(projection.mirror);
  fix := format('select campfire.drop_projection(%L, unpublish => true);', qualified);
  if mirror is null then
    problem := format('the mirror of %s would be gone', qualified);
    return;
  end if;
  if (select c.relispartition from pg_class as c where c.oid = source) then
    problem := format('%s has a projection of its own and cannot be a partition', qualified);
    return;
  end if;
  definitions := coalesce(projection.definitions,
    array(select quote_ident(c) from unnest(projection.columns) with ordinality as u (c, n) order by n));

  select u.name into part from unnest(projection.columns) as u (name)
  where not exists (select from pg_attribute as a where a.attrelid = projection.mirror and a.attname = u.name and not a.attisdropped);
  if found then
    problem := format('the mirror of %s needs column %s.%I', qualified, mirror, part.name);
    return;
  end if;
  if not exists (
      select from pg_index as i
      where i.indrelid = projection.mirror and i.indisunique and i.indisvalid and i.indimmediate
        and i.indpred is null and i.indexprs is null and i.indnkeyatts = cardinality(projection.key_columns)
        and array(select a.attname from pg_attribute as a where a.attrelid = projection.mirror and a.attnum = any (i.indkey::int2[]))
          @> projection.key_columns) then
    problem := format('the mirror of %s needs a unique key', qualified);
    return;
  end if;
  if not exists (
      select from pg_index as i
      where i.indrelid = source and i.indisprimary and i.indimmediate and i.indnkeyatts = cardinality(projection.key_columns)
        and array(
          select quote_ident(a.attname) from pg_attribute as a where a.attrelid = source and a.attnum = any (i.indkey::int2[]))
          @> array(
          select u.definition from rows from (unnest(projection.columns), unnest(definitions)) as u (name, definition)
          where u.name = any (projection.key_columns))) then
    problem := format('the projection of %s needs its primary key', qualified);
    return;
  end if;

  begin
    for part in
      select a.attname, a.attnotnull, a.atttypid as mirror_type, a.atttypmod, c.type as source_type, c.definition,
        not exists (
          select from pg_attribute as s
          where s.attrelid = source and s.attnotnull and quote_ident(s.attname) = c.definition) as can_be_null
      from rows from (unnest(projection.columns), unnest(definitions)) as u (name, definition)
      join pg_attribute as a on a.attrelid = projection.mirror and a.attname = u.name
      cross join lateral campfire.projection_columns(source, array[u.definition]) as c
    loop
      if part.mirror_type <> campfire.projected_type(part.source_type)
        and part.mirror_type not in ('text'::regtype, 'varchar'::regtype)
        and not exists (
          select from pg_cast as k
          where k.castsource = campfire.projected_type(part.source_type) and k.casttarget = part.mirror_type and k.castcontext = 'i')
        or campfire.projected_type(part.source_type) is null and part.mirror_type not in ('text'::regtype, 'varchar'::regtype)
      then
        problem := format('%s.%I of type %s cannot hold %s of type %s', mirror, part.attname,
          format_type(part.mirror_type, -1), part.definition, format_type(part.source_type, -1));
        if campfire.projected_type(part.source_type) is not null then
          fix := format('alter table %1$s alter column %2$I type %3$s using %2$I::%3$s;', mirror, part.attname,
            campfire.type_without_length(campfire.projected_type(part.source_type)));
        end if;
        return;
      elsif part.attnotnull and part.can_be_null and part.attname <> all (projection.key_columns) then
        problem := format('%s.%I is not null, and %s may be', mirror, part.attname, part.definition);
        fix := format('alter table %s alter column %I drop not null;', mirror, part.attname);
        return;
      end if;
    end loop;
  exception when others then
    problem := format('the projection of %s would no longer work: %s', qualified, sqlerrm);
    return;
  end;
  select c.column_name, c.type_name, c.definition, c.source_type into part from campfire.cut_columns(source) as c limit 1;
  if found then
    problem := format('%s.%I of type %s cannot hold %s of type %s', mirror, part.column_name, part.type_name, part.definition, part.source_type);
    fix := format('call campfire.repair_projection(%L);', qualified);
    cuts := true;
  end if;
end
$$;
comment on function campfire.projection_problem(regclass) is
  'Internal. What would break writes to a projected table, and SQL that lets the change pass; null if nothing. Cuts: writes go on, '
  'and the mirror gets less than the values.';

create function campfire.refuse_projection_problems(sources oid[], touched oid[] default '{}') returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  found record;
begin
  -- A parallel restore may make the triggers before the keys.
  if campfire.is_restoring() then
    return;
  end if;
  select r.* into found
  from campfire.projection_registry as p
  cross join lateral campfire.projection_problem(p.source) as r
  where p.source = any (sources) and r.problem is not null
    -- No write can fail by a trigger that is not there, as in a restore, or switched off, as where the library is gone.
    and exists (
      select from pg_trigger as t
      where t.tgrelid = p.source and t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure and t.tgenabled <> 'D')
    -- A mirror that was made too short must not keep partitions from being made.
    and (r.cuts is null or p.mirror = any (touched))
  limit 1;
  if found.problem is not null then
    perform campfire.refuse_command('55000', found.problem, 'Writes to the table would fail, or its mirror be wrong.', found.fix);
  end if;
  for found in
    select r.* from campfire.projection_registry as p cross join lateral campfire.projection_problem(p.source) as r
    where p.source = any (sources) and p.source = any (touched) and r.cuts
  loop
    raise warning using message = found.problem, hint = found.fix;
  end loop;
end
$$;
comment on function campfire.refuse_projection_problems(oid[], oid[]) is
  'Internal. Raises 55000 if one of these projections would no longer work; warns of one whose mirror cuts values, unless the mirror is '
  'what was touched.';

create function campfire.guard_projections() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  touched oid[];
  renamed record;
  source regclass;
  stale record;
  detached name[] := '{}';
begin
  -- What comes back from a dump: the trigger last, or the mirror and its key after it.
  for source in
    select t.tgrelid from pg_event_trigger_ddl_commands() as c
    join pg_trigger as t on c.classid = 'pg_trigger'::regclass and t.oid = c.objid
    where t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure
    union
    select to_regclass(r.source) from campfire.projection_remains as r where to_regclass(r.mirror) is not null
  loop
    perform campfire.resume_projection(source);
  end loop;
  if tg_tag = 'CREATE TRIGGER' or not exists (select from campfire.projection_registry) then
    return;
  end if;
  if tg_tag not in ('ALTER TABLE', 'CREATE TABLE') then
    -- Something that an expression may name.
    perform campfire.refuse_projection_problems(array(
      select p.source from campfire.projection_registry as p
      where exists (
        select from unnest(p.definitions) as d
        where not exists (select from pg_attribute as a where a.attrelid = p.source and quote_ident(a.attname) = d))));
    return;
  end if;
  select coalesce(array_agg(c.objid), '{}') into touched
  from pg_event_trigger_ddl_commands() as c where c.classid = 'pg_class'::regclass and not c.in_extension;
  -- With what they are partitions of, and their partitions.
  touched := touched
    || array(select a.relid from unnest(touched) as t (oid) cross join lateral pg_partition_ancestors(t.oid) as a)
    || array(select a.relid from unnest(touched) as t (oid) cross join lateral pg_partition_tree(t.oid) as a);
  if not exists (select from campfire.projection_registry as p where p.source = any (touched) or p.mirror = any (touched))
    and not exists (
      select from pg_trigger as t
      where t.tgrelid = any (touched) and t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure) then
    return;
  end if;

  -- One column was renamed: its new name is told, and the old one is the one that is missing.
  for renamed in
    select p.source, p.mirror, c.objid = p.mirror::oid as of_mirror, a.attname as new
    from pg_event_trigger_ddl_commands() as c
    join campfire.projection_registry as p on c.objid in (p.source::oid, p.mirror::oid)
    join pg_attribute as a on a.attrelid = c.objid and a.attnum = c.objsubid
    where c.classid = 'pg_class'::regclass and c.object_type = 'table column'
  loop
    if renamed.of_mirror then
      update campfire.projection_registry as p
      set definitions = coalesce(p.definitions, array(select quote_ident(u.c) from unnest(p.columns) with ordinality as u (c, n) order by n)),
        columns = array_replace(p.columns, gone.name, renamed.new),
        key_columns = array_replace(p.key_columns, gone.name, renamed.new)
      from (
        select u.name from campfire.projection_registry as r cross join unnest(r.columns) as u (name)
        where r.source = renamed.source and not exists (
          select from pg_attribute as a where a.attrelid = r.mirror and a.attname = u.name and not a.attisdropped)) as gone
      where p.source = renamed.source;
    else
      update campfire.projection_registry as p
      set definitions = array(
        select case
          when exists (
            select from pg_attribute as a
            where a.attrelid = renamed.source and quote_ident(a.attname) = d.definition and not a.attisdropped)
            -- An expression is Postgres's to read, and fails below if it named the column.
            or d.definition !~ '^("([^"]|"")+"|[^\s"()''.:0-9][^\s"()''.:]*)$' or d.definition in ('true', 'false') then d.definition
          else quote_ident(renamed.new) end
        from unnest(coalesce(p.definitions, array(select quote_ident(u.c) from unnest(p.columns) with ordinality as u (c, n) order by n)))
          with ordinality as d (definition, n) order by d.n)
      where p.source = renamed.source;
    end if;
    perform campfire.note_definitions(renamed.source);
  end loop;

  perform campfire.refuse_projection_problems(array(
    select p.source from campfire.projection_registry as p where p.source = any (touched) or p.mirror = any (touched)), touched);
  -- A dump brings these triggers along: until it has brought those of the table, they are not missing.
  if campfire.is_restoring() then
    return;
  end if;
  for source in
    select p.source from campfire.projection_registry as p join pg_class as c on c.oid = p.source
    where p.source = any (touched) and c.relkind = 'p' and campfire.has_row_trigger(p.source)
  loop
    perform campfire.attach_truncate_triggers(source);
  end loop;
  -- A partition that was detached keeps its rows to itself. Its row trigger went with Postgres.
  for stale in
    select t.tgname, campfire.qualified_name(t.tgrelid) as relation
    from pg_trigger as t
    where t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure
      and t.tgparentid = 0 and t.tgtype & 33 = 32 and t.tgname like 'sync\_realtime\_%\_truncate\_trigger'
      and not campfire.has_row_trigger(t.tgrelid)
      and not exists (
        select from campfire.projection_registry as p
        where p.source = t.tgrelid or p.source in (select relid from pg_partition_ancestors(t.tgrelid)))
  loop
    execute format('drop trigger %I on %s', stale.tgname, stale.relation);
    detached := detached || stale.tgname;
  end loop;
  for source in
    select p.source from campfire.projection_registry as p
    where p.source = any (touched) and p.dropped_partitions = 'delete' and exists (
      select from pg_trigger as t where t.tgrelid = p.source and t.tgname = any (detached))
  loop
    perform campfire.delete_surplus(source);
  end loop;
end
$$;
comment on function campfire.guard_projections() is
  'Internal event trigger. Follows renames of projected columns and new partitions; raises 55000 if a command would make writes to a '
  'projected table fail. The hint is SQL that lets it pass.';

create function campfire.guard_projection_drops() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_variable
declare
  source regclass;
begin
  if not exists (select from campfire.projection_registry) then
    return;
  end if;
  -- Dropped sources take their registrations along, and in a restore a mirror that was dropped: it comes back with
  -- another oid. Their mirrors stay, as tables that nothing writes.
  with lost as (
    delete from campfire.projection_registry as p
    where not exists (select from pg_class as c where c.oid = p.source)
      or campfire.is_restoring() and not exists (select from pg_class as c where c.oid = p.mirror)
    returning p.*
  ), named as (
    select l.*, coalesce(campfire.qualified_name(l.source), (
        select d.object_identity from pg_event_trigger_dropped_objects() as d
        where d.classid = 'pg_class'::regclass and d.objid = l.source and d.objsubid = 0)) as source_name,
      coalesce(campfire.qualified_name(l.mirror), (
        select d.object_identity from pg_event_trigger_dropped_objects() as d
        where d.classid = 'pg_class'::regclass and d.objid = l.mirror and d.objsubid = 0)) as mirror_name
    from lost as l
  )
  insert into campfire.projection_remains as r (source, mirror, key_columns, columns, definitions, dropped_partitions)
  select n.source_name, n.mirror_name, n.key_columns, n.columns, n.definitions, n.dropped_partitions
  from named as n where n.source_name is not null and n.mirror_name is not null
  on conflict on constraint projection_remains_pkey do update
  set (mirror, key_columns, columns, definitions, dropped_partitions)
    = (excluded.mirror, excluded.key_columns, excluded.columns, excluded.definitions, excluded.dropped_partitions);
  delete from campfire.projection_backfills as b
  where not exists (select from campfire.projection_registry as p where p.source = b.source);
  perform campfire.refuse_projection_problems(array(
    select p.source
    from campfire.projection_registry as p
    left join pg_class as m on m.oid = p.mirror
    join pg_class as s on s.oid = p.source
    where exists (
      select from pg_event_trigger_dropped_objects() as d
      where case
        when d.object_type = 'table' then d.objid = p.mirror
        when d.object_type in ('table column', 'table constraint')
          then to_regclass(format('%I.%I', d.address_names[1], d.address_names[2])) in (p.source, p.mirror)
        when d.object_type = 'index' then to_regnamespace(quote_ident(d.schema_name)) in (s.relnamespace, m.relnamespace)
        when d.object_type in ('function', 'operator', 'cast', 'type') then p.definitions is not null
        else false end)));
  -- A partition has the trigger of its table, by the same name.
  for source in
    select p.source
    from campfire.projection_registry as p
    join pg_trigger as t on t.tgrelid = p.source and t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure
    where p.dropped_partitions = 'delete' and exists (
      select from pg_event_trigger_dropped_objects() as d
      join pg_event_trigger_dropped_objects() as k
        on k.object_type = 'trigger' and k.address_names[1:2] = d.address_names and k.address_names[3] = t.tgname
      where d.object_type = 'table')
    group by p.source
  loop
    perform campfire.delete_surplus(source);
  end loop;
end
$$;
comment on function campfire.guard_projection_drops() is
  'Internal event trigger. Raises 55000 if dropping something would make writes to a projected table fail. The hint is SQL that lets it pass.';

create event trigger campfire_projections on ddl_command_end
  when tag in ('ALTER TABLE', 'CREATE TABLE', 'CREATE TRIGGER', 'CREATE FUNCTION', 'ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER SCHEMA', 'ALTER TYPE',
    'ALTER DOMAIN', 'ALTER OPERATOR', 'ALTER COLLATION', 'ALTER EXTENSION')
  execute function campfire.guard_projections();
comment on event trigger campfire_projections is
  'campfire: keeps projections in step with their tables. Switch off: alter event trigger campfire_projections disable; '
  'then on again: alter event trigger campfire_projections enable; and look at campfire.verify_projection().';
create event trigger campfire_projections_drop on sql_drop execute function campfire.guard_projection_drops();
comment on event trigger campfire_projections_drop is
  'campfire: keeps what projections need from being dropped. Switch off: alter event trigger campfire_projections_drop disable; '
  'then on again: alter event trigger campfire_projections_drop enable;';
