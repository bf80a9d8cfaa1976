-- Routes that reach nobody any more, or not with all they should carry.

create function campfire.remade_route(id bigint, qualified text, columns name[], when_changed name[]) returns text
language sql stable set search_path = pg_catalog, pg_temp
return (
  select pg_catalog.format('select campfire.add_route(%L, %L, %L, %L, %L, %L, %L%s);', qualified, u.operation, u.channel, u.event,
    remade_route.columns, remade_route.when_changed, u.on_move, pg_catalog.concat(
      case when u.public then ', public => true' end,
      case when exists (
          select from campfire.publishable_columns(pg_catalog.to_regclass(qualified)) as k where k.column_name = u.snapshot_by and k.publishable)
        then pg_catalog.format(', snapshot_by => %L', u.snapshot_by) end,
      case when u.gate is not null then pg_catalog.format(', gate => %L', u.gate) end))
  from campfire.user_routes as u where u.id = remade_route.id
);
comment on function campfire.remade_route(bigint, text, name[], name[]) is
  'Internal. The call of campfire.add_route() that makes a route again, of this table and with these columns.';

create function campfire.route_problems() returns table (relation regclass, column_name name, type_name text, problem text, fix text)
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  route record;
  qualified text;
  root regclass;
  successor regclass; -- that has the name now
  carrier name;
  carried name[];
  logged name[]; -- what is known of old rows in every partition
  promised name[]; -- and would be if partitions had the replica identity of their table
  addressed name[]; -- columns that the channel names, or the gate
  compared name[]; -- those of the gate
  gate_problem text;
  needed_of_old name[]; -- and those that must be known of the row before its change
  publishable name[];
  lacking name[];
  usable boolean;
  remade text;
