\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Whatever becomes of the tables of one installation is named, and the fix, pasted, mends it.
begin;
set client_min_messages = warning;
create function pg_temp.damage(command text) returns table (problem text, fix text, left_over bigint) language plpgsql as $$
declare
  told record;
begin
  begin
    execute command;
    for told in select c.problem, c.fix from campfire.check_publication() as c loop
      problem := told.problem;
      fix := told.fix;
      if exists (select from campfire.check_publication() as c where c.fix = told.fix) then
        execute told.fix;
      end if;
      left_over := (select count(*) from campfire.check_publication());
      return next;
    end loop;
    if not found then
      problem := 'NOTHING IS SAID';
      return next;
    end if;
    raise exception sqlstate 'UNDO1';
  exception when sqlstate 'UNDO1' then null;
  end;
end $$;
-- It would not let a mirror be dropped.
alter event trigger campfire_projections_drop disable;
create schema "Chat ""2""";
select campfire.install('Chat "2"');
set search_path = "Chat ""2""", public;
create schema other;
select n, d.* from (values
  (1, 'drop schema "Chat ""2""" cascade'),
  (2, 'drop table agents cascade'),
  (3, 'drop table messages'),
  (4, 'drop table realtime_conversations, read_receipts, messages, conversations, agents, organizations cascade'),
  (5, 'alter table agents rename to staff'),
  (6, 'alter table messages set schema other'),
  (7, 'alter table messages rename to posts; alter table posts set schema other; alter table realtime_conversations rename to mirror'),
  (8, 'alter table messages rename column content to body'),
  (9, 'alter table read_receipts rename column read_at to seen_at'),
  -- As a restore of a part, or of data alone, leaves it.
  (10, 'create table anew as table messages; drop table messages; alter table anew rename to messages'),
  (11, 'create table anew as table agents; drop table agents cascade; alter table anew rename to agents'),
  (12, 'drop table realtime_conversations; create table realtime_conversations (id uuid primary key, organization_id uuid)'),
  (13, 'alter schema "Chat ""2""" rename to chat; drop table chat.read_receipts')
) as v (n, command), pg_temp.damage(command) as d order by n;
reset search_path;
-- Others are none the worse for it: what create_publication() cannot publish, it says, and goes on.
drop table "Chat ""2""".realtime_conversations;
create view "Chat ""2""".realtime_conversations as select 1 as id;
create schema third;
select campfire.install('third');
select count(*) from pg_publication_tables where pubname like 'campfire%' and schemaname = 'third';
rollback;

-- Forgotten: the tables stay, with their rows, and nothing of campfire's on them.
begin;
set client_min_messages = warning;
create schema chat;
select campfire.install('chat');
insert into chat.organizations (id, name) values ('10000000-0000-4000-8000-000000000001', 'Acme');
insert into chat.conversations (id, organization_id) values ('20000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001');
-- A route of the application's own goes on.
select campfire.add_route('chat.read_receipts', 'INSERT', 'receipts', 'read') > 0 as added;
select campfire.enable_route((select id from campfire.routes where schema_name = 'chat' and event = 'message:deleted' limit 1));
select campfire.uninstall('chat');
select * from campfire.check_publication();
select pubname, tablename from pg_publication_tables where schemaname = 'chat';
select count(*) from campfire.routes where schema_name = 'chat' and builtin;
select count(*) from campfire.route_overrides;
select tgrelid::regclass, tgname from pg_trigger where not tgisinternal and tgrelid in (select oid from pg_class where relnamespace = 'chat'::regnamespace);
insert into chat.messages (organization_id, conversation_id, content, sender_type)
values ('10000000-0000-4000-8000-000000000001', '20000000-0000-4000-8000-000000000001', 'still written', 'agent');
update chat.conversations set status = 'closed';
select status from chat.realtime_conversations;
select campfire.uninstall('chat');
\echo :LAST_ERROR_SQLSTATE
select campfire.uninstall(null);
\echo :LAST_ERROR_SQLSTATE
select campfire.drop_route(id) from campfire.routes where event = 'read';
drop schema chat cascade;
create schema chat;
select campfire.install('chat');
select campfire.uninstall();
select * from campfire.check_publication();
select schema_name from campfire.installations;
create role campfire_test_dba;
grant usage on schema campfire to campfire_test_dba;
grant execute on function campfire.uninstall(name), campfire.replace_table(regclass, regclass) to campfire_test_dba;
set role campfire_test_dba;
select campfire.uninstall('chat');
\echo :LAST_ERROR_SQLSTATE
rollback;
