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
set role campfire_relay;
select display_name, active from agents order by display_name;
select count(*) > 0 from campfire.routes;
select schema_name, version from campfire.installations;
select count(*) from campfire.projections;
select count(*) from campfire.settings;
select * from campfire.check_publication('campfire');
select * from campfire.check_publication('campfire_control');
insert into campfire.slots (slot_name, system_identifier, timeline, publication_names, publication_oids, publication_xmins)
values ('campfire', '1', 1, '{campfire}', '{1}', '{1}');
update campfire.slots set timeline = 2 returning slot_name, timeline;
delete from campfire.slots;
-- It acts as the caller, never with rights of its own.
set role anon;
select count(id) from conversations;
-- Nobody else reads them.
select * from campfire.slots;
select * from campfire.routes;
select * from campfire.installations;
rollback;
