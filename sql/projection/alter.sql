-- Other columns for a mirror that is in use: routes stay, and only what is new is copied.

create function campfire.remake_projection(source regclass, items jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  qualified constant text := campfire.qualified_name(source);
  mirror text;
  before campfire.projections;
  part record;
  kept name[]; -- with the values that they have, until these are copied anew
  gone name[]; -- from the mirror, to come back with another type or not at all
  copied name[];
  muted bigint[];
  users record;
begin
  before := campfire.require_projection(source);
  mirror := campfire.qualified_name(before.mirror);
  if not before.complete then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('the old rows of %s are not all in its mirror yet', qualified),
      hint = format('call campfire.create_projection(%L); -- continues', qualified);
  elsif exists (
      select from campfire.installations as i where to_regclass(format('%I.realtime_conversations', i.schema_name)) = before.mirror) then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('the projection of %s is part of campfire.install()', qualified);
  end if;
  part := campfire.read_projection(source, items);
  if part.key_names <> before.key_columns then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('the key of the mirror of %s is (%s), and stays so', qualified, array_to_string(before.key_columns, ', ')),
      hint = 'Name the columns of the key as they are called in the mirror.';
  end if;

  kept := array(
    select u.name from rows from (unnest(part.names), unnest(part.types)) as u (name, type)
    join pg_attribute as a on a.attrelid = before.mirror and a.attname = u.name and a.atttypid = u.type
    where u.name = any (before.columns));
  gone := array(select c from unnest(before.columns) as c where c <> all (kept));
  copied := array(
    select u.name from rows from (unnest(part.names), unnest(part.definitions)) with ordinality as u (name, definition, n)
    where not exists (
      select from rows from (unnest(before.columns), unnest(before.definitions)) as b (name, definition)
      where b.name = u.name and b.definition = u.definition and b.name = any (kept))
    order by u.n);
  if gone = '{}' and copied = '{}' then
    raise notice 'the mirror of % has these columns already', qualified;
    return;
  end if;
  select u.id, u.channel, c.name into users
  from campfire.user_routes as u cross join unnest(gone) as c (name)
  where u.relation = before.mirror and c.name <> all (part.names) and (
    c.name = any (campfire.template_columns(u.channel)) or c.name = u.snapshot_by or u.gate ~ ('\y' || regexp_replace(c.name, '\W', '\\\&', 'g') || '\y')
    or u.columns <@ gone or u.when_changed <@ gone);
  if found then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('route %s to "%s" needs column %s.%I', users.id, users.channel, mirror, users.name),
      hint = format('select campfire.drop_route(%s);', users.id);
  end if;

  -- Who writes to the table holds a lock on it: nobody is between the trigger of before and that of after.
  execute format('lock table %s in share row exclusive mode', qualified);
  update campfire.user_routes as u
  set columns = array(select c from unnest(u.columns) with ordinality as k (c, n) where c <> all (gone) or c = any (part.names) order by n),
    when_changed = case when u.when_changed is not null then array(
      select c from unnest(u.when_changed) with ordinality as k (c, n) where c <> all (gone) or c = any (part.names) order by n) end
  where u.relation = before.mirror and (u.columns && gone or u.when_changed && gone);
  if copied <> '{}' then
    -- A route that fires on every change would tell of every row, and show nothing new.
    with silenced as (
      update campfire.user_routes as u
      set when_changed = array(select c from unnest(before.columns) with ordinality as k (c, n) where c <> all (gone) order by n)
      where u.relation = before.mirror and u.operation = 'UPDATE' and u.when_changed is null
      returning u.id)
    select coalesce(array_agg(s.id), '{}') into muted from silenced as s;
  end if;

  -- In this order, so that what is registered is there all the time.
  update campfire.projection_registry as p
  set columns = k.columns, definitions = k.definitions
  from (
    select array_agg(u.name order by u.n) as columns, array_agg(u.definition order by u.n) as definitions
    from rows from (unnest(part.names), unnest(part.definitions)) with ordinality as u (name, definition, n)
    where u.name = any (kept)) as k
  where p.source = source;
  if gone <> '{}' or not part.names <@ kept then
    execute format('alter table %s %s', mirror, (
      select string_agg(c.change, ', ' order by c.place, c.n) from (
        select 1 as place, n, format('drop column %I', g) as change from unnest(gone) with ordinality as u (g, n)
        union all
        select 2, n, 'add column ' || u.body from rows from (unnest(part.names), unnest(part.bodies)) with ordinality as u (name, body, n)
        where u.name <> all (kept)) as c));
  end if;
  update campfire.projection_registry as p set columns = part.names, definitions = part.definitions where p.source = source;
  perform campfire.note_definitions(source);
  if copied <> '{}' then
    insert into campfire.projection_backfills (source, columns, muted) values (source, copied, muted);
  end if;
end
$$;
comment on function campfire.remake_projection(regclass, jsonb) is
  'Internal. What campfire.alter_projection() does about columns, as the owner of the extension: mirror, registration, and routes, which '
  'must not tell of what is copied.';

create procedure campfire.alter_projection(
  source regclass, columns text[] default null, dropped_partitions text default null, batch_rows integer default 1000)
language plpgsql as $$
declare
  carried bigint := 0;
begin
  if dropped_partitions is not null then
    perform campfire.choose_dropped_partitions(source, dropped_partitions);
  end if;
  if columns is null then
    return;
  end if;
  perform campfire.require_no_transaction('campfire.alter_projection()');
  commit;
  set transaction isolation level read committed;
  perform campfire.change_projection(source, columns);
  commit;
  call campfire.carry_old_rows(source, batch_rows, carried);
end
$$;
comment on procedure campfire.alter_projection(regclass, text[], text, integer) is
  'Changes a projection. columns: the columns of the mirror from now on, as in campfire.create_projection(); routes stay, without columns '
  'that are gone, and only what is new is copied, in committed batches that are no events. dropped_partitions: what happens to the '
  'mirror''s rows when a partition is dropped or detached: keep (the default), or delete, which makes each row an event and reads the '
  'mirror once. For the owner of the table. Raises 2D000 inside a transaction block if there are columns, 42501, 42704 for a table without '
  'a projection, 55000 for a column that a route needs, 22023 for any other word than keep and delete, and the errors of '
  'campfire.create_projection(). Example: call campfire.alter_projection(''orders'', array[''id'', ''state'', ''note'']);';
