\set SHOW_CONTEXT never
-- A row whose expression fails is refused as by a check: with the column's name, and how to go on.
create schema projection_test;
set search_path = projection_test;
create table orders (id int primary key, body jsonb);
insert into orders values (1, '{"age": "7"}'), (2, '{"age": "old"}');
-- Old rows too: the projection is there, incomplete, until they are mended.
call campfire.create_projection('orders', array['id', '(body->>''age'')::int as age']);
select complete from campfire.projections where source = 'orders'::regclass;
insert into orders values (3, '{"age": "?"}');
\echo :LAST_ERROR_SQLSTATE
update orders set body = '{"age": "8"}' where id = 2;
insert into orders values (3, '{"age": "9"}');
update orders set body = '{"age": "x"}' where id = 3;
call campfire.create_projection('orders');
select complete from campfire.projections where source = 'orders'::regclass;
select * from realtime_orders order by id;
insert into orders values (4, '{"age": "1"}') on conflict do nothing;
do $$
begin
  insert into projection_test.orders values (5, '{"age": "?"}');
exception when invalid_text_representation then
  insert into projection_test.orders values (5, '{"age": "5"}');
end $$;
delete from orders where id = 1;
select * from realtime_orders order by id;
set client_min_messages = warning;
drop schema projection_test cascade;
