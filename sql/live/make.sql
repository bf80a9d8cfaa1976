-- campfire.make_live(): one call from a table to events. campfire.make_live_undo() takes it back.
--
-- With a projection, three kinds of transactions: the first makes it and tries the last one, so that what is wrong with
-- the arguments is said before rows are copied; then the old rows, which nobody is told of; the last publishes and routes,
-- while nobody writes, so that each change is of before or of after.

create function campfire.live_items(source regclass, channel text, gate text, items text[], wanted jsonb) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  projection campfire.projections;
  needed text[];
begin
  select * into projection from campfire.projections as p where p.source = source;
  -- Rows are found and addressed by these, whether or not they are sent.
  needed := array(
    select a.attname::text from pg_attribute as a
    where a.attrelid = source and a.attnum > 0 and not a.attisdropped
      and (a.attname = any (campfire.template_columns(channel))
        -- A word too many is a column of the mirror that is not sent.
        or gate ~ ('\y' || regexp_replace(a.attname, '(\W)', '\\\1', 'g') || '\y') and campfire.projected_type(a.atttypid) is not null
        or projection.source is null and a.attnum = any (array(
        select unnest(i.indkey::int2[]) from pg_index as i where i.indrelid = source and i.indisprimary)))
      and a.attname <> all (coalesce(projection.columns, '{}'))
      and not exists (
        select from jsonb_to_recordset(wanted) as w (column_name name, definition text)
        where w.column_name = a.attname or w.definition = quote_ident(a.attname))
    order by a.attnum);
  if projection.source is null then
    return case when items is not null then needed || items end;
  end if;
  -- Of a mirror that exists, what it has stays.
  return array(
      select case when u.definition = quote_ident(u.name) then u.definition else format('%s as %I', u.definition, u.name) end
      from rows from (unnest(projection.columns), unnest(projection.definitions)) with ordinality as u (name, definition, n) order by u.n)
    || array(
      select w.item from rows from (unnest(items), jsonb_to_recordset(wanted) as (column_name name)) with ordinality as w (item, column_name, n)
      where w.column_name <> all (projection.columns) order by w.n)
    || needed;
end
$$;
comment on function campfire.live_items(regclass, text, text, text[], jsonb) is
  'Internal. The items that a projection needs to send these: also the key, the columns that channel and gate name, and what its mirror has '
  'already. Null for the default.';

create function campfire.live_work(
  source regclass, channel text, event text, public boolean, gate text, items text[], wanted jsonb) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  qualified constant text := campfire.qualified_name(source);
  projection campfire.projections;
  other record;
begin
  perform campfire.require_superuser('campfire.make_live()');
  if source is null or channel is null or event is null or public is null then
    raise exception using
      errcode = 'null_value_not_allowed',
      message = 'make_live() needs a table, a channel and an event';
  elsif (select c.relispartition from pg_class as c where c.oid = source) then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('%s is a partition', qualified),
      hint = format('call campfire.make_live(%L, %L, %L);', campfire.qualified_name(pg_partition_root(source)), channel, event);
  end if;
  select * into projection from campfire.projections as p where p.source = source;
  select t.name, format_type(a.atttypid, a.atttypmod) as type_name into other
  from unnest(campfire.template_columns(channel)) as t (name)
  left join pg_attribute as a on a.attrelid = source and a.attname = t.name and a.attnum > 0 and not a.attisdropped
  where t.name <> all (coalesce(projection.columns, '{}') || array(select w.column_name from jsonb_to_recordset(wanted) as w (column_name name)))
    and (a.attname is null or campfire.projected_type(a.atttypid) is null);
  if found then
    raise exception using
      errcode = case when other.type_name is null then 'undefined_column' else 'feature_not_supported' end,
      message = format('column %s.%I %s', qualified, other.name,
        case when other.type_name is null then 'does not exist' else format('of type %s cannot name a channel', other.type_name) end),
      hint = format('Columns that can: %s.', (
        select string_agg(quote_ident(c), ', ') from unnest(campfire.default_projection(source)) as c));
  end if;
  if campfire.is_published_itself(source) and not exists (
      select from jsonb_to_recordset(wanted) as w (column_name name, definition text) where w.definition <> quote_ident(w.column_name)) then
    return 'none';
  end if;
  if projection.source is null then
    return 'make';
  end if;
  select w.column_name, w.definition, u.definition as mirrored into other
  from jsonb_to_recordset(wanted) as w (column_name name, definition text)
  join rows from (unnest(projection.columns), unnest(projection.definitions)) as u (name, definition) on u.name = w.column_name
  where u.definition <> w.definition;
  if found then
    raise exception using
      errcode = 'duplicate_column',
      message = format('the mirror of %s has a column %I already, which is %s', qualified, other.column_name, other.mirrored),
      hint = format('Give %s another name: an item such as %1$s as other.', other.definition);
  end if;
  return case
    when not projection.complete then 'continue'
    when cardinality(campfire.live_items(source, channel, gate, items, wanted)) > cardinality(projection.columns) then 'alter'
    else 'none' end;
