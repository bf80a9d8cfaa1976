\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Read back through a slot, with the signature that the relay checks; what rolls back is not there.
set client_min_messages = warning;
-- Another HMAC than the one that is tried.
create extension pgcrypto;
select 'made' from pg_create_logical_replication_slot('campfire_regress_broadcast', 'pgoutput');
begin;
set local role service_role;
select campfire.broadcast('news', 'kept', '{"text": "two\nlines"}');
commit;
begin;
select campfire.broadcast('news', 'lost', '{}');
rollback;
-- In a subtransaction the xid is still the top one's, as in Begin.
begin;
savepoint a;
create temporary table makes_an_xid ();
select campfire.broadcast('bcast:news', 'inner', '{}');
commit;
-- Copied by somebody else.
create temporary table read as
select row_number() over () as n, xid, convert_from(substring(data from position('\x00'::bytea in substring(data from 11)) + 15), 'UTF8') as content
from pg_logical_slot_peek_binary_changes('campfire_regress_broadcast', null, null,
  'proto_version', '1', 'publication_names', 'campfire', 'messages', 'true')
where get_byte(data, 0) = ascii('M') and position('campfire.broadcast'::bytea in data) > 0;
select 'replayed' from read, pg_logical_emit_message(true, 'campfire.broadcast', content) where n = 1;
create temporary table all_read as
select row_number() over () as n, xid, convert_from(substring(data from position('\x00'::bytea in substring(data from 11)) + 15), 'UTF8') as content
from pg_logical_slot_get_binary_changes('campfire_regress_broadcast', null, null,
  'proto_version', '1', 'publication_names', 'campfire', 'messages', 'true')
where get_byte(data, 0) = ascii('M') and position('campfire.broadcast'::bytea in data) > 0;
select n, substring(content from position(E'\n' in content) + 1) as body,
  split_part(split_part(content, E'\n', 1), ' ', 3) = (select encode(hmac(convert_to(
    format(E'campfire.broadcast\n%s\n%s\n%s', (select oid from pg_database where datname = current_database()), xid,
      substring(content from position(E'\n' in content) + 1)), 'UTF8'), k.key, 'sha256'), 'hex')
    from campfire.broadcast_keys as k where k.id = split_part(content, ' ', 2)::int) as signed
from all_read order by n;
drop extension pgcrypto;
select 'dropped' from pg_drop_replication_slot('campfire_regress_broadcast');
