-- Publications that carry scalar columns only, whatever is in the tables.
--
-- Publications are made by functions, never by the extension script: they are not extension members, so a dump
-- would carry them a second time.

create function campfire.column_list(publication name, relation regclass) returns name[]
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  select pg_catalog.array_agg(a.attname order by a.attnum)
  from pg_catalog.pg_publication as p
  join pg_catalog.pg_publication_rel as r on r.prpubid = p.oid
  join pg_catalog.pg_attribute as a on a.attrelid = r.prrelid and a.attnum = any (r.prattrs::int2[])
  where p.pubname = publication and r.prrelid = relation
);
comment on function campfire.column_list(name, regclass) is
  'Column list with which a publication carries a table; null if it carries all columns, or does not carry the table.';

create function campfire.filter_columns(publication name, relation regclass) returns name[]
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  select pg_catalog.array_agg(a.attname order by a.attnum)
  from pg_catalog.pg_publication as p
  join pg_catalog.pg_publication_rel as r on r.prpubid = p.oid
  join pg_catalog.pg_attribute as a on a.attrelid = r.prrelid
    -- Not by pg_depend, which does not tell the filter's columns from those of the list.
    and a.attnum in (select m[1]::int2 from pg_catalog.regexp_matches(r.prqual::text, ':varattno (\d+)', 'g') as m)
  where p.pubname = publication and r.prrelid = relation
);
comment on function campfire.filter_columns(name, regclass) is
  'Internal. Columns that the row filter of a table in a publication uses; null if there is no filter.';

create function campfire.standard_tables(publication name, control boolean)
returns table (qualified text, relation regclass, columns name[], listed boolean, published name[])
language sql stable strict set search_path = pg_catalog, pg_temp
begin atomic
  select
    pg_catalog.format('%I.%I', i.schema_name, b.table_name),
    c.oid::regclass,
    b.columns,
    b.listed,
    -- Empty if the publication does not carry the table.
    case when r.oid is null then '{}' else array(
      select k.column_name from campfire.publishable_columns(c.oid) as k
      where r.prattrs is null or k.column_name = any (campfire.column_list(publication, c.oid))) end
  from campfire.installations as i
  cross join campfire.builtin_tables as b
  left join pg_catalog.pg_namespace as n on n.nspname = i.schema_name
  left join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = b.table_name and c.relkind in ('r', 'p')
  left join pg_catalog.pg_publication as p on p.pubname = publication
  left join pg_catalog.pg_publication_rel as r on r.prpubid = p.oid and r.prrelid = c.oid
  where b.control = standard_tables.control
  order by i.number, b.table_name;
end;
comment on function campfire.standard_tables(name, boolean) is
  'Internal. What a standard publication (or its control twin) must carry for every installation, and what it carries.';

create function campfire.wal_level_problem() returns table (problem text, fix text)
language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select pg_catalog.format('wal_level is %s, so the relay cannot read any publication', s.setting),
    'alter system set wal_level = logical; -- then restart the server'::text
  from pg_catalog.pg_settings as s where s.name = 'wal_level' and s.setting <> 'logical';
end;
comment on function campfire.wal_level_problem() is
  'Internal. A row if the server writes too little into the WAL for the relay, with the setting that mends it.';

-- Making them -----------------------------------------------------------------------------------------------------

