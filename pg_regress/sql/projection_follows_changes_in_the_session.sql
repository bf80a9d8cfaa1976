\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Plans are kept for the session, and made again when what they name changes.
begin;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
insert into conversations (id, organization_id, customer_name, created_at, updated_at) values
  ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'Ann', '2020-01-01 00:00+00', '2020-01-01 00:00+00'),
  ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'Ben', '2020-01-01 00:00+00', '2020-01-01 00:00+00');
alter table realtime_conversations rename to mirror;
update conversations set status = 'pending' where customer_name = 'Ann';
select status from mirror where customer_name = 'Ann';
-- The trigger's own errors, with the guard of projections out of the way.
alter event trigger campfire_projections_drop disable;
alter event trigger campfire_projections disable;
alter table mirror drop column customer_email;
update conversations set status = 'closed' where customer_name = 'Ann';
\echo :LAST_ERROR_SQLSTATE
update campfire.projection_registry set columns = array_remove(columns, 'customer_email');
update conversations set status = 'closed' where customer_name = 'Ann';
select status from mirror where customer_name = 'Ann';
alter schema public rename to renamed;
update renamed.conversations set status = 'open' where customer_name = 'Ann';
select status from renamed.mirror where customer_name = 'Ann';
insert into renamed.messages (organization_id, conversation_id, content, sender_type)
select organization_id, id, 'hello', 'visitor' from renamed.conversations;
select count(*) from renamed.mirror where updated_at > '2020-01-01 00:00+00';
drop table renamed.mirror;
update renamed.conversations set status = 'closed';
delete from campfire.projection_registry;
update renamed.conversations set status = 'closed';
rollback;
