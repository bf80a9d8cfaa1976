-- Policies on realtime.messages are asked about realtime.topic(), a setting that whoever writes can set. So a row goes to
-- no other channel than that one.

create function campfire.keep_realtime_topic() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  asked constant text := nullif(current_setting('realtime.topic', true), '');
  other text;
begin
  if asked is null then
    return new; -- Null for the policies as well.
  end if;
  other := case when new.topic is distinct from asked then new.topic when tg_op = 'UPDATE' and old.topic <> asked then old.topic end;
  if other is not null and campfire.obeys_realtime_policies() then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('"%s" is not the channel that the policies are asked about', left(other, 200)),
      detail = format('In this session realtime.topic() is "%s".', left(asked, 200)),
      hint = format('select set_config(''realtime.topic'', %L, true); -- before the statement, in its transaction', left(other, 200));
  end if;
  return new;
end
$$;
comment on function campfire.keep_realtime_topic() is
  'Trigger before insert or update on realtime.messages, for each row: raises 42501 if the row is for another channel than '
  'realtime.topic() names, unless policies do not bind the role.';

create function campfire.keep_one_realtime_topic() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  first_topic text;
  other text;
begin
  if not campfire.obeys_realtime_policies() then
    return null;
  end if;
  select w.topic into first_topic from written as w limit 1;
  select w.topic into other from written as w where w.topic <> first_topic limit 1;
  if other is not null then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('one statement writes to "%s" and to "%s"', left(first_topic, 200), left(other, 200)),
      detail = 'A policy evaluates (select realtime.topic()) once per statement.',
      hint = 'Write to each channel in a statement of its own.';
  end if;
  return null;
end
$$;
comment on function campfire.keep_one_realtime_topic() is
  'Trigger after insert, and after update, on realtime.messages, for each statement, with the new rows as "written": raises 42501 if they '
  'are for more than one channel, unless policies do not bind the role.';

create function campfire.obeys_realtime_policies() returns boolean
language sql stable set search_path = pg_catalog, pg_temp
-- These two may write everywhere, by policies of install_supabase_api().
return row_security_active('realtime.messages') and not pg_has_role('service_role', 'member') and not pg_has_role('campfire_sender', 'usage');
comment on function campfire.obeys_realtime_policies() is
  'Internal. Whether policies on realtime.messages bind the current role: not if it is a superuser, bypasses policies, or is service_role or '
  'campfire_sender.';

create function campfire.install_supabase_topic() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  wanted record;
begin
  for wanted in
    select * from (values
      ('keep_realtime_topic_trigger', 'before insert or update on realtime.messages for each row execute function campfire.keep_realtime_topic()'),
      ('keep_one_realtime_topic_trigger', 'after insert on realtime.messages referencing new table as written for each statement execute function campfire.keep_one_realtime_topic()'),
      ('keep_one_realtime_topic_of_updates_trigger', 'after update on realtime.messages referencing new table as written for each statement execute function campfire.keep_one_realtime_topic()')
    ) as v (name, definition)
  loop
    if not exists (select from pg_trigger as t where t.tgrelid = 'realtime.messages'::regclass and t.tgname = wanted.name) then
      execute format('create trigger %I %s', wanted.name, wanted.definition);
    end if;
    execute format('alter table realtime.messages enable trigger %I', wanted.name);
    execute format('comment on trigger %I on realtime.messages is %L', wanted.name,
      'campfire: a row goes to no other channel than the policies were asked about.');
  end loop;
end
$$;
comment on function campfire.install_supabase_topic() is
  'Internal. The triggers of realtime.messages that hold rows to realtime.topic(), made by campfire.install_supabase_api().';
