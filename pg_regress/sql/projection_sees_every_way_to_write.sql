\set SHOW_CONTEXT never
create schema projection_test;
set search_path = projection_test;
create table orders (id int primary key, name text, total int, doubled int generated always as (total * 2) stored, body jsonb);
call campfire.create_projection('orders');
create function compare() returns table (key jsonb, kind text) language sql as $$ select * from campfire.verify_projection('projection_test.orders') $$;
insert into orders (id, name, total) values (1, 'insert', 1), (2, 'insert', 2), (3, 'insert', 3);
insert into orders (id, name, total) values (2, 'conflict', 20), (4, 'conflict', 4)
on conflict (id) do update set name = excluded.name, total = excluded.total;
insert into orders (id, name) values (3, 'ignored') on conflict do nothing;
merge into orders as o using (values (1, 'merged'), (3, 'gone'), (5, 'merged')) as v (id, name) on o.id = v.id
when matched and v.name = 'gone' then delete
when matched then update set name = v.name
when not matched then insert (id, name) values (v.id, v.name);
copy orders (id, name, total) from stdin;
6	copy	6
7	copy	7
\.
with moved as (delete from orders where id = 6 returning *) insert into orders (id, name, total) select id + 10, 'moved', total from moved;
-- Each row takes the key that another one leaves.
update orders set id = id - 1 where id in (1, 2);
select * from realtime_orders order by id;
select * from compare();
-- A row written several times in one transaction, and work that is taken back.
begin;
update orders set total = 100 where id = 4;
update orders set total = 101 where id = 4;
delete from orders where id = 4;
insert into orders (id, name, total) values (4, 'again', 102);
update orders set id = 40 where id = 4;
savepoint one;
update orders set total = -1;
truncate orders;
rollback to one;
commit;
do $$
begin
  insert into projection_test.orders (id, name) values (50, 'kept');
  begin
    insert into projection_test.orders (id, name) values (51, 'lost');
    raise exception 'stop';
  exception when raise_exception then null;
  end;
  update projection_test.orders set name = 'kept twice' where id = 50;
end $$;
select * from realtime_orders where id >= 4 order by id;
select * from compare();
-- In every isolation level.
begin isolation level serializable;
update orders set total = 7 where id = 0;
commit;
begin isolation level repeatable read;
delete from orders where id = 0;
commit;
select * from compare();
-- A replica's session writes past the trigger.
set session_replication_role = replica;
insert into orders (id, name) values (60, 'replica');
reset session_replication_role;
select * from compare();
call campfire.repair_projection('orders');
truncate orders;
select count(*) from realtime_orders;
set client_min_messages = warning;
drop schema projection_test cascade;
