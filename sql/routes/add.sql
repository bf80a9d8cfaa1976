-- Routes of users: what add_route() checks.

create function campfire.carried_columns(relation regclass, out publication name, out columns name[])
language sql stable strict set search_path = pg_catalog, pg_temp
begin atomic
  select p.pubname, coalesce(campfire.column_list(p.pubname, relation),
    array(select c.column_name from campfire.publishable_columns(relation) as c where c.publishable))
  from campfire.managed_publications as m
  join pg_catalog.pg_publication as p on p.pubname = m.name
  join pg_catalog.pg_publication_rel as r on r.prpubid = p.oid and r.prrelid = relation
  order by m.control_of is not null, p.pubname limit 1;
end;
comment on function campfire.carried_columns(regclass) is
  'Internal. The publication of campfire that carries a table, and the columns it carries; nulls if there is none.';

create function campfire.published_root(relation regclass) returns regclass
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  select a.relid
  from pg_catalog.pg_partition_ancestors(relation) with ordinality as a (relid, n)
  where a.relid <> relation and exists (
    select from campfire.managed_publications as m
    join pg_catalog.pg_publication as p on p.pubname = m.name
    join pg_catalog.pg_publication_rel as r on r.prpubid = p.oid and r.prrelid = a.relid)
  order by a.n desc limit 1
);
comment on function campfire.published_root(regclass) is
  'Internal. The partitioned table as which the rows of a partition are published; null if they are published as the partition''s own.';

create function campfire.template_columns(channel text) returns name[]
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
return array(select m[1]::name from pg_catalog.regexp_matches(channel, '\{([^{}]*)\}', 'g') as m);
comment on function campfire.template_columns(text) is 'Internal. The columns that the channel of a route names in braces.';

create function campfire.leaves_channel_open(channel text) returns boolean
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
return channel ~ '\{' and pg_catalog.split_part(channel, '{', 1) not in ('org:', 'bcast:org:') and (
  pg_catalog.starts_with('org:', pg_catalog.split_part(channel, '{', 1))
  or pg_catalog.starts_with('bcast:org:', pg_catalog.split_part(channel, '{', 1)));
comment on function campfire.leaves_channel_open(text) is
  'Internal. Whether the text before the first column of a template could continue as org:, so that a value of the row would choose the '
  'channel of any organization.';

create function campfire.unheard_columns(relation regclass, channel text)
returns table (column_name name, type_name text)
language sql stable strict set search_path = pg_catalog, pg_temp
begin atomic
  -- Whatever stands in braces behind org: is a uuid, or nobody can join the channel.
  with recursive named (attname, shown, type, modifier) as (
    select a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypid, a.atttypmod
    from pg_catalog.pg_attribute as a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
      and a.attname = any (campfire.template_columns(channel)) and channel ~ '^(bcast:)?org:'
    union all
    select n.attname, n.shown, t.typbasetype, case when n.modifier = -1 then t.typtypmod else n.modifier end
    from named as n join pg_catalog.pg_type as t on t.oid = n.type where t.typtype = 'd'
  )
  select n.attname, n.shown
  from named as n join pg_catalog.pg_type as t on t.oid = n.type
  where t.typtype <> 'd' and not case
    when n.type = any (array['varchar'::regtype, 'text'::regtype, 'name'::regtype]::oid[]) then n.modifier = -1 or n.modifier - 4 >= 36
    -- Padded with spaces, so of that length or none.
    when n.type = 'bpchar'::regtype then n.modifier = -1 or n.modifier - 4 = 36
    else n.type = 'uuid'::regtype or t.typname = 'citext' end;
end;
comment on function campfire.unheard_columns(regclass, text) is
  'Internal. Columns that a channel of an organization names although they cannot hold a uuid: nobody could join such a channel.';

