\set SHOW_CONTEXT never
-- Divergence by triggers that were off, by replica sessions and by edits of the mirror: found, and mended row by row.
create schema projection_test;
set search_path = projection_test;
create type projection_test.level as enum ('low', 'high');
create table orders (shop int, id int, level level, total numeric, customer jsonb, primary key (shop, id));
insert into orders select n % 2, n, 'low', n, jsonb_build_object('plan', n) from generate_series(1, 8) as n;
call campfire.create_projection('orders', array['shop', 'id', 'level', 'total', 'customer->>''plan'' as plan']);
create temporary table before as select shop, id, ctid as place from realtime_orders;
select * from campfire.verify_projection('orders');
alter table orders disable trigger user;
insert into orders values (1, 101, 'high', 1, null);
update orders set total = 22 where id = 2;
alter table orders enable trigger user;
set session_replication_role = replica;
update orders set customer = '{"plan": "gold"}' where id = 3;
delete from orders where id = 4;
reset session_replication_role;
update realtime_orders set level = 'odd' where id = 5;
update realtime_orders set total = 6.00 where id = 6;
insert into realtime_orders values (7, 7, 'stray', 7, null);
delete from realtime_orders where id = 8;
select * from campfire.verify_projection('orders');
call campfire.repair_projection('orders', batch_rows => 3);
select * from campfire.verify_projection('orders');
select m.* from realtime_orders as m order by shop, id;
-- Nothing else was written.
select count(*) as untouched from realtime_orders as m join before as b using (shop, id) where m.ctid = b.place;
call campfire.repair_projection('orders');
-- A label that is renamed changes no row, so no trigger fires.
alter type projection_test.level rename value 'low' to 'lowest';
select count(*), min(kind) from campfire.verify_projection('orders');
call campfire.repair_projection('orders');
-- A key alone, of a type that the mirror has as text.
create table levels (level level primary key);
insert into levels values ('lowest');
call campfire.create_projection('levels');
insert into levels values ('high');
update levels set level = level;
delete from realtime_levels where level = 'high';
insert into realtime_levels values ('stray');
select * from campfire.verify_projection('levels');
call campfire.repair_projection('levels');
select * from realtime_levels order by level;
set client_min_messages = warning;
drop schema projection_test cascade;
