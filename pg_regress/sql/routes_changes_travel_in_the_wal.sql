\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Read back through a slot: one signed message a change, in its transaction, with the whole set that is enabled.
set client_min_messages = warning;
-- Another HMAC than the one that is tried.
create extension pgcrypto;
select 'made' from pg_create_logical_replication_slot('campfire_regress_routes', 'pgoutput');
create table orders (id int primary key, name text);
select campfire.publish('campfire', 'orders');
select campfire.add_route('orders', 'INSERT', 'orders', 'order:created') > 0 as added;
begin;
select campfire.drop_route(id) from campfire.routes where not builtin;
rollback;
select campfire.enable_route(id, false) from campfire.routes where not builtin;
select campfire.drop_route(id) from campfire.routes where not builtin;
-- A pgoutput message is M, flags, lsn, prefix, 0, length, content.
create temporary table messages_read as
select row_number() over () as n, xid, get_byte(data, 1) as transactional,
  substring(data from position('\x00'::bytea in substring(data from 11)) + 15) as content
from pg_logical_slot_get_binary_changes('campfire_regress_routes', null, null,
  'proto_version', '1', 'publication_names', 'campfire', 'messages', 'true')
where get_byte(data, 0) = ascii('M') and position('campfire.routes'::bytea in data) > 0;
with split as (
  select n, xid, transactional, split_part(convert_from(content, 'UTF8'), E'\n', 1) as signature,
    substring(convert_from(content, 'UTF8') from position(E'\n' in convert_from(content, 'UTF8')) + 1) as body
  from messages_read
)
select n, transactional, split_part(signature, ' ', 1) as version,
  split_part(signature, ' ', 3) = (select encode(hmac(convert_to(
    format(E'campfire.routes\n%s\n%s\n%s', (select oid from pg_database where datname = current_database()), xid, body), 'UTF8'), k.key, 'sha256'), 'hex')
    from campfire.broadcast_keys as k where k.id = split_part(signature, ' ', 2)::int) as signed,
  jsonb_array_length(body::jsonb -> 'routes') - (select count(*) from campfire.routes where enabled) as more_than_builtin,
  body::jsonb -> 'routes' -> -1 ->> 'event' as last_event
from split order by n;
drop extension pgcrypto;
select 'dropped' from pg_drop_replication_slot('campfire_regress_routes');
select campfire.unpublish('campfire', 'orders');
drop table orders;
