\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A message with a client_key has an id that follows from the key, so a second insert is no second message.
begin;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A'), ('00000000-0000-4000-8000-00000000000b', 'B');
insert into agents (organization_id, user_id, display_name) values
  ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000a1', 'Ada');
insert into conversations (id, organization_id, created_at, updated_at) values
  ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', '2020-01-01', '2020-01-01'),
  ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', '2020-01-01', '2020-01-01'),
  ('00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-00000000000b', '2020-01-01', '2020-01-01');
-- As other libraries have it.
create extension "uuid-ossp" schema public;
select campfire.message_id(c, k) = public.uuid_generate_v5(c, k::text) as is_v5, campfire.message_id(c, k)
from (values ('00000000-0000-4000-8000-0000000000c1'::uuid, 'ABCDEF00-0000-4000-8000-000000000001'::uuid)) as v (c, k);
select campfire.message_id(null, gen_random_uuid()), campfire.message_id(gen_random_uuid(), null);

create function pg_temp.claim(claims text) returns void language sql as $$ select set_config('request.jwt.claims', claims, true) $$;
set role anon;
select from pg_temp.claim('{"org_id": "00000000-0000-4000-8000-00000000000a", "conversation_id": "00000000-0000-4000-8000-0000000000c1"}');
insert into messages (conversation_id, organization_id, content, sender_type, client_key)
values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'first', 'visitor', 'abcdef00-0000-4000-8000-000000000001')
returning id, content;
reset role;
update conversations set updated_at = '2020-01-01';
create temporary table updates as select updated_at from conversations where id = '00000000-0000-4000-8000-0000000000c1';
set role anon;
-- Again: nothing is written, whatever it says this time, and the first row can be read.
insert into messages (conversation_id, organization_id, content, sender_type, client_key)
values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'second', 'visitor', 'ABCDEF00-0000-4000-8000-000000000001')
returning id, content;
insert into messages (conversation_id, organization_id, content, sender_type, client_key)
values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'third', 'visitor', 'abcdef00-0000-4000-8000-000000000001')
on conflict (id) do nothing returning id, content;
select content from messages where id = campfire.message_id('00000000-0000-4000-8000-0000000000c1', 'abcdef00-0000-4000-8000-000000000001');
reset role;
select c.updated_at = u.updated_at as untouched from conversations as c, updates as u where c.id = '00000000-0000-4000-8000-0000000000c1';
set role anon;
-- Several of one key in a statement; another key; and none, which is random.
insert into messages (conversation_id, organization_id, content, sender_type, client_key)
select '00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'of two ' || n, 'visitor', 'abcdef00-0000-4000-8000-000000000002'
from generate_series(1, 2) as n returning content;
insert into messages (conversation_id, organization_id, content, sender_type)
values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'no key', 'visitor'),
       ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'no key', 'visitor') returning content;
-- No id of one's own choosing, and no conversation but one's own, also by a key that is in use there.
insert into messages (id, conversation_id, organization_id, content, sender_type, client_key)
values ('00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'x', 'visitor', gen_random_uuid());
reset role;
insert into messages (conversation_id, organization_id, content, sender_type, client_key)
values ('00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-00000000000b', 'theirs', 'visitor', 'abcdef00-0000-4000-8000-000000000001');
set role anon;
insert into messages (conversation_id, organization_id, content, sender_type, client_key)
values ('00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-00000000000b', 'x', 'visitor', 'abcdef00-0000-4000-8000-000000000001');
insert into messages (conversation_id, organization_id, content, sender_type, client_key)
values ('00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-00000000000b', 'x', 'visitor', 'abcdef00-0000-4000-8000-000000000099');
-- A conversation must be named.
insert into messages (organization_id, content, sender_type, client_key)
values ('00000000-0000-4000-8000-00000000000a', 'x', 'visitor', 'abcdef00-0000-4000-8000-000000000001');

set role authenticated;
select from pg_temp.claim('{"org_id": "00000000-0000-4000-8000-00000000000a", "sub": "00000000-0000-4000-8000-0000000000a1"}');
insert into messages (conversation_id, organization_id, content, sender_type, client_key)
values ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'the same key elsewhere', 'agent', 'abcdef00-0000-4000-8000-000000000001')
returning content, client_key;
insert into messages (conversation_id, organization_id, content, sender_type, client_key)
values ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'again', 'agent', 'abcdef00-0000-4000-8000-000000000001')
returning content;
set role service_role;
-- The id is derived for everybody; COPY does the same.
insert into messages (id, conversation_id, organization_id, content, sender_type, client_key)
values ('00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'by a server', 'system', 'abcdef00-0000-4000-8000-000000000003')
returning id = campfire.message_id(conversation_id, client_key) as derived;
reset role;
copy messages (conversation_id, organization_id, content, sender_type, client_key) from stdin;
00000000-0000-4000-8000-0000000000c2	00000000-0000-4000-8000-00000000000a	copied	system	abcdef00-0000-4000-8000-000000000003
00000000-0000-4000-8000-0000000000c2	00000000-0000-4000-8000-00000000000a	copied	system	abcdef00-0000-4000-8000-000000000004
00000000-0000-4000-8000-0000000000c2	00000000-0000-4000-8000-00000000000a	copied twice	system	abcdef00-0000-4000-8000-000000000004
\.
select conversation_id, content, client_key is not null as keyed from messages order by conversation_id, content;
-- A role that may insert and read nothing is told by the key of the table.
create role campfire_regress_writer;
grant insert on messages to campfire_regress_writer;
alter table messages disable row level security;
set role campfire_regress_writer;
insert into messages (conversation_id, organization_id, content, sender_type, client_key)
values ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'x', 'system', 'abcdef00-0000-4000-8000-000000000004');
\echo :LAST_ERROR_SQLSTATE
rollback;
