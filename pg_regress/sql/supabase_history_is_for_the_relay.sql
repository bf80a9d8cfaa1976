\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- What a private channel's members get again: what the relay may read, and nobody else may.
begin;
select campfire.realtime_history('room:7', now(), 25);
\echo :LAST_ERROR_SQLSTATE
select campfire.install_supabase_api();
insert into realtime.messages (id, topic, extension, event, payload, binary_payload, private, inserted_at)
select ('10000000-0000-4000-8000-00000000000' || n)::uuid, topic, extension, event, payload::jsonb, bytes, private, (now() + after) at time zone 'utc'
from (values
  (1, 'room:7', 'broadcast', 'e', '{"n": 1}', null::bytea, true, interval '-3 minutes'),
  (2, 'room:7', 'broadcast', 'e', null, '\xdead', true, '-2 minutes'),
  (3, 'room:7', 'broadcast', 'e', '{"n": 3}', null, true, '-1 minute'),
  (4, 'room:7', 'broadcast', 'public', '{}', null, false, '-1 minute'),
  (5, 'room:8', 'broadcast', 'another channel', '{}', null, true, '-1 minute'),
  (6, 'room:7', 'presence', 'no broadcast', '{}', null, true, '-1 minute'),
  (7, 'room:7', 'broadcast', null, '{}', null, true, '-1 minute'),
  (8, 'room:7', 'broadcast', 'no payload', null, null, true, '-1 minute'),
  (9, 'room:7', 'broadcast', 'of the future', '{}', null, true, '2 minutes')
) as m (n, topic, extension, event, payload, bytes, private, after);

-- A session in another time zone asks for the same.
set local timezone = 'Pacific/Kiritimati';
set local role campfire_relay;
select * from campfire.realtime_history('room:7', now() - interval '1 hour', 25);
-- The newest, oldest first; from a time on.
select right(id::text, 1) as n from campfire.realtime_history('room:7', now() - interval '1 hour', 2);
select right(id::text, 1) as n from campfire.realtime_history('room:7', now() - interval '2 minutes', 25);
select count(*) from campfire.realtime_history('room:7', now() - interval '1 hour', 0);
select count(*) from campfire.realtime_history('room:9', '-infinity', 25);
reset role;

set local role authenticated;
select count(*) from campfire.realtime_history('room:7', now() - interval '1 hour', 25);
\echo :LAST_ERROR_SQLSTATE
select count(*) from realtime.history('room:7', now() - interval '1 hour', 25);
\echo :LAST_ERROR_SQLSTATE
reset role;

-- However many other channels there are, few rows are looked at.
insert into realtime.messages (topic, extension, event, payload, private)
select 'room:' || n % 100, 'broadcast', 'e', '{}', true from generate_series(1, 2000) as n;
analyze realtime.messages;
set local jit = off;
do $$
declare
  plan json;
begin
  execute 'explain (format json, costs off)
    select id from realtime.messages
    where topic = ''room:7'' and extension = ''broadcast'' and private and inserted_at >= (now() - interval ''1 hour'') at time zone ''utc''
    order by inserted_at desc, id desc limit 25' into plan;
  raise notice 'by the index of topics: %', plan::text ~ 'messages_[0-9_]+_topic_inserted_at_idx';
end
$$;
rollback;
