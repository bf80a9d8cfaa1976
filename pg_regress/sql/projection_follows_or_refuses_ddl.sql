\set SHOW_CONTEXT never
-- The error comes to whoever alters the table, never to whoever writes to it; the hint lets the command pass.
create schema projection_test;
set search_path = projection_test;
create type state as enum ('new');
create schema projection_functions;
create function projection_functions.shout(text) returns text language sql immutable return upper($1);
create table orders (id int primary key, name varchar(10), total int, state state not null, customer jsonb);
insert into orders values (1, 'one', 1, 'new', '{"plan": "a"}');
call campfire.create_projection('orders', array['id', 'name', 'total', 'state', 'customer->>''plan'' as plan', 'projection_functions.shout(name) as loud']);
-- Harmless.
alter table orders add column later text default 'x';
alter table orders add column more jsonb;
alter table orders alter column name type varchar(200);
alter table orders alter column state drop not null;
alter type state add value 'paid';
alter table orders drop column more;
alter table orders rename column total to "Sum Total";
alter table realtime_orders rename column total to amount;
alter table realtime_orders add column own text;
insert into orders values (2, repeat('n', 20), 2, null, null, 'y');
update realtime_orders set own = 'kept' where id = 2;
update orders set "Sum Total" = 3, state = 'paid' where id = 2;
select * from realtime_orders order by id;
alter table orders rename to purchases;
alter schema projection_test rename to projection_moved;
set search_path = projection_moved;
update purchases set name = 'moved' where id = 1;
create schema projection_other;
alter table purchases set schema projection_other;
update projection_other.purchases set "Sum Total" = 11 where id = 1;
select id, name, amount, loud from realtime_orders where id = 1;
alter table projection_other.purchases set schema projection_moved;
-- Refused, and by the hint passed.
alter table purchases rename column customer to client;
alter table purchases drop column "Sum Total";
alter table purchases drop constraint orders_pkey;
alter table realtime_orders drop constraint realtime_orders_pkey;
alter table realtime_orders drop column amount;
alter table realtime_orders alter column amount set not null;
update purchases set "Sum Total" = 4 where id = 2;
update purchases set customer = '{"plan": "b"}' where id = 2;
alter table realtime_orders alter column plan set not null;
alter table purchases alter column "Sum Total" type bigint;
alter table realtime_orders alter column amount type bigint using amount::bigint;
alter table purchases alter column "Sum Total" type bigint;
alter table purchases alter column "Sum Total" type int[] using array["Sum Total"];
drop function projection_functions.shout(text);
alter schema projection_functions rename to projection_renamed;
alter function projection_functions.shout(text) rename to cry;
alter function projection_functions.shout(text) volatile;
drop table realtime_orders;
update purchases set "Sum Total" = 5000000000 where id = 1;
select id, amount, loud from realtime_orders order by id;
select * from campfire.verify_projection('purchases');
-- A function with another body: sessions forget the old one, and old rows are found.
create or replace function projection_functions.shout(text) returns text language sql immutable return lower($1);
update purchases set name = 'LOUD' where id = 1;
select loud from realtime_orders where id = 1;
select key, kind from campfire.verify_projection('purchases');
call campfire.repair_projection('purchases');
-- A table that is dropped takes its registration along.
drop table purchases;
select count(*) from campfire.projection_registry where mirror = 'realtime_orders'::regclass;
set client_min_messages = warning;
drop schema projection_moved, projection_other, projection_functions cascade;
