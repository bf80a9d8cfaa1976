\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A committed row is one signed message of its transaction; probes, rolled back work and rows without event are none.
select campfire.install_supabase_api();
select 'made' from pg_create_logical_replication_slot('campfire_regress_supabase', 'pgoutput');
begin;
select count(*) from campfire.realtime_probe('room:7', '{broadcast,presence}');
insert into realtime.messages (topic, extension) values ('room:7', 'presence');
commit;
begin;
select realtime.send('{"v": 0}', 'e', 'room:7');
rollback;
insert into realtime.messages (id, topic, extension, event, payload, private)
values ('10000000-0000-4000-8000-000000000003', 'room:"7"', 'broadcast', 'e', '{"v": "ü"}', true);
insert into realtime.messages (id, topic, extension, event, binary_payload)
values ('10000000-0000-4000-8000-000000000004', 'room:7', 'broadcast', 'blob', decode(repeat('00ff', 50), 'hex'));
select substring(content from position(E'\n' in content) + 1) as body
from (
  select convert_from(substring(data from position('\x00'::bytea in substring(data from 11)) + 15), 'UTF8') as content
  from pg_logical_slot_get_binary_changes('campfire_regress_supabase', null, null,
    'proto_version', '1', 'publication_names', 'campfire', 'messages', 'true')
  where get_byte(data, 0) = ascii('M') and position('campfire.realtime'::bytea in data) > 0
) as messages;
select 'dropped' from pg_drop_replication_slot('campfire_regress_supabase');
select campfire.remove_supabase_api();
