-- campfire.check(): everything that keeps rows from those who should hear of them, each with SQL that mends it.

create function campfire.unheard_routes() returns table (subject text, problem text, mend text)
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  has_api constant boolean := campfire.has_supabase_api();
  policies constant regclass := to_regclass(case when has_api then 'realtime.messages' else 'campfire.private_channels' end);
  -- Without it, or if its triggers would run with the rights of a superuser, the relay lets nobody join.
  has_table constant boolean := has_api or exists (
    select from pg_class as c join pg_roles as r on r.oid = c.relowner where c.oid = policies and r.rolsuper);
begin
  return query
  select format('route %s', u.id),
    format('nobody can hear it: "%s" is a public channel, and every relay of this database denies these', u.channel),
    format('update campfire.user_routes set public = false where id = %s; -- or start the relay with CAMPFIRE_PUBLIC_CHANNELS=allow', u.id)
  from campfire.user_routes as u
  where u.enabled and u.public and campfire.public_channels_denied() and exists (select from pg_class as c where c.oid = u.relation)
  order by u.id;

  return query
  select case when has_api then 'realtime.messages' else 'campfire.private_channels' end,
    format('no policy lets anybody but service_role join %s, to which rows are routed', string_agg(format('"%s"', r.channel), ', ' order by r.channel)),
    case when not has_table then 'select campfire.install_private_channels(); ' else '' end
      || string_agg(campfire.suggested_policy(r.channel), ' ' order by r.channel)
  from (
    select distinct regexp_replace(u.channel, '^bcast:', '') as channel from campfire.user_routes as u
    where u.enabled and not u.public and u.channel !~ '^(bcast:)?org:' and exists (select from pg_class as c where c.oid = u.relation)
  ) as r
  where not has_table or policies is not null and not exists (
    select from pg_policy as p where p.polrelid = policies and p.polpermissive and p.polcmd in ('r', '*') and exists (
      select from unnest(p.polroles) as h (role) cross join unnest('{anon,authenticated}'::regrole[]) as client
      where h.role = 0 or pg_has_role(client::oid, h.role, 'usage')))
  having count(*) > 0;
end
$$;
comment on function campfire.unheard_routes() is
  'Internal. Routes whose rows reach their channel, where nobody can be, for campfire.check().';

create function campfire.failing_policy(relation regclass, client name, command text) returns text
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  columns constant name[] := array(
    select a.attname from pg_attribute as a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
      and has_column_privilege(client, relation, a.attnum, command)
    order by a.attnum);
  list constant text := campfire.projection_column_list(columns, '');
begin
  if columns = '{}' or not has_schema_privilege(client, (select c.relnamespace from pg_class as c where c.oid = relation), 'usage') then
    return null;
  end if;
  -- Looks up what the policies are made of, and whether they may read it, and reads nothing.
  perform campfire.plan_as(client::regrole, case command
    when 'select' then format('select %s from %s', list, campfire.qualified_name(relation))
    else format('insert into %s (%s) values (%s)', campfire.qualified_name(relation), list,
      array_to_string(array_fill('default'::text, array[cardinality(columns)]), ', ')) end);
  return null;
exception when others then
  return format('%s (%s)', sqlerrm, sqlstate);
end
$$;
comment on function campfire.failing_policy(regclass, name, text) is
  'Internal. The error that a role of clients would get for any select from a table, or insert into it, as its policies are; null if '
  'there is none.';