create function campfire.add_route(
  relation regclass, operation text, channel text, event text,
  columns name[] default null, when_changed name[] default null, on_move boolean default false,
  public boolean default false, snapshot_by name default null, gate text default null) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  qualified constant text := campfire.qualified_name(relation);
  known constant name[] := array(select c.column_name from campfire.publishable_columns(relation) as c);
  template_columns constant name[] := campfire.template_columns(channel);
  identity_columns constant name[] := coalesce(campfire.logged_columns(relation), '{}');
  root constant regclass := campfire.published_root(relation);
  is_of_organization constant boolean := channel ~ '^(bcast:)?org:';
  mirror constant text := (select campfire.qualified_name(p.mirror) from campfire.projections as p where p.source = relation);
  carrier name;
  carried name[];
  payload name[] := columns;
  compared name[];
  missing name;
  unheard record;
  added bigint;
begin
  perform campfire.require_superuser('campfire.add_route()');
  if relation is null or operation is null or channel is null or event is null or on_move is null or public is null then
    raise exception using
      errcode = 'null_value_not_allowed',
      message = 'add_route() needs a table, an operation, a channel and an event';
  end if;
  operation := upper(operation);
  if operation not in ('INSERT', 'UPDATE', 'DELETE') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" is not an operation', operation),
      hint = 'Operations are INSERT, UPDATE and DELETE.';
  end if;
  if event !~ '^[^[:cntrl:]]+$' or octet_length(event) > 255 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" cannot be the name of an event', left(event, 200)),
      hint = 'A name is 1 to 255 bytes long, without control characters.';
  end if;
  if operation = 'UPDATE' and on_move then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'a route of UPDATE cannot fire on moves',
      hint = 'A row that moves to another channel is a DELETE there and an INSERT here: add those routes with on_move.';
  end if;
  if operation <> 'UPDATE' and when_changed is not null then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('when_changed means nothing for %s', operation);
  end if;
  if public and is_of_organization then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" cannot be public: a channel of an organization has one room', left(channel, 200)),
      hint = 'Leave public out: the claims of each client decide who joins.';
  end if;
  if snapshot_by is not null and (operation <> 'INSERT' or public or is_of_organization) then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('snapshot_by means nothing for %s', case
        when operation <> 'INSERT' then operation
        when public then 'a public channel, which has no snapshots'
        else 'a channel of an organization, whose snapshots have an order of their own' end),
      hint = 'Give it to the INSERT route of a private channel.';
  end if;
  if regexp_replace(channel, '\{[^{}]*\}', '', 'g') ~ '[{}[:cntrl:]]' or channel in ('', 'bcast:') or octet_length(channel) > 255 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('malformed channel "%s"', left(channel, 200)),
      hint = 'A template names columns in braces, such as org:{organization_id}:conv:{conversation_id}.';
  end if;
  -- As it will look with uuids in it; raises 22023 for org followed by what no channel of campfire looks like.
  perform campfire.parse_channel(regexp_replace(channel, '\{[^{}]*\}', '00000000-0000-0000-0000-000000000000', 'g'));

  if campfire.leaves_channel_open(channel) then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('with "%s" a row could choose the channel of any organization', channel),
      detail = 'The text before the first column must determine which channels these are, whatever value the column has.',
      hint = format('Begin with a word and a colon: select campfire.add_route(%L, %L, %L, %L);', qualified, operation,
        'to:' || regexp_replace(channel, '^bcast:', ''), event);
  end if;

  select u.* into unheard from campfire.unheard_columns(relation, channel) as u;
  if found then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('column %s.%I of type %s cannot name a channel of an organization', qualified, unheard.column_name, unheard.type_name),
      detail = 'org: must be followed by uuids; nobody could join this channel.',
      hint = 'Name a column that holds a uuid, or a channel of your own, such as shop:{shop_id}.';
  end if;

  if root is not null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s is a partition, and its rows are published as those of %s', qualified, campfire.qualified_name(root)),
      hint = format('select campfire.add_route(%L, %L, %L, %L);', campfire.qualified_name(root), operation, channel, event);
  end if;
  select c.publication, c.columns into carrier, carried from campfire.carried_columns(relation) as c;
  if carrier is null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s is not in a publication of campfire''s', qualified),
      -- Of a projected table the mirror: routes from both send each change twice.
      hint = format('select campfire.publish(%L, %L);', coalesce(
        (select m.name from campfire.managed_publications as m where m.control_of is null order by m.name limit 1), 'campfire'),
        coalesce(mirror, qualified));
  end if;
  payload := coalesce(payload, case when operation = 'DELETE'
    then array(select c from unnest(carried) as c where c = any (identity_columns)) else carried end);
  if cardinality(payload) = 0 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'a route needs at least one column';
  end if;

  compared := campfire.require_gate(relation, channel, public, gate);
  foreach missing in array template_columns || payload || coalesce(when_changed, '{}') || compared loop
    if missing <> all (known) then
      raise exception using
        errcode = 'undefined_column',
        message = format('column %s.%I does not exist', qualified, missing),
        hint = format('select * from campfire.publishable_columns(%L);', qualified);
    elsif missing <> all (carried) then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('column %s.%I is not published', qualified, missing),
        hint = format('select campfire.publish(%L, %L, %L);', carrier, qualified, (
          select array_agg(c.column_name) from campfire.publishable_columns(relation) as c
          where c.column_name = any (carried || missing))::text);
    end if;
  end loop;
  foreach missing in array
    case when operation = 'DELETE' then template_columns || payload else '{}' end || coalesce(when_changed, '{}')
    -- By the row before an update a gate decides, too.
    || case when operation <> 'INSERT' or on_move then compared else '{}' end
  loop
    if missing <> all (identity_columns) then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('column %s.%I is not in the replica identity%s', qualified, missing,
          case when missing = any (campfire.replica_identity_columns(relation)) then ' of every partition' end),
        detail = 'Of a row before its change, the WAL holds only the replica identity.',
        hint = case when missing = any (campfire.replica_identity_columns(relation))
          then format('select campfire.align_partitions(%L);', qualified)
          else 'Name only columns of the replica identity, or route from a mirror that has replica identity full.' end;
    end if;
  end loop;

  if snapshot_by is not null and not exists (
      select from campfire.publishable_columns(relation) as c where c.column_name = snapshot_by and c.publishable) then
    raise exception using
      errcode = case when snapshot_by = any (known) then 'wrong_object_type' else 'undefined_column' end,
      message = format('column %s.%I %s', qualified, snapshot_by, case when snapshot_by = any (known)
        then 'is not scalar, so rows have no order by it' else 'does not exist' end),
      hint = format('select * from campfire.publishable_columns(%L);', qualified);
  end if;

  if public then
    raise warning using
      message = format('events of "%s" will be public', left(channel, 200)),
      detail = 'Any holder of an API key can join a public channel if the relay runs with CAMPFIRE_PUBLIC_CHANNELS=allow; otherwise nobody can.',
      hint = 'Without public, policies decide who joins.';
  end if;
  if mirror is not null then
    raise warning using
      message = format('%s has a projection', qualified),
      detail = 'Routes from both the table and its mirror send each change twice.',
      hint = format('Route from the mirror: %s.', mirror);
  end if;
  if exists (
      select from campfire.user_routes as u
      where (u.relation, u.operation, u.channel, u.event) = (relation, operation, channel, event)) then
    raise exception using
      errcode = 'duplicate_object',
      message = format('%s of %s is already routed to "%s" as %s', operation, qualified, channel, event),
      hint = format('select campfire.drop_route(%s);', (
        select u.id from campfire.user_routes as u
        where (u.relation, u.operation, u.channel, u.event) = (relation, operation, channel, event)));
  end if;
  perform campfire.lock_routes();
  if not (public or is_of_organization or campfire.has_supabase_api()) then
    perform campfire.install_private_channels();
  end if;
  insert into campfire.user_routes (relation, operation, on_move, channel, event, columns, when_changed, public, snapshot_by, gate, known_as)
  values (relation, operation, on_move, channel, event, payload, when_changed, public, snapshot_by, gate, qualified)
  returning id into added;
  return added;
