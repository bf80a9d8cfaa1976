-- Whether schema realtime is still what campfire.install_supabase_api() made.

create function campfire.supabase_api_functions() returns name[]
language sql immutable parallel safe
-- Those that others call are last: they can be dropped in this order.
return '{send_binary,send,broadcast_changes,probe,history,maintain,make_partitions,topic,insert_message,require_today,takes_today,partition_problems,partition_of,partition_name}'::name[];
comment on function campfire.supabase_api_functions() is 'Internal. Names of the functions that campfire.install_supabase_api() makes in schema realtime.';

create function campfire.supabase_api_damage() returns table (problem text)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if to_regclass('realtime.messages') is null then
    return query values ('table realtime.messages is missing');
  elsif not exists (
    select from pg_trigger as t where t.tgrelid = 'realtime.messages'::regclass and t.tgenabled in ('O', 'A')
      and t.tgfoid = 'campfire.broadcast_realtime_message()'::regprocedure
  ) then
    return query values ('the trigger of realtime.messages that sends its rows is missing or disabled');
  elsif (
    select count(*) from pg_trigger as t where t.tgrelid = 'realtime.messages'::regclass and t.tgenabled in ('O', 'A')
      and t.tgfoid in ('campfire.keep_realtime_topic()'::regprocedure, 'campfire.keep_one_realtime_topic()'::regprocedure)
  ) < 3 then
    return query values ('a trigger of realtime.messages that holds rows to realtime.topic() is missing or disabled');
  end if;
  -- The functions below write to it with the rights of a superuser, and so its owner's triggers would run with them.
  return query
    select format('table realtime.messages belongs to %I, which is no superuser', r.rolname)
    from pg_class as c join pg_roles as r on r.oid = c.relowner
    where c.oid = to_regclass('realtime.messages') and not r.rolsuper;
  -- The relay runs them with its own rights, so a role that could replace them would have these.
  return query
    select case when p.oid is null then format('function realtime.%s is missing', f.signature)
      else format('function realtime.%s belongs to %I, which is no superuser', f.signature, p.proowner::regrole::name) end
    from unnest('{partition_name(date),make_partitions(),partition_problems(),maintain(),"probe(text,text[])","history(text,timestamptz,integer)"}'::text[]) as f (signature)
    left join pg_proc as p on p.oid = to_regprocedure('realtime.' || f.signature)
    where p.oid is null or not (select r.rolsuper from pg_roles as r where r.oid = p.proowner);
  -- A grant taken from one of the three may be meant so; from all of them, the dump had none.
  if not exists (
    select from unnest('{anon,authenticated,service_role}'::name[]) as r (name) where has_schema_privilege(r.name, 'realtime', 'usage')
      and has_table_privilege(r.name, to_regclass('realtime.messages'), 'select')
  ) then
    return query values ('none of anon, authenticated and service_role may use realtime.messages');
  end if;
  if not has_schema_privilege('campfire_relay', 'realtime', 'usage') then
    return query values ('campfire_relay may not use schema realtime');
  end if;
  return query
    select format('campfire_relay may not call realtime.%I()', p.proname)
    from pg_proc as p
    where p.pronamespace = 'realtime'::regnamespace and p.proname in ('partition_name', 'partition_problems', 'maintain', 'probe', 'history')
      and not has_function_privilege('campfire_relay', p.oid, 'execute');
end
$$;
comment on function campfire.supabase_api_damage() is
  'Internal. What campfire.install_supabase_api() made in schema realtime and somebody changed, so that nothing would be sent or decided.';

create function campfire.check_supabase_api() returns table (problem text, fix text)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if not campfire.has_supabase_api() then
    return;
  end if;
  return query select d.problem, 'select campfire.install_supabase_api();' from campfire.supabase_api_damage() as d;
  if not found then
    return query select p.problem, p.fix from realtime.partition_problems() as p;
  end if;
end
$$;
comment on function campfire.check_supabase_api() is
  'What keeps schema realtime from working, and SQL that mends it; no rows if all is well, or if there is none of campfire''s. The relay '
  'logs them every hour. Example: select * from campfire.check_supabase_api();';