end
$$;
comment on function campfire.live_work(regclass, text, text, boolean, text, text[], jsonb) is
  'Internal. What make_live() has to do about the projection: none, make, alter, or continue. Raises 42501, 22004, 0A000 for a partition, '
  '42701 for a name that stands for something else in the mirror.';

create function campfire.finish_live(
  source regclass, channel text, event text, wanted jsonb, public boolean, snapshot_by name, gate text, projected boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_variable
declare
  qualified constant text := campfire.qualified_name(source);
  projection campfire.projections;
  live campfire.live_tables;
  routed regclass := source;
  routed_name text;
  key_columns name[];
  all_columns name[];
  payload name[];
  told_of_deleted name[];
  publication name;
  has_published boolean := false;
  wanted_route record;
  existing campfire.user_routes;
  made bigint[] := '{}';
  gone bigint[] := '{}';
  did text[] := '{}';
begin
  delete from campfire.live_tables as l where not exists (select from pg_class as c where c.oid = l.source);
  select * into projection from campfire.projections as p where p.source = source;
  select * into live from campfire.live_tables as l where l.source = source;
  if projection.source is not null then
    routed := projection.mirror;
    key_columns := projection.key_columns;
  else
    key_columns := array(
      select a.attname from pg_index as i cross join unnest(i.indkey::int2[]) with ordinality as k (number, n)
      join pg_attribute as a on a.attrelid = source and a.attnum = k.number
      where i.indrelid = source and i.indisprimary and k.n <= i.indnkeyatts order by k.n);
  end if;
  routed_name := campfire.qualified_name(routed);
  all_columns := array(select k.column_name from campfire.publishable_columns(routed) as k where k.publishable);
  -- A client finds the row that an event is about by its key.
  payload := case when wanted is null then all_columns else (
    select array_agg(distinct_name.name order by distinct_name.n) from (
      select w.name, min(w.n) as n from (
        select k.name, k.n - 2000 as n from unnest(key_columns) with ordinality as k (name, n)
        where k.name <> all (array(select w.column_name from jsonb_to_recordset(wanted) as w (column_name name)))
        union all
        select e.item ->> 'column_name', e.n from jsonb_array_elements(wanted) with ordinality as e (item, n)) as w
      group by w.name) as distinct_name) end;
  told_of_deleted := array(
    select c from unnest(all_columns) with ordinality as u (c, n)
    where c = any (key_columns || campfire.template_columns(channel)) or key_columns = '{}' order by u.n);

  if projected then
    did := did || format('projection of %s to %s', qualified, routed_name);
  end if;
  publication := (select c.publication from campfire.carried_columns(routed) as c);
  if publication is null then
    publication := campfire.rows_publication();
    if not exists (select from pg_publication as p where p.pubname = publication) then
      perform campfire.create_publication(publication);
      did := did || format('publication "%s"', publication);
    end if;
    -- What was written until now is of before, even if pgoutput has seen the table in an open transaction.
    execute format('lock table %s in share row exclusive mode', routed_name);
    perform campfire.publish(publication, routed);
    did := did || format('%s in publication "%s"', routed_name, publication);
    has_published := true;
  end if;

  for wanted_route in
    select * from (values
      ('INSERT', event || ':created', payload, null::name[], true, snapshot_by),
      ('UPDATE', event || ':updated', payload, payload, false, null),
      ('DELETE', event || ':deleted', told_of_deleted, null, true, null)
    ) as v (operation, event, columns, when_changed, on_move, snapshot_by)
  loop
    select * into existing from campfire.user_routes as u
    where (u.relation, u.operation, u.channel, u.event) = (routed, wanted_route.operation, channel, wanted_route.event);
    if existing.id is not null then
      continue when (existing.columns, existing.when_changed, existing.on_move, existing.public, existing.snapshot_by, existing.gate)
        is not distinct from (wanted_route.columns, wanted_route.when_changed, wanted_route.on_move, public, wanted_route.snapshot_by, gate);
      if existing.id <> all (coalesce(live.routes, '{}')) then
        raise exception using
          errcode = 'duplicate_object',
          message = format('%s of %s is already routed to "%s" as %s, in another way', existing.operation, routed_name, channel, existing.event),
          detail = 'That route was made by add_route().',
          hint = format('select campfire.drop_route(%s);', existing.id);
      end if;
      perform campfire.drop_route(existing.id);
      gone := gone || existing.id;
    end if;
    made := made || campfire.add_route(routed, wanted_route.operation, channel, wanted_route.event, columns => wanted_route.columns,
      when_changed => wanted_route.when_changed, on_move => wanted_route.on_move, public => public,
      snapshot_by => wanted_route.snapshot_by, gate => gate);
  end loop;
  if made <> '{}' then
    did := did || format('routes %s%s', array_to_string(made, ', '),
      case when gone <> '{}' then format(' in the place of %s', array_to_string(gone, ', ')) end);
  end if;
  if did = '{}' then
    raise notice '% is live on "%" already: nothing was made', qualified, channel;
    return;
  end if;

  insert into campfire.live_tables as l (source, publication, has_projection, routes)
  values (source, case when has_published then publication end, projected, made)
  on conflict on constraint live_tables_pkey do update
  set publication = coalesce(excluded.publication, l.publication), has_projection = l.has_projection or excluded.has_projection,
    routes = array(select r from unnest(l.routes || excluded.routes) as r where r <> all (gone));
  perform campfire.tell_live(source, routed, channel, event, public, did, array(
    select c from unnest(all_columns) with ordinality as u (c, n)
    where c = any (payload || key_columns || campfire.template_columns(channel) || snapshot_by
        || (select g.columns from campfire.read_gate(routed, gate) as g)) order by u.n));
end
$$;
comment on function campfire.finish_live(regclass, text, text, jsonb, boolean, name, text, boolean) is
  'Internal. The last step of make_live(): publishes and routes, in one transaction in which nobody else writes to what is published, and '
  'says so. Raises the errors of campfire.publish() and campfire.add_route(), and 42710 for a route that add_route() made otherwise.';

create function campfire.tell_live(
  source regclass, routed regclass, channel text, event text, public boolean, did text[], read_columns name[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  reading constant text := campfire.suggested_reading(routed, channel, read_columns);
begin
  raise notice using
    message = format('%1$s is live on "%2$s": %3$s:created, %3$s:updated, %3$s:deleted', campfire.qualified_name(source), channel, event),
    detail = format('Made: %s.', array_to_string(did, '; ')),
    hint = case
      when channel ~ '^(bcast:)?org:' then 'Agents of the organization may join it already.'
      when public then 'Any holder of an API key may join it if the relay runs with CAMPFIRE_PUBLIC_CHANNELS=allow; otherwise nobody may.'
      else concat_ws(e'\n', 'Next, say who may join it; for instance, those whose token has the claims that the channel names:',
        campfire.suggested_policy(channel),
        case when reading is null
          then format('A snapshot reads %s as the member that joins: before you grant SELECT on it, enable row-level security, with a policy.',
            campfire.qualified_name(routed))
          else 'Snapshots are read as the member that joins; so that these find their rows:' end,
        reading) end;
end
$$;
comment on function campfire.tell_live(regclass, regclass, text, text, boolean, text[], name[]) is
  'Internal. The NOTICE of make_live(): what was made, and SQL for what is to do next.';

create function campfire.rehearse_live(
  source regclass, channel text, event text, wanted jsonb, public boolean, snapshot_by name, gate text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('client_min_messages', 'error', true);
  perform campfire.finish_live(source, channel, event, wanted, public, snapshot_by, gate, false);
  raise exception sqlstate 'CF001';
exception when sqlstate 'CF001' then
  null; -- It would succeed.
end
$$;
comment on function campfire.rehearse_live(regclass, text, text, jsonb, boolean, name, text) is
  'Internal. Raises what campfire.finish_live() would raise, and changes nothing.';

create function campfire.note_live(source regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  insert into campfire.live_tables as l (source, has_projection) values (note_live.source, true)
  on conflict on constraint live_tables_pkey do update set has_projection = true;
end
$$;
comment on function campfire.note_live(regclass) is 'Internal. Records that make_live() made the projection of a table.';

-- As every procedure that commits, it cannot pin its search_path, and names everything with its schema.
create procedure campfire.make_live(
  relation regclass, channel text, event text, columns text[] default null, public boolean default false, snapshot_by name default null,
  gate text default null)
language plpgsql as $$
declare
  wanted pg_catalog.jsonb;
  work pg_catalog.text;
  has_made boolean := false;
  has_committed boolean := false;
  carried bigint := 0;
begin
  wanted := case when columns is not null then (
    select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('column_name', c.column_name, 'definition', c.definition))
    from campfire.projection_columns(relation, columns) as c) end;
  work := campfire.live_work(relation, channel, event, public, gate, columns, wanted);
  if work operator(pg_catalog.<>) 'none' then
    perform campfire.require_no_transaction('campfire.make_live()');
  end if;
  while work operator(pg_catalog.<>) 'none' loop
    commit;
    set transaction isolation level read committed;
    has_committed := true;
    if work operator(pg_catalog.=) 'continue' then
      perform campfire.mend_projection(relation);
    else
      if work operator(pg_catalog.=) 'make' then
        perform campfire.start_projection(relation, campfire.live_items(relation, channel, gate, columns, wanted));
        perform campfire.note_live(relation);
        has_made := true;
      else
        perform campfire.change_projection(relation, campfire.live_items(relation, channel, gate, columns, wanted));
      end if;
      perform campfire.rehearse_live(relation, channel, event, wanted, public, snapshot_by, gate);
    end if;
    commit;
    call campfire.carry_old_rows(relation, 1000, carried);
    work := campfire.live_work(relation, channel, event, public, gate, columns, wanted);
  end loop;
  if has_committed then
    commit;
    set transaction isolation level read committed;
  end if;
  perform campfire.finish_live(relation, channel, event, wanted, public, snapshot_by, gate, has_made);
end
$$;
comment on procedure campfire.make_live(regclass, text, text, text[], boolean, name, text) is
  'Makes the rows of a table events on a channel, in which {column} stands for a value of the row: event => ''order'' sends order:created, '
  'order:updated and order:deleted; a row that moves to another channel is deleted in the old one and created in the new one. columns: '
  'what is sent, as in campfire.create_projection(), and the primary key. public, snapshot_by and gate: as in campfire.add_route(). Makes '
  'the publication, a projection unless the table has replica identity full and only scalar columns, and routes; old rows are no events. '
  'A NOTICE says what was made, and has SQL for what is to do next; called again, it makes what is missing or different. Superuser. Raises '
  '2D000 in a transaction block if there is a projection to make, 42501, and the errors of campfire.create_projection(), campfire.publish() '
  'and campfire.add_route(), before it copies any row. Example: call campfire.make_live(''orders'', channel => ''shop:{shop_id}'', event => '
  '''order'');';

create function campfire.make_live_undo(relation regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_variable
declare
  qualified constant text := campfire.qualified_name(relation);
  live campfire.live_tables;
  mirror regclass;
  routed regclass;
  users text; -- of what was made
  route bigint;
  did text[] := '{}';
begin
  perform campfire.require_superuser('campfire.make_live_undo()');
  perform campfire.lock_routes();
  select * into live from campfire.live_tables as l where l.source = relation;
  if not found then
    raise exception using
      errcode = 'undefined_object',
      message = format('make_live() made nothing for %s', coalesce(qualified, 'null')),
      hint = 'select source from campfire.live_tables;';
  end if;
  mirror := (select p.mirror from campfire.projections as p where p.source = relation);
  routed := coalesce(mirror, relation);

  for route in select u.id from campfire.user_routes as u where u.id = any (live.routes) order by u.id loop
    perform campfire.drop_route(route);
    did := did || format('route %s', route);
  end loop;
  users := (
    select format('route %s of add_route()', string_agg(u.id::text, ', ' order by u.id)) from campfire.user_routes as u
    where u.relation = routed having count(*) > 0);
  if live.publication is not null and exists (
      select from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid
      where p.pubname = live.publication and r.prrelid = routed) then
    if users is not null then
      raise notice '% stays in publication "%": % needs it', campfire.qualified_name(routed), live.publication, users;
    else
      perform campfire.unpublish(live.publication, routed);
      did := did || format('%s in publication "%s"', campfire.qualified_name(routed), live.publication);
    end if;
  end if;
  if live.has_projection and mirror is not null then
    users := coalesce(users, (
      select format('publication "%s"', string_agg(p.pubname, '", "' order by p.pubname))
      from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid where r.prrelid = mirror having count(*) > 0));
    begin
      if users is null then
        perform campfire.drop_projection(relation);
        did := did || format('projection of %s', qualified);
      end if;
    exception when dependent_objects_still_exist then
      get stacked diagnostics users = pg_exception_detail;
    end;
    if users is not null then
      raise notice using message = format('the projection of %s stays', qualified), detail = format('In use: %s', users);
    end if;
  end if;
  delete from campfire.live_tables as l where l.source = relation;
  raise notice '% is live no longer; removed: %', qualified, coalesce(nullif(array_to_string(did, '; '), ''), 'nothing');
end
$$;
comment on function campfire.make_live_undo(regclass) is
  'Removes what campfire.make_live() made for a table, on all channels: routes, its place in the publication, the projection. What routes, '
  'publications or views of others use stays, with a NOTICE; so do policies and grants. Superuser. Raises 42501, 42704 if make_live() made '
  'nothing for it. Example: select campfire.make_live_undo(''orders'');';
