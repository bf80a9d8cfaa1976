\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Tables that are dropped and come back with their triggers, as from a dump of a part: the registration follows them.
begin;
set client_min_messages = warning;
create table orders (id int primary key, state text, customer jsonb);
select campfire.start_projection('orders', array['id', 'state', 'customer ->> ''plan'' as plan']);
alter table orders rename column state to status;
select a.attname, col_description(a.attrelid, a.attnum) from pg_attribute as a
where a.attrelid = 'realtime_orders'::regclass and a.attnum > 0 order by a.attnum;
insert into orders values (1, 'new', '{"plan": "pro"}');
select campfire.backfill_batch('orders', 10), campfire.backfill_batch('orders', 10);
set client_min_messages = notice;

-- A table without its registration, and a mirror that is gone: writes go on, and the check says what to do.
drop table orders;
create table orders (id int primary key, status text, customer jsonb);
insert into orders values (2, 'new', '{"plan": "free"}');
select problem, fix from campfire.check_projections();
-- The trigger comes back last, and with it the projection.
create trigger sync_realtime_orders_trigger after insert or update or delete on orders
for each row execute function campfire.sync_realtime_conversations();
create trigger sync_realtime_orders_truncate_trigger after truncate on orders
for each statement execute function campfire.sync_realtime_conversations();
insert into orders values (3, 'new', '{"plan": "team"}');
select * from realtime_orders order by id;
select problem, fix from campfire.check_projections();
select * from campfire.verify_projection('orders');

-- Both at once, with nothing registered: as they describe themselves.
delete from campfire.projection_registry where source = 'orders'::regclass;
delete from campfire.projection_remains;
update orders set status = 'lost' where id = 3;
update orders set status = 'lost again' where id = 3;
select problem, fix from campfire.check_projections();
select campfire.mend_projection('orders');
update orders set status = 'kept' where id = 3;
select * from realtime_orders where id = 3;
select columns, definitions from campfire.projections where source = 'orders'::regclass;

-- The same without the trigger.
select campfire.publish('campfire', 'realtime_orders');
delete from campfire.projection_registry where source = 'orders'::regclass;
drop trigger sync_realtime_orders_trigger on orders;
select problem, fix from campfire.check_projections();
select campfire.mend_projection('orders');
select columns, definitions from campfire.projections where source = 'orders'::regclass;
-- The mirror of another owner is not taken over by who makes a table of that name.
create role campfire_test_owner;
grant create on schema public to campfire_test_owner;
drop table orders;
set role campfire_test_owner;
create table orders (id int primary key, status text, customer jsonb);
select campfire.mend_projection('orders');
select campfire.drop_projection('orders', unpublish => true);
reset role;
create trigger sync_realtime_orders_trigger after insert or update or delete on orders
for each row execute function campfire.sync_realtime_conversations();
select source from campfire.projections where source = 'orders'::regclass;
select problem, fix from campfire.check_projections();
alter table orders owner to current_user;
select campfire.mend_projection('orders');
-- Without a mirror there is nothing to go on with.
delete from campfire.projection_registry where source = 'orders'::regclass;
drop table realtime_orders;
insert into orders values (4, 'new', '{}');
select problem, fix from campfire.check_projections();
select campfire.mend_projection('orders');
select campfire.start_projection('orders', array['id']);
insert into orders values (5, 'new', '{}');
select * from realtime_orders;
-- Triggers that were lost.
drop trigger sync_realtime_orders_trigger on orders;
alter table orders disable trigger sync_realtime_orders_truncate_trigger;
select problem, fix from campfire.check_projections();
select campfire.mend_projection('orders');
select problem, fix from campfire.check_projections();
rollback;
-- The chat tables: install() registers and publishes them again, and mends their mirror.
begin;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
delete from campfire.projection_registry;
insert into conversations (id, organization_id, customer_name) values ('00000000-0000-4000-8000-00000000000c', '00000000-0000-4000-8000-00000000000a', 'Sam');
select campfire.unpublish('campfire', 'messages');
select problem, fix from campfire.check_publication('campfire') order by 1;
select campfire.install();
select customer_name from realtime_conversations;
select problem from campfire.check_publication('campfire');
delete from campfire.projection_registry;
delete from campfire.installations;
select campfire.install();
select schema_name from campfire.installations;
select problem from campfire.check_publication('campfire');
rollback;
