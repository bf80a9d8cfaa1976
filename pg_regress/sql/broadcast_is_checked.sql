\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
set role service_role;
select campfire.broadcast('news', 'published', '{"id": 7}');
select campfire.broadcast('bcast:org:00000000-0000-0000-0000-00000000000a', 'import:done', '{}');
select campfire.broadcast('org:nobody', 'import:done', '{}');
\echo :LAST_ERROR_SQLSTATE
select campfire.broadcast('org:00000000-0000-0000-0000-00000000000a', 'message:created', '{}');
\echo :LAST_ERROR_SQLSTATE
select campfire.broadcast('news', 'message:created', '{}');
\set VERBOSITY sqlstate
select campfire.broadcast('org:00000000-0000-0000-0000-00000000000a', e, '{}') from unnest('{conversation:x}'::text[]) as e;
select campfire.broadcast('bcast:org:00000000-0000-0000-0000-00000000000a', e, '{}') from unnest('{read:receipt}'::text[]) as e;
select campfire.broadcast('org:00000000-0000-0000-0000-00000000000a', e, '{}') from unnest('{agent:status:online}'::text[]) as e;
select campfire.broadcast('org:00000000-0000-0000-0000-00000000000a', e, '{}') from unnest('{campfire:x}'::text[]) as e;
select campfire.broadcast('', 'e', '{}');
select campfire.broadcast(E'a\nb', 'e', '{}');
select campfire.broadcast('a', E'a\nb', '{}');
select campfire.broadcast('a', '', '{}');
select campfire.broadcast(null, 'e', '{}');
-- 64 KiB on channels of an organization, counted with the quotes.
select campfire.broadcast('org:00000000-0000-0000-0000-00000000000a', 'e', to_jsonb(repeat('x', 65534)));
select campfire.broadcast('org:00000000-0000-0000-0000-00000000000a', 'e', to_jsonb(repeat('x', 65535)));
select campfire.broadcast('news', 'e', to_jsonb(repeat('x', 65535)));
select campfire.broadcast('news', 'e', to_jsonb(repeat('x', 3071999)));
\set VERBOSITY default
reset role;
update campfire.settings set value = '10' where name = 'broadcast_bytes_max';
update campfire.settings set value = '10 MB' where name = 'broadcast_bytes_max';
set role service_role;
select campfire.broadcast('news', 'e', '{"id": 70000}');
\echo :LAST_ERROR_SQLSTATE
-- Nobody else, and nobody reads or makes keys.
select key from campfire.broadcast_keys;
select campfire.rotate_broadcast_key();
select campfire.emit('campfire.broadcast', 'x');
set role authenticated;
select campfire.broadcast('news', 'e', '{}');
set role anon;
select campfire.broadcast('news', 'e', '{}');
set role campfire_relay;
select count(*), min(octet_length(key)) from campfire.broadcast_keys;
reset role;
-- One key before the newest is kept.
select campfire.rotate_broadcast_key() > 1 as rotated, campfire.rotate_broadcast_key() > 1 as again;
select count(*), count(distinct key) from campfire.broadcast_keys;
-- Never dumped.
select c from pg_extension, unnest(extconfig) as c where extname = 'campfire' and c = 'campfire.broadcast_keys'::regclass;
rollback;

-- No longer than the relay reads, whatever the settings say.
begin;
update campfire.settings set value = '40000000' where name = 'broadcast_bytes_max';
select campfire.broadcast('news', 'e', to_jsonb(repeat('x', 16777000)));
select campfire.broadcast('news', 'e', to_jsonb(repeat('x', 16777216)));
\echo :LAST_ERROR_SQLSTATE
rollback;