begin
  for route in
    select u.*, c.oid is not null as has_table from campfire.user_routes as u left join pg_class as c on c.oid = u.relation
    where u.enabled order by u.id
  loop
    if campfire.leaves_channel_open(route.channel) then
      return query select case when route.has_table then route.relation end, null::name, null::text,
        format('route %s to "%s" lets a row choose its channel, and the relay sends nothing to those of organizations', route.id, route.channel),
        format('select campfire.drop_route(%s);', route.id);
      continue;
    end if;
    if not route.has_table then
      -- Dropped, perhaps after another was put in its place.
      successor := (select c.oid::regclass from pg_class as c where c.oid = to_regclass(route.known_as) and c.relkind in ('r', 'p'));
      return query select successor, null::name, null::text,
        case when successor is null then format('route %s was of %s, which does not exist any more', route.id, route.known_as)
          else format('route %s was of another table than the one that is %s now', route.id, route.known_as) end,
        format('select campfire.drop_route(%s);', route.id) || case when successor is null then '' else concat_ws(' ', '',
          case when not exists (select from campfire.carried_columns(successor) as c where c.publication is not null)
            then format('select campfire.publish(%L, %L);', coalesce(
              (select m.name from campfire.managed_publications as m where m.control_of is null order by m.name limit 1), 'campfire'), route.known_as)
            end,
          campfire.remade_route(route.id, route.known_as,
            array(select w.name from unnest(route.columns) with ordinality as w (name, n)
              where w.name in (select k.column_name from campfire.publishable_columns(successor) as k where k.publishable) order by w.n),
            route.when_changed)) end;
      continue;
    end if;
    qualified := campfire.qualified_name(route.relation);
    root := campfire.published_root(route.relation);
    if root is not null then
      return query select route.relation, null::name, null::text,
        format('route %s reaches nobody: rows of %s are published as those of %s', route.id, qualified, campfire.qualified_name(root)),
        format('select campfire.drop_route(%s); %s', route.id,
          campfire.remade_route(route.id, campfire.qualified_name(root), route.columns, route.when_changed));
      continue;
    end if;
    select c.publication, c.columns into carrier, carried from campfire.carried_columns(route.relation) as c;
    publishable := array(select k.column_name from campfire.publishable_columns(route.relation) as k where k.publishable);
    if carrier is null then
      return query select route.relation, null::name, null::text,
        format('route %s reaches nobody: %s is in no publication of campfire''s', route.id, qualified),
        concat_ws(' ', case when campfire.replica_identity_columns(route.relation) is null
            or (select c.relreplident = 'f' from pg_class as c where c.oid = route.relation)
              and exists (select from campfire.publishable_columns(route.relation) as k where k.reason like 'type %')
            then campfire.suggested_identity(route.relation) end,
          format('select campfire.publish(%L, %L);', coalesce(
            (select m.name from campfire.managed_publications as m where m.control_of is null order by m.name limit 1), 'campfire'), qualified));
      continue;
    end if;
    return query select route.relation, u.column_name, u.type_name,
      format('route %s reaches nobody: column %s.%I of type %s cannot name a channel of an organization', route.id, qualified, u.column_name, u.type_name),
      format('select campfire.drop_route(%s);', route.id)
    from campfire.unheard_columns(route.relation, route.channel) as u;

    compared := '{}';
    if route.gate is not null then
      select g.problem, coalesce(g.columns, '{}') into gate_problem, compared from campfire.read_gate(route.relation, route.gate) as g;
      if gate_problem is not null then
        return query select route.relation, null::name, null::text,
          format('route %s reaches nobody: its gate cannot be read: %s', route.id, gate_problem),
          format('select campfire.drop_route(%s);', route.id);
        continue;
      end if;
    end if;
    addressed := campfire.template_columns(route.channel) || compared;
    logged := coalesce(campfire.logged_columns(route.relation), '{}');
    promised := coalesce(campfire.replica_identity_columns(route.relation), '{}');
    needed_of_old := case when route.operation = 'DELETE' then addressed || route.columns
        when route.operation = 'UPDATE' or route.on_move then compared else '{}' end || coalesce(route.when_changed, '{}');
    lacking := array(
      select distinct w.name from unnest(addressed || route.columns || coalesce(route.when_changed, '{}')) as w (name)
      where w.name <> all (carried) or w.name = any (needed_of_old) and w.name <> all (logged));
    if lacking = '{}' then
      if route.snapshot_by <> all (publishable) then
        return query select route.relation, route.snapshot_by, null::text,
          format('snapshots by route %s have the order of the key: column %s.%I does not exist', route.id, qualified, route.snapshot_by),
          format('select campfire.drop_route(%s); %s', route.id,
            campfire.remade_route(route.id, qualified, route.columns, route.when_changed));
      end if;
      continue;
    end if;
    -- What is published can be published again, and named again; what is gone, or not known of old rows, cannot.
    usable := addressed <@ publishable and (route.operation <> 'DELETE' or addressed <@ promised)
      and (route.operation = 'INSERT' and not route.on_move or compared <@ promised)
      and exists (select from unnest(route.columns) as w (name)
        where w.name = any (publishable) and (route.operation <> 'DELETE' or w.name = any (promised)));
    remade := concat_ws(' ',
      case when exists (select from unnest(lacking) as w (name) where w.name = any (promised) and w.name <> all (logged))
        then format('select campfire.align_partitions(%L);', qualified) end,
      case when usable and exists (select from unnest(lacking) as w (name) where w.name = any (publishable) and w.name <> all (carried))
        then format('select campfire.publish(%L, %L, %L);', carrier, qualified, (
          select array_agg(k.column_name) from campfire.publishable_columns(route.relation) as k
          where k.column_name = any (carried) or k.publishable and k.column_name = any (lacking))::text) end,
      case when not usable then format('select campfire.drop_route(%s);', route.id)
        when exists (select from unnest(lacking) as w (name)
            where w.name <> all (publishable) or w.name = any (needed_of_old) and w.name <> all (promised))
          then format('select campfire.drop_route(%s); %s', route.id, campfire.remade_route(route.id, qualified,
            array(select w.name from unnest(route.columns) with ordinality as w (name, n)
              where w.name = any (publishable) and (route.operation <> 'DELETE' or w.name = any (promised)) order by w.n),
            nullif(array(select w.name from unnest(route.when_changed) with ordinality as w (name, n)
              where w.name = any (publishable) and w.name = any (promised) order by w.n), '{}'))) end);
    return query
    select route.relation, w.name, k.type_name,
      format('route %s %s: column %s.%I %s', route.id,
        case when w.name = any (compared) and w.name = any (carried) then 'cannot tell who saw a row before its change'
          when w.name = any (addressed) then 'reaches nobody'
          when w.name = any (route.columns) then 'goes out with less'
          else 'fires too often' end,
        qualified, w.name,
        case when k.column_name is null then 'does not exist'
          when w.name <> all (carried) then format('is not in publication "%s"', carrier)
          else 'is not in the replica identity' end),
      remade
    from unnest(lacking) as w (name)
    left join campfire.publishable_columns(route.relation) as k on k.column_name = w.name
    order by w.name;
  end loop;
end
$$;
comment on function campfire.route_problems() is
  'Internal. Routes of users that reach nobody, or whose events lack a column, for campfire.check_publication().';
