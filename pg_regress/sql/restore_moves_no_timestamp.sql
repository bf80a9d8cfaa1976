\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- What a data-only restore does: conversations with the updated_at they had, then their messages.
begin;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
insert into conversations (id, organization_id, customer_name, created_at, updated_at) values
  ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'Ann', '2020-01-01 00:00+00', '2020-01-01 00:00+00'),
  ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'Ben', '2020-01-01 00:00+00', '2020-01-01 00:00+00');
update conversations set updated_at = '2021-01-01 00:00+00';
insert into messages (organization_id, conversation_id, content, sender_type, created_at)
select organization_id, id, 'hello', 'visitor', '2021-01-01 00:00+00' from conversations;
select distinct updated_at = '2021-01-01 00:00+00' as kept from conversations;
rollback;