create function campfire.fails_alone(relation regclass, condition text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  owner constant oid := (select c.relowner from pg_class as c where c.oid = relation);
begin
  if pg_has_role(owner, 'usage') then
    perform campfire.plan_as(owner, format('select from %s where %s', campfire.qualified_name(relation), condition));
  end if;
  return false;
exception when others then
  return true;
end
$$;
comment on function campfire.fails_alone(regclass, text) is
  'Internal. Whether a condition of a policy cannot be planned even as the owner of the table, for whom its policies do not count. False if '
  'the caller is no member of that role.';

create function campfire.policy_mend(relation regclass, client name, command text, failure text) returns text
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  grants text;
begin
  -- What the policies read and call, without the right to.
  with policies as (
    select p.oid from pg_policy as p
    where p.polrelid = relation and p.polcmd in ('*', case command when 'select' then 'r' else 'a' end)
      and exists (select from unnest(p.polroles) as h (role) where h.role = 0 or pg_has_role(client, h.role, 'usage'))
  ), used as (
    select distinct d.refclassid, d.refobjid, d.refobjsubid from policies as p
    join pg_depend as d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
  )
  select string_agg(g.command, ' ' order by g.command) into grants from (
    select format('grant select (%s) on %s to %I;', string_agg(quote_ident(a.attname), ', ' order by a.attnum),
      campfire.qualified_name(c.oid::regclass), client) as command
    from used as u join pg_class as c on u.refclassid = 'pg_class'::regclass and c.oid = u.refobjid and c.oid <> relation
    join pg_attribute as a on a.attrelid = c.oid and a.attnum = u.refobjsubid and a.attnum > 0
    where not has_column_privilege(client, c.oid, a.attnum, 'select') group by c.oid
    union
    select format('grant usage on schema %s to %I;', c.relnamespace::regnamespace, client)
    from used as u join pg_class as c on u.refclassid = 'pg_class'::regclass and c.oid = u.refobjid
    where not has_schema_privilege(client, c.relnamespace, 'usage')
    union
    select format('grant execute on function %s to %I;', p.oid::regprocedure, client)
    from used as u join pg_proc as p on u.refclassid = 'pg_proc'::regclass and p.oid = u.refobjid
    where not has_function_privilege(client, p.oid, 'execute')) as g;
  if grants is not null then
    return grants;
  end if;
  -- Whatever it is, such a policy admits nobody now either.
  return coalesce((
    select string_agg(format('alter policy %I on %s %s;', p.polname, campfire.qualified_name(relation), concat_ws(' ',
      case when p.polcmd <> 'a' then 'using (false)' end, case when p.polwithcheck is not null then 'with check (false)' end)), ' ' order by p.polname)
      || ' -- then write it anew'
    from pg_policy as p
    where p.polrelid = relation and p.polcmd in ('*', case command when 'select' then 'r' else 'a' end)
      and exists (select from unnest(p.polroles) as h (role) where h.role = 0 or pg_has_role(client, h.role, 'usage'))
      and case
        -- Only one that looks into tables can be recursive.
        when failure like '%(42P17)' then concat(p.polqual, p.polwithcheck) like '%:rtekind 0 %'
        else campfire.fails_alone(relation, coalesce(pg_get_expr(p.polqual, relation), 'true'))
          or campfire.fails_alone(relation, coalesce(pg_get_expr(p.polwithcheck, relation), 'true')) end),
    'select * from campfire.check(); -- as superuser: which policy fails is not known to others');
end
$$;
comment on function campfire.policy_mend(regclass, name, text, text) is
  'Internal. SQL after which the policies on a table no longer fail for a role: grants of what they read and call; if there is nothing to '
  'grant, they admit nobody.';

create function campfire.policy_problems() returns table (subject text, problem text, mend text)
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  tried record;
  failure text;
begin
  for tried in
    select distinct t.relation, r.client, k.command, campfire.qualified_name(t.relation) as qualified
    from (
      select to_regclass('realtime.messages') as relation, true as asked where campfire.has_supabase_api()
      union all
      select to_regclass('campfire.private_channels'), true where not campfire.has_supabase_api()
      union all
      select u.relation, false from campfire.user_routes as u where u.enabled
      union all
      select to_regclass(format('%I.%I', i.schema_name, b.table_name)), true
      from campfire.installations as i cross join campfire.builtin_tables as b
    ) as t
    join pg_class as c on c.oid = t.relation and c.relrowsecurity
    cross join unnest('{anon,authenticated}'::name[]) as r (client)
    cross join unnest('{select,insert}'::text[]) as k (command)
    -- Of routed tables snapshots are read, and no more.
    where t.asked or k.command = 'select'
    order by qualified, r.client, k.command desc
  loop
    failure := campfire.failing_policy(tried.relation, tried.client, tried.command);
    if failure is not null then
      subject := tried.qualified;
      problem := format('its policies fail for %s of role %s: %s', tried.command, tried.client, failure);
      mend := campfire.policy_mend(tried.relation, tried.client, tried.command, failure);
      return next;
    end if;
  end loop;
end
$$;
comment on function campfire.policy_problems() is
  'Internal. Policies that end in an error for every client, on the tables that the relay asks and reads as them, for campfire.check().';

create function campfire.leftovers() returns table (severity text, subject text, problem text, mend text)
-- Definer: it reads registries that are closed to the relay.
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  return query
  select 'warning', format('event trigger %s', t.evtname), 'it is disabled, and campfire no longer guards what it publishes and projects',
    format('alter event trigger %I enable;', t.evtname)
  from pg_event_trigger as t join pg_proc as f on f.oid = t.evtfoid
  where f.pronamespace = 'campfire'::regnamespace and t.evtenabled = 'D'
  order by t.evtname;

  return query
  select 'warning', format('schema %I', i.schema_name), format('its chat tables are those of campfire %s, and the extension is %s', i.version, e.extversion),
    format('select campfire.install(%L);', i.schema_name)
  from campfire.installations as i cross join pg_extension as e
  where e.extname = 'campfire' and i.version <> e.extversion
  order by i.number;

  return query
  select 'note', 'extension campfire', format('the package has version %s, and this database %s', a.default_version, e.extversion),
    'alter extension campfire update;'
      || (select coalesce(string_agg(format(' select campfire.install(%L);', i.schema_name), '' order by i.number), '') from campfire.installations as i)
  from pg_extension as e join pg_available_extensions as a on a.name = e.extname
  where e.extname = 'campfire' and a.default_version <> e.extversion and exists (
    select from pg_extension_update_paths('campfire') as u
    where u.source = e.extversion and u.target = a.default_version and u.path is not null);

  return query
  select 'warning', campfire.qualified_name(l.source), 'make_live() has not ended: rows are mirrored, and none is sent',
    format('select campfire.make_live_undo(%L); -- or call make_live() again, which continues', campfire.qualified_name(l.source))
  from campfire.live_tables as l
  where l.routes = '{}' and exists (select from campfire.projections as p where p.source = l.source)
  order by 2;

  return query
  select 'note', campfire.qualified_name(m.oid::regclass), 'it is the mirror of a table that does not exist any more',
    coalesce((select string_agg(format('select campfire.drop_route(%s); ', u.id), '' order by u.id) from campfire.user_routes as u where u.relation = m.oid), '')
      || format('drop table %s; -- unless the table will come back from a dump', campfire.qualified_name(m.oid::regclass))
  from pg_class as m
  where m.relkind = 'r' and m.relname like 'realtime\_%' and starts_with(obj_description(m.oid, 'pg_class'), 'campfire: scalar mirror of ')
    and not exists (select from campfire.projection_registry as p where p.mirror = m.oid)
    and not exists (
      select from pg_class as s where s.relnamespace = m.relnamespace and s.relkind in ('r', 'p')
        and m.relname = campfire.name_around('realtime_', s.relname::text, ''))
  order by 2;

  return query
  select 'error', format('role %s', client), 'as a member of campfire_sender, every client may send to every channel',
    format('revoke campfire_sender from %I;', client)
  from unnest('{anon,authenticated}'::name[]) as client
  where exists (
    select from pg_auth_members as m where m.roleid = 'campfire_sender'::regrole and m.member = client::regrole);
end
$$;
comment on function campfire.leftovers() is
  'Internal. What updates, restores, drops and interruptions have left, for campfire.check().';

create function campfire.check() returns table (severity text, subject text, problem text, mend text)
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  return query select 'error', 'server', w.problem, w.fix from campfire.wal_level_problem() as w;
  return query
  select 'error', coalesce(campfire.qualified_name(c.relation) || coalesce('.' || quote_ident(c.column_name), ''), 'publications'), c.problem, c.fix
  from campfire.check_publication() as c
  where c.problem not in (select w.problem from campfire.wal_level_problem() as w);
  return query select 'error', 'schema realtime', s.problem, s.fix from campfire.check_supabase_api() as s;
  return query select 'warning', u.subject, u.problem, u.mend from campfire.unheard_routes() as u;
  return query select 'error', p.subject, p.problem, p.mend from campfire.policy_problems() as p;
  return query select l.severity, l.subject, l.problem, l.mend from campfire.leftovers() as l;
end
$$;
comment on function campfire.check() is
  'Everything that is wrong with publications, identities, projections, routes, policies and installations, each with SQL that mends it; no '
  'rows if nothing is. severity: error, if something is not sent or fails; warning, if nobody may hear it or a safeguard is off; note. '
  'Changes nothing. Includes campfire.check_publication() and campfire.check_supabase_api(). For superusers and campfire_relay, which '
  'can plan policies as clients. Example: select * from campfire.check();';
