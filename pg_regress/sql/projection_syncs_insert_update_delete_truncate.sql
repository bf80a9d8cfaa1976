\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
insert into conversations (id, organization_id, customer_name, created_at, updated_at) values
  ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'Ann', '2020-01-01 00:00+00', '2020-01-01 00:00+00'),
  ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'Ben', '2020-01-01 00:00+00', '2020-01-01 00:00+00');
select id, customer_name, status, priority, updated_at = '2020-01-01 00:00+00' as as_given from realtime_conversations order by id;
update conversations set status = 'pending', priority = 'urgent', customer_name = null, customer_email = 'ann@example.com'
where customer_name = 'Ann';
select id, customer_name, customer_email, status, priority from realtime_conversations order by id;
delete from conversations where customer_name = 'Ben';
select id from realtime_conversations order by id;
insert into conversations (id, organization_id, customer_name)
values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'Cleo')
on conflict (id) do update set customer_name = excluded.customer_name;
select id, customer_name from realtime_conversations order by id;
copy conversations (id, organization_id, customer_name) from stdin;
00000000-0000-4000-8000-0000000000c3	00000000-0000-4000-8000-00000000000a	Dora
\.
select count(*) from realtime_conversations;
set client_min_messages = warning;
truncate conversations cascade;
select count(*) from realtime_conversations;
rollback;