end
$$;
comment on function campfire.add_route(regclass, text, text, text, name[], name[], boolean, boolean, name, text) is
  'Sends inserts, updates or deletes of a published table to a channel; returns the route''s id. {column} in the channel stands for a '
  'value of the row. columns: those of the payload, by default all that are published. when_changed, for an UPDATE: only if one of these '
  'changed. on_move, for an INSERT or DELETE: also if an update moves the row to, or away from, the channel. public, outside '
  'org:: to the public channel of that name, otherwise to the private one, which policies guard. snapshot_by, for an INSERT: the column '
  'by which the newest rows are those of a snapshot, otherwise by the primary key. gate: which members of a private channel get the event of a row, by their '
  'claims, such as seller_id = claims.sub; otherwise all. Superuser. Raises 42501, '
  '22023 for a malformed channel, event, gate or operation, or a channel that nobody could join or that a row could choose freely, 42703 for a '
  'column that does not exist, 55000 for a table or column that is not published, for a partition of a published table, or for a column '
  'whose old values the WAL does not hold, 42710 for a route that exists, 55P03 if another transaction that changes routes does not end; '
  'a WARNING if the table has a projection, and for a public channel. Example: select campfire.add_route(''orders'', ''INSERT'', ''shop:{shop_id}'', '
  '''order:created'');';

create function campfire.drop_route(id bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform campfire.require_superuser('campfire.drop_route()');
  perform campfire.lock_routes();
  if exists (select from campfire.routes as r where r.id = drop_route.id and r.builtin) then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('route %s came with campfire and cannot be dropped', id),
      hint = format('select campfire.enable_route(%s, false);', id);
  end if;
  delete from campfire.user_routes as u where u.id = drop_route.id;
  if not found then
    raise exception using
      errcode = 'undefined_object',
      message = format('route %s does not exist', id),
      hint = 'select id, table_name, operation, channel from campfire.routes;';
  end if;
end
$$;
comment on function campfire.drop_route(bigint) is
  'Removes a route that add_route() made. Superuser. Raises 42501, 42704 if there is no such route, 55000 for a built-in one, which can '
  'only be switched off, 55P03 if another transaction that changes routes does not end. Example: select campfire.drop_route(1);';

create function campfire.enable_route(id bigint, enabled boolean default true) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  route campfire.routes;
begin
  perform campfire.require_superuser('campfire.enable_route()');
  perform campfire.lock_routes();
  if enabled is null then
    raise exception using errcode = 'null_value_not_allowed', message = 'a route is on or off';
  end if;
  select r.* into route from campfire.routes as r where r.id = enable_route.id;
  if not found then
    raise exception using
      errcode = 'undefined_object',
      message = format('route %s does not exist', id),
      hint = 'select id, table_name, operation, channel from campfire.routes;';
  end if;
  if enabled and not route.builtin then
    -- Where its table was renamed, and another has the name now: it stays with its table.
    update campfire.user_routes as u set known_as = campfire.qualified_name(u.relation)
    where u.relation = (select k.relation from campfire.user_routes as k where k.id = enable_route.id)
      and u.known_as <> campfire.qualified_name(u.relation);
  end if;
  if route.enabled = enabled then
    return;
  end if;
  if route.builtin then
    insert into campfire.route_overrides as o (schema_name, key, enabled)
    select route.schema_name, (id + 1000 * i.number::bigint)::smallint, enable_route.enabled
    from campfire.installations as i where i.schema_name = route.schema_name
    on conflict (schema_name, key) do update set enabled = excluded.enabled;
  else
    update campfire.user_routes as u set enabled = enable_route.enabled where u.id = enable_route.id;
  end if;
end
$$;
comment on function campfire.enable_route(bigint, boolean) is
  'Switches a route on or off, built-in or added. Switching on also confirms that the table''s routes belong to it under its current '
  'name. Superuser. Raises 42501, 42704 if there is no such route, 55P03 if another transaction that changes routes does not end. '
  'Example: select campfire.enable_route(-929); -- message:deleted, off by default';
