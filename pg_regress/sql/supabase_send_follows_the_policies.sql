\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- realtime.send() has the caller's rights; what fails is a warning, as in the reference.
begin;
select campfire.install_supabase_api();
create policy writers on realtime.messages for insert to authenticated with check (realtime.topic() = topic and topic = 'room:7' and extension = 'broadcast');
create policy readers on realtime.messages for select to authenticated using (realtime.topic() = 'room:7');
set role authenticated;
select realtime.topic();
select realtime.send('{"v": 1}', 'e', 'room:7');
select realtime.topic();
select realtime.send('{"v": 2, "id": "mine"}', 'e', 'room:7', false);
select realtime.send_binary('\xdead00', 'blob', 'room:7');
select topic, extension, event, payload - 'id' as payload, payload ->> 'id' = id::text as id_injected, binary_payload, private
from realtime.messages order by payload ->> 'v';
select realtime.send('{"v": 3}', 'e', 'room:8');
select realtime.send('[1, "id"]', 'e', 'room:7');
select realtime.send(null, 'e', 'room:7');
set role anon;
select realtime.send('{"v": 4}', 'e', 'room:7');
select realtime.make_partitions();
select realtime.maintain();
\echo :LAST_ERROR_SQLSTATE
select * from realtime.probe('room:7', '{broadcast}');
\echo :LAST_ERROR_SQLSTATE
reset role;
select count(*) from realtime.messages;

-- Channels of organizations have rules of their own, and size is bounded.
select realtime.send('{}', 'message:created', 'org:10000000-0000-4000-8000-000000000001');
select realtime.send('{}', 'e', 'org:7');
insert into realtime.messages (topic, extension, event, payload) values ('org:10000000-0000-4000-8000-000000000001', 'broadcast', 'e', '{}');
\echo :LAST_ERROR_SQLSTATE
select realtime.send('{}', repeat('e', 255), 'room:7');
select realtime.send('{}', repeat('e', 256), 'room:7');
select realtime.send_binary('\x00', repeat('é', 128), 'room:7');
insert into realtime.messages (topic, extension, event, payload) values ('room:7', 'broadcast', 'typing:' || repeat('x', 1500000), '{}');
\echo :LAST_ERROR_SQLSTATE
update campfire.settings set value = '300' where name = 'broadcast_bytes_max';
insert into realtime.messages (id, topic, extension, event, payload)
values ('10000000-0000-4000-8000-000000000002', 'room:7', 'broadcast', 'e', to_jsonb(repeat('x', 300)));
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY sqlstate
insert into realtime.messages (topic, extension, event, payload, binary_payload) values ('room:7', 'broadcast', 'e', '{}', '\x00');
rollback;
