\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Comments, owners and grants are for people to change, and a restore may leave them out: schema realtime goes on, or one
-- call mends it, and it is never taken for somebody else's.
begin;
set client_min_messages = warning;
select campfire.install_supabase_api();
create policy members on realtime.messages for select to authenticated using (realtime.topic() = 'room:7');
create role campfire_regress_app;
create function pg_temp.tried(what text, damage text) returns table (after text, ours boolean, problem text, fix text, left_over bigint, works boolean) language plpgsql as $$
begin
  begin
    execute damage;
    after := what;
    ours := campfire.has_supabase_api();
    for problem, fix in select c.problem, c.fix from campfire.check_supabase_api() as c union all select null, null
      where not exists (select from campfire.check_supabase_api()) loop
      if exists (select from campfire.check_supabase_api()) then
        execute fix;
      end if;
      left_over := (select count(*) from campfire.check_supabase_api());
      perform campfire.maintain_supabase_api();
      works := (select count(*) from campfire.realtime_probe('room:7', '{broadcast}')) = 1
        and (select count(*) from pg_policy as p where p.polrelid = 'realtime.messages'::regclass and p.polname = 'members') = (case when after = 'the table dropped' then 0 else 1 end);
      return next;
    end loop;
    raise exception sqlstate 'UNDO1';
  exception when sqlstate 'UNDO1' then null;
  end;
end $$;
select t.* from (values
  ('no comment', 'comment on schema realtime is null'),
  ('another comment', 'comment on schema realtime is ''ours'''),
  ('no comments at all', 'comment on schema realtime is null; comment on table realtime.messages is null; comment on function realtime.topic() is null'),
  ('another owner of the schema', 'alter schema realtime owner to campfire_regress_app'),
  ('both', 'comment on schema realtime is null; alter schema realtime owner to campfire_regress_app'),
  ('the trigger renamed', 'alter trigger broadcast_realtime_message_trigger on realtime.messages rename to send'),
  ('the trigger dropped', 'drop trigger broadcast_realtime_message_trigger on realtime.messages; comment on schema realtime is null'),
  ('the trigger disabled', 'alter table realtime.messages disable trigger user'),
  ('a function dropped', 'drop function realtime.maintain()'),
  ('another owner of a function', 'alter function realtime.probe(text, text[]) owner to campfire_regress_app'),
  ('another owner of messages', 'alter table realtime.messages owner to campfire_regress_app'),
  ('the table dropped', 'drop table realtime.messages; comment on schema realtime is null'),
  ('the relay without its grants', 'revoke all on schema realtime from public, campfire_relay'),
  ('the relay without a function', 'revoke all on function realtime.probe(text, text[]) from campfire_relay'),
  ('no grants at all', 'revoke all on schema realtime from public, anon, authenticated, service_role, campfire_relay'),
  ('anon shut out', 'revoke all on realtime.messages from anon')
) as d (what, damage), pg_temp.tried(d.what, d.damage) as t;
-- While it is broken, the relay is told what and how to mend it, and so is who maintains it by hand.
savepoint broken;
alter function realtime.probe(text, text[]) owner to campfire_regress_app;
select * from campfire.realtime_probe('room:7', '{broadcast}');
\echo :LAST_ERROR_SQLSTATE
select campfire.maintain_supabase_api();
select campfire.remove_supabase_api();
select to_regnamespace('realtime');
rollback to broken;
-- Functions and comment of somebody who is no superuser make nothing ours, and a table of the same name neither.
select campfire.remove_supabase_api();
create schema realtime authorization campfire_regress_app;
set role campfire_regress_app;
create table realtime.messages (id int);
create function realtime.probe(topic text, extensions text[]) returns table (extension text, id uuid) language sql as 'select null::text, null::uuid';
comment on schema realtime is 'campfire: mine';
reset role;
select campfire.has_supabase_api();
select * from campfire.check_supabase_api();
select campfire.install_supabase_api();
\echo :LAST_ERROR_SQLSTATE
-- Nor does one function that a superuser made in there.
create function realtime.insert_message() returns void language sql as 'select 1';
select campfire.has_supabase_api();
rollback;