create function campfire.publish(publication name, relation regclass, columns name[] default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  qualified constant text := campfire.qualified_name(relation);
  target pg_publication;
  source pg_class;
  present pg_publication_rel;
  identity_columns name[];
  wanted name[] := columns; -- null: every column, without a list
  -- Who publishes a projected table beside its mirror, and routes both, sends each change twice.
  mirror constant text := (
    select campfire.qualified_name(p.mirror)
    from campfire.projections as p join pg_class as c on c.oid = p.source
    -- That of install() is published beside its mirror, and routed only from there.
    where p.source = relation and c.relname <> 'conversations');
  offenders name[];
  missing name[];
  complaints text;
  left_out text;
begin
  if publication is null or relation is null then
    raise exception using
      errcode = 'null_value_not_allowed',
      message = 'publish() needs a publication and a table';
  end if;
  select * into target from pg_publication as p where p.pubname = publication;
  if not found then
    raise exception using
      errcode = 'undefined_object',
      message = format('publication "%s" does not exist', publication),
      hint = format('select campfire.create_publication(%L);', publication);
  end if;
  if target.puballtables then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('publication "%s" publishes all tables', publication),
      detail = 'It carries every column of every table, also those that are not scalar.',
      hint = format('drop publication %1$I; select campfire.create_publication(%1$L);', publication);
  end if;
  select * into source from pg_class as c where c.oid = relation;
  if not found then
    raise exception using
      errcode = 'undefined_table',
      message = format('relation with oid %s does not exist', relation::oid);
  end if;
  if source.relkind not in ('r', 'p') or source.relpersistence <> 'p' then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('%s cannot be published', qualified),
      detail = 'Only tables that are written to the WAL can be.',
      hint = case source.relpersistence when 'u' then format('alter table %s set logged;', qualified)
             else 'Publish the table that holds the rows.' end;
  end if;

  identity_columns := campfire.replica_identity_columns(relation);
  if identity_columns is null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s has no replica identity', qualified),
      detail = 'Once it is published, its rows could not be updated or deleted.',
      hint = case when mirror is not null then format('select campfire.publish(%L, %L);', publication, mirror)
        else campfire.suggested_identity(relation) end;
  end if;
  if source.relkind = 'p' then
    perform campfire.align_partitions(relation);
  end if;

  if source.relreplident = 'f' and current_setting('server_version_num')::int >= 180000 and exists (
      select from pg_attribute as a
      where a.attrelid = relation and not a.attisdropped and a.attgenerated <> case when campfire.publishes_generated(publication) then 's' else '' end
        and a.attgenerated <> '') then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s has replica identity full and generated columns', qualified),
      detail = 'Once it is published, its rows could not be updated or deleted.',
      hint = campfire.suggested_identity(relation);
  end if;

  if wanted is null and source.relreplident <> 'f' then
    -- Always a list, so that a complex column added later changes nothing. The identity is in it even where it may
    -- not be: it is then refused below, by name.
    select array_agg(c.column_name) filter (where c.publishable or c.column_name = any (identity_columns)),
           string_agg(format('%I (%s)', c.column_name, c.type_name), ', ') filter (where not c.publishable)
    into wanted, left_out
    from campfire.publishable_columns(relation) as c;
  end if;

  select array_agg(w) into missing
  from unnest(wanted) as w
  where w not in (select c.column_name from campfire.publishable_columns(relation) as c);
  if missing is not null then
    raise exception using
      errcode = 'undefined_column',
      message = format('column %s.%I does not exist', qualified, missing[1]),
      hint = format('select * from campfire.publishable_columns(%L);', qualified);
  end if;

  select array_agg(c.column_name), string_agg(format('%s.%I: %s', qualified, c.column_name, c.reason), e'\n')
  into offenders, complaints
  from campfire.publishable_columns(relation) as c
  where not c.publishable
    -- A table without a list keeps its generated columns to itself.
    and case when wanted is null then c.reason like 'type %' else c.column_name = any (wanted) end;
  if offenders is not null then
    raise exception using
      errcode = 'feature_not_supported',
      message = (
        select format('column %s.%I of type %s cannot be published', qualified, c.column_name, c.type_name)
        from campfire.publishable_columns(relation) as c where c.column_name = offenders[1]),
      detail = complaints,
      hint = case
        when mirror is not null then format('select campfire.publish(%L, %L);', publication, mirror)
        when wanted is null or offenders && identity_columns then campfire.suggested_identity(relation)
        else format('select campfire.publish(%L, %L, %L);', publication, qualified, (
          select array_agg(c.column_name) from campfire.publishable_columns(relation) as c
          where c.publishable and c.column_name = any (wanted || identity_columns))::text)
        end;
  end if;

  if wanted is not null and source.relreplident = 'f' then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s has replica identity full and cannot be published with a column list', qualified),
      detail = 'The application''s next UPDATE would fail: a list must cover the replica identity.',
      hint = case
        when mirror is not null then format('select campfire.publish(%L, %L);', publication, mirror)
        when (select bool_and(c.publishable) from campfire.publishable_columns(relation) as c)
          then format('select campfire.publish(%L, %L);', publication, qualified)
        else campfire.suggested_identity(relation) end;
  end if;
  if not wanted @> identity_columns then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('the column list of %s does not cover its replica identity', qualified),
      detail = format('The application''s next UPDATE would fail. The replica identity is (%s).',
        array_to_string(identity_columns, ', ')),
      hint = format('select campfire.publish(%L, %L, %L);', publication, qualified, (
        select array_agg(c.column_name) from campfire.publishable_columns(relation) as c
        where c.column_name = any (wanted || identity_columns))::text);
  end if;

  select * into present from pg_publication_rel as r where r.prpubid = target.oid and r.prrelid = relation;
  if found then
    if campfire.column_list(publication, relation) is not distinct from (
        select array_agg(c.column_name) from campfire.publishable_columns(relation) as c where c.column_name = any (wanted)) then
      raise notice '% is already in publication "%"', qualified, publication;
      return;
    end if;
    -- A list cannot be changed in place on Postgres 15, and SET TABLE would drop every other table.
    execute format('alter publication %I drop table %s', publication, qualified);
  end if;
  execute format('alter publication %I add table only %s%s%s', publication, qualified,
    (select ' (' || string_agg(quote_ident(w), ', ') || ')' from unnest(wanted) as w),
    ' where (' || pg_get_expr(present.prqual, present.prrelid) || ')');
  if left_out is not null then
    raise notice '%: left out of publication "%": %', qualified, publication, left_out;
  end if;
end
$$;
comment on function campfire.publish(name, regclass, name[]) is
  'Adds a table to a publication, or changes its column list. Without columns: all that may be published, with a NOTICE for the rest; '
  'a table with replica identity full goes without a list. Raises 0A000 for a column that is not scalar, 55000 if the replica identity '
  'is missing or not in the list, 42704, 42P01, 42703 for what does not exist; the hint is SQL that mends it. '
  'Example: select campfire.publish(''campfire'', ''orders'', ''{id,state,total}'');';

create function campfire.publish_without(publication name, relation regclass, columns name[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  list constant name[] := campfire.column_list(publication, relation);
begin
  if campfire.filter_columns(publication, relation) && columns then
    perform campfire.unpublish(publication, relation);
    raise notice '%: the row filter in publication "%" is gone', campfire.qualified_name(relation), publication;
  end if;
  perform campfire.publish(publication, relation, (select array_agg(c) from unnest(list) as c where c <> all (columns)));
end
$$;
comment on function campfire.publish_without(name, regclass, name[]) is
  'Takes columns out of the list with which a publication carries a table, so that they can be dropped; a row filter that uses them '
  'goes with them, with a NOTICE. Raises what campfire.publish() raises. '
  'Example: select campfire.publish_without(''campfire'', ''orders'', ''{state}'');';

create function campfire.unpublish(publication name, relation regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  if exists (
      select from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid
      where p.pubname = publication and r.prrelid = relation) then
    execute format('alter publication %I drop table only %s', publication, campfire.qualified_name(relation));
  else
    raise notice '% is not in publication "%"', campfire.qualified_name(relation), publication;
  end if;
end
$$;
comment on function campfire.unpublish(name, regclass) is
  'Takes a table out of a publication; a NOTICE if it is not in it. Example: select campfire.unpublish(''campfire'', ''orders'');';

create function campfire.create_publication(publication name default 'campfire', tables regclass[] default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  control constant text := publication::text || '_control';
  said constant text := current_setting('client_min_messages');
  made record;
  wanted record;
  listed regclass;
  reason text;
  remedy text;
begin
  perform campfire.require_superuser('campfire.create_publication()');
  if publication is null or publication = '' or octet_length(control) > 63 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" cannot be the name of a publication', publication),
      hint = 'The name is between 1 and 55 bytes long: its twin is called <name>_control.';
  end if;
  lock table campfire.managed_publications in share row exclusive mode;
  for made in select * from (values (publication, null::name), (control::name, publication)) as v (name, control_of) loop
    if exists (select from pg_publication where pubname = made.name) then
      if not exists (
          select from campfire.managed_publications as m
          where m.name = made.name and m.control_of is not distinct from made.control_of) then
        raise exception using
          errcode = 'duplicate_object',
          message = format('publication "%s" already exists and is not campfire''s', made.name),
          detail = 'campfire leaves publications alone that it did not make.',
          hint = format('Choose another name, or if nobody needs it: drop publication %I; then repeat.', made.name);
      end if;
    else
      -- Postgres's own warning of wal_level speaks of subscriptions; ours comes at the end.
      perform set_config('client_min_messages', 'error', true);
      execute format('create publication %I with (publish_via_partition_root = true)', made.name);
      perform set_config('client_min_messages', said, true);
    end if;
    insert into campfire.managed_publications as m (name, control_of, standard)
    values (made.name, made.control_of, made.control_of is not null or tables is null)
    on conflict (name) do update set standard = m.standard or excluded.standard;

    for wanted in
      select * from campfire.standard_tables(made.name, made.control_of is not null) as t
      where (tables is null or made.control_of is not null) and t.relation is not null and not t.published @> t.columns
    loop
      -- What the DBA added to a list stays in it. One installation that is damaged does not keep others from it.
      begin
        perform campfire.publish(made.name, wanted.relation,
          case when wanted.listed then array(
            select c.column_name from campfire.publishable_columns(wanted.relation) as c
            where c.column_name = any (wanted.columns || wanted.published)) end);
      exception when feature_not_supported or object_not_in_prerequisite_state then
        get stacked diagnostics reason = message_text, remedy = pg_exception_hint;
        raise warning using
          errcode = 'object_not_in_prerequisite_state',
          message = format('%s was left out of publication "%s": %s', wanted.qualified, made.name, reason),
          hint = remedy;
      end;
    end loop;
  end loop;

  foreach listed in array coalesce(tables, '{}') loop
    if not exists (
        select from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid
        where p.pubname = publication and r.prrelid = listed) then
      perform campfire.publish(publication, listed);
    end if;
  end loop;
  for reason, remedy in select w.problem, w.fix from campfire.wal_level_problem() as w loop
    raise warning using errcode = 'object_not_in_prerequisite_state', message = reason, hint = remedy;
  end loop;
end
$$;
comment on function campfire.create_publication(name, regclass[]) is
  'Makes the publication the relay reads, and its twin <name>_control for agents and read receipts; repeated, adds what is missing. '
  'Without tables: the standard ones of every installation, with a WARNING for one that cannot be published. Superuser. Raises 42501, '
  '22023 for a name that is too long, 42710 if a publication of that name is not campfire''s, and for tables named here what '
  'campfire.publish() raises. A WARNING if the server''s wal_level keeps the relay from reading. Example: select campfire.create_publication();';
