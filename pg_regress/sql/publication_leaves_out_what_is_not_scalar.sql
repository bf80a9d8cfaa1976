\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Without columns: what may be published, always as a list, so that a complex column added later harms nobody.
begin;
create table orders (id int primary key, total numeric, detail jsonb, tags text[]);
select campfire.publish('campfire', 'orders');
select campfire.column_list('campfire', 'orders');
alter table orders add column more jsonb;
select * from campfire.check_publication('campfire');
insert into orders (id) values (1);
update orders set total = 2;
delete from orders;
-- Again: nothing to do. With other columns: the list changes, a row filter stays.
select campfire.publish('campfire', 'orders', '{total,id}');
alter publication campfire drop table orders;
alter publication campfire add table orders (id, total) where (id > 0);
select campfire.publish('campfire', 'orders', '{id}');
select attnames, rowfilter from pg_publication_tables where tablename = 'orders';
select campfire.unpublish('campfire', 'orders');
select campfire.unpublish('campfire', 'orders');
select column_name, type_name, publishable, reason from campfire.publishable_columns('orders');
rollback;
