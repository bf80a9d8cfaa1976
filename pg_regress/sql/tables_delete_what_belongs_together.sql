\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
insert into organizations (id, name) values
  ('00000000-0000-4000-8000-00000000000a', 'A'), ('00000000-0000-4000-8000-00000000000b', 'B');
insert into agents (organization_id, user_id, display_name)
values ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000a1', 'Ada');
insert into conversations (id, organization_id, assignee_id)
values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000a1');
insert into messages (organization_id, conversation_id, content, sender_type)
values ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000c1', 'hello', 'visitor');
insert into read_receipts (organization_id, conversation_id, reader_type, reader_id)
values ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000c1', 'agent', '00000000-0000-4000-8000-0000000000a1');
-- An organization with conversations stays. Postgres 18 has an error of its own for RESTRICT.
do $$
begin
  delete from organizations where name = 'A';
exception when foreign_key_violation or restrict_violation then
  raise notice 'refused';
end
$$;
-- An agent goes, the conversation stays, in the mirror too.
delete from agents;
select id, assignee_id from realtime_conversations;
-- A conversation moves with its messages and receipts.
update conversations set organization_id = '00000000-0000-4000-8000-00000000000b';
select c.organization_id = m.organization_id and c.organization_id = r.organization_id and c.organization_id = x.organization_id as together
from conversations c, messages m, read_receipts r, realtime_conversations x;
delete from conversations;
select (select count(*) from messages), (select count(*) from read_receipts), (select count(*) from realtime_conversations);
delete from organizations;
rollback;
