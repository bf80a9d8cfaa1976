\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Policies are asked about realtime.topic(), which is a setting of the session. A row goes to no other topic than that.
begin;
select campfire.install_supabase_api();
create policy writers on realtime.messages for insert to authenticated with check (realtime.topic() = 'room:7');
create policy readers on realtime.messages for select to authenticated using (true);
create policy editors on realtime.messages for update to authenticated using (realtime.topic() = 'room:7') with check (realtime.topic() = 'room:7');
insert into realtime.messages (topic, extension, event, payload) values ('room:8', 'broadcast', 'theirs', '{}');
set role authenticated;
select set_config('realtime.topic', 'room:7', true);
insert into realtime.messages (topic, extension, event, payload) values ('room:8', 'broadcast', 'e', '{}');
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY sqlstate
insert into realtime.messages (topic, extension, event, payload) values ('room:7', 'broadcast', 'mine', '{}'), ('room:8', 'broadcast', 'e', '{}');
insert into realtime.messages (topic, extension) values ('room:8', 'presence');
insert into realtime.messages (topic, extension, event, payload) values ('room:7', 'broadcast', 'mine', '{}');
-- Neither by a change afterwards, of one's own row or of another's.
update realtime.messages set topic = 'room:8' where event = 'mine';
update realtime.messages set topic = 'room:7' where event = 'theirs';
update realtime.messages set payload = '{"n": 1}' where event = 'theirs';
update realtime.messages set payload = '{"n": 1}' where event = 'mine';
-- A setting that changes on the way changes nothing.
insert into realtime.messages (topic, extension, event, payload)
select t, 'broadcast', set_config('realtime.topic', t, true), '{}' from unnest('{room:7,room:8}'::text[]) as t;
reset role;
drop policy writers on realtime.messages;
-- As the planner is helped by: asked once a statement.
create policy writers on realtime.messages for insert to authenticated with check ((select realtime.topic()) = 'room:7');
set role authenticated;
insert into realtime.messages (topic, extension, event, payload)
select t, 'broadcast', set_config('realtime.topic', t, true), '{}' from unnest('{room:7,room:8}'::text[]) as t;
insert into realtime.messages (topic, extension, event, payload)
select t, 'broadcast', set_config('realtime.topic', case t when 'room:7' then t else '' end, true), '{}' from unnest('{room:7,room:8}'::text[]) as t;
\set VERBOSITY default
select set_config('realtime.topic', '', true);
select realtime.send('{"v": 1}', 'sent', 'room:7');
select realtime.send('{"v": 1}', 'sent', 'room:8');
select topic, event, payload - 'id' as payload from realtime.messages order by topic, event;
-- Without a topic in the session, policies that do not ask for one decide alone.
reset role;
create policy bots on realtime.messages for insert to anon with check (topic like 'bots:%');
set role anon;
select set_config('realtime.topic', '', true);
insert into realtime.messages (topic, extension, event, payload) values ('bots:1', 'broadcast', 'e', '{}');
-- Server code writes where it likes, also after it has sent somewhere.
set role service_role;
select realtime.send('{"v": 1}', 'sent', 'room:9');
insert into realtime.messages (topic, extension, event, payload) values ('room:10', 'broadcast', 'e', '{}'), ('room:11', 'broadcast', 'e', '{}');
rollback;
