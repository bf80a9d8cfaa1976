\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A row that is already in the mirror, or is missing there, breaks nobody's INSERT or UPDATE.
begin;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
insert into conversations (id, organization_id, customer_name, created_at, updated_at) values
  ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'Ann', '2020-01-01 00:00+00', '2020-01-01 00:00+00'),
  ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'Ben', '2020-01-01 00:00+00', '2020-01-01 00:00+00');
insert into realtime_conversations (id, organization_id, status, priority, created_at, updated_at)
values ('00000000-0000-4000-8000-0000000000c3', '00000000-0000-4000-8000-00000000000a', 'stray', 'stray', now(), now());
delete from realtime_conversations where customer_name = 'Ann';
insert into conversations (id, organization_id) values ('00000000-0000-4000-8000-0000000000c3', '00000000-0000-4000-8000-00000000000a');
update conversations set status = 'closed' where customer_name = 'Ann';
select id, customer_name, status from realtime_conversations order by id;
rollback;
