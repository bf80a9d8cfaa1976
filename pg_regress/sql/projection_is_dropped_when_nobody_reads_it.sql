\set SHOW_CONTEXT never
create schema projection_test;
create table projection_test.orders (id int primary key, shop uuid);
insert into projection_test.orders values (1, '00000000-0000-4000-8000-00000000000a');
call campfire.create_projection('projection_test.orders');
-- Three calls make a table live.
select campfire.publish('campfire', 'projection_test.realtime_orders');
select campfire.add_route('projection_test.realtime_orders', 'INSERT', 'shop:{shop}', 'order:created') > 0 as added;
insert into projection_test.orders values (2, '00000000-0000-4000-8000-00000000000a');
update projection_test.orders set shop = null where id = 2;
delete from projection_test.orders where id = 2;
\set VERBOSITY terse
select campfire.drop_projection('projection_test.orders');
\set VERBOSITY default
select campfire.drop_projection('projection_test.orders', unpublish => true);
select count(*) from pg_publication_tables where tablename = 'realtime_orders';
select count(*) from campfire.user_routes;
select campfire.drop_projection('conversations', unpublish => true);
select campfire.drop_projection('projection_test.orders');
drop table projection_test.orders;
drop schema projection_test;
drop table campfire.private_channels; -- which the first private route made
