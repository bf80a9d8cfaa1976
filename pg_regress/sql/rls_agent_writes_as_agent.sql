\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A'), ('00000000-0000-4000-8000-00000000000b', 'B');
insert into agents (organization_id, user_id, display_name, active) values
  ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000a1', 'Ada', true),
  ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000a2', 'Abe', false),
  ('00000000-0000-4000-8000-00000000000b', '00000000-0000-4000-8000-0000000000b1', 'Bob', true);
insert into conversations (id, organization_id, customer_name, created_at, updated_at) values
  ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'Ann', '2020-01-01', '2020-01-01'),
  ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'Amy', '2020-01-01', '2020-01-01'),
  ('00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-00000000000b', 'Ben', '2020-01-01', '2020-01-01');
insert into messages (organization_id, conversation_id, content, sender_type, sender_email, created_at)
select organization_id, id, 'to ' || customer_name, 'agent', 'agent@example.com', '2020-01-01' from conversations;
insert into read_receipts (organization_id, conversation_id, reader_type, reader_id)
select organization_id, id, 'agent', '00000000-0000-4000-8000-0000000000a1' from conversations;
set role authenticated;
select set_config('request.jwt.claims', '{"org_id": "00000000-0000-4000-8000-00000000000a", "sub": "00000000-0000-4000-8000-0000000000a1"}', true) is not null as claimed;
insert into messages (conversation_id, organization_id, content, sender_type) values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'mine', 'agent');
update conversations set status = 'pending', assignee_id = '00000000-0000-4000-8000-0000000000a1' where customer_name = 'Ann';
select customer_name, status, assignee_id is not null as assigned from realtime_conversations order by customer_name;
insert into read_receipts (conversation_id, organization_id, reader_type, reader_id) values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'agent', '00000000-0000-4000-8000-0000000000a1')
on conflict (conversation_id, reader_id) do update set read_at = excluded.read_at returning reader_type;
-- Not as a visitor, not elsewhere, not at another time, not for a colleague.
insert into messages (conversation_id, organization_id, content, sender_type) values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'x', 'visitor');
insert into messages (conversation_id, organization_id, content, sender_type) values ('00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-00000000000b', 'x', 'agent');
insert into messages (conversation_id, organization_id, content, sender_type, created_at) values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'x', 'agent', now());
insert into read_receipts (conversation_id, organization_id, reader_type, reader_id) values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'agent', '00000000-0000-4000-8000-0000000000a2');
update conversations set organization_id = '00000000-0000-4000-8000-00000000000b';
update conversations set status = 'closed' where customer_name = 'Ben';
update agents set active = true;
insert into conversations (organization_id) values ('00000000-0000-4000-8000-00000000000a');
delete from conversations;
update realtime_conversations set status = 'x';
rollback;
