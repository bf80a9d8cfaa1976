\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A generated column in a replica identity: from Postgres 18 on every UPDATE and DELETE of the table would fail. Before, such
-- columns stay at home. Two expected outputs.
select current_setting('server_version_num')::int >= 180000 as is_18 \gset
begin;
-- Tries a command, then the hint, then the command again; at last the writes of the application.
create function pg_temp.attempt(relation regclass, command text) returns text language plpgsql as $$
declare
  advice text;
  said text := 'passes';
begin
  begin
    execute command;
  exception when others then
    get stacked diagnostics advice = pg_exception_hint;
    said := sqlstate || ' ' || sqlerrm || e'\n' || advice;
  end;
  if advice is not null then
    execute advice;
    execute command;
    said := said || e'\npasses then';
  end if;
  execute format('insert into %1$s (id, a) values (9, 1); update %1$s set a = 2 where id = 9; delete from %1$s where id = 9', relation);
  return said || coalesce((select e'\nproblem: ' || string_agg(c.problem, ', ') from campfire.check_publication('campfire') as c), '');
end
$$;
create table full_identity (id int primary key, a int);
alter table full_identity replica identity full;
select campfire.publish('campfire', 'full_identity');
select pg_temp.attempt('full_identity', 'alter table full_identity add column twice int generated always as (a * 2) stored');
create table by_index (id int primary key, a int, twice int not null generated always as (a * 2) stored unique);
select campfire.publish('campfire', 'by_index');
alter table by_index replica identity using index by_index_twice_key;
\echo :LAST_ERROR_SQLSTATE
alter table by_index replica identity default;
create table late (id int primary key, a int, twice int generated always as (a * 2) stored);
alter table late replica identity full;
select pg_temp.attempt('late', 'select campfire.publish(''campfire'', ''late'')');
create table parts (id int primary key, a int) partition by range (id);
create table parts_1 partition of parts for values from (0) to (100);
alter table parts replica identity full;
alter table parts_1 replica identity full;
select campfire.publish('campfire', 'parts');
select pg_temp.attempt('parts', 'alter table parts add column twice int generated always as (a * 2) stored');

-- The source of a projection is not published; its stored columns are projected. A mirror has none.
set client_min_messages = warning;
create table orders (id int primary key, a int, twice int generated always as (a * 2) stored);
select campfire.start_projection('orders', null);
select campfire.publish('campfire', 'realtime_orders');
insert into orders values (1, 2);
update orders set a = 3;
select * from realtime_orders;
create table by_generated (a int not null, id int generated always as (a + 100) stored primary key);
select campfire.start_projection('by_generated', null);
select campfire.publish('campfire', 'realtime_by_generated');
insert into by_generated values (1);
update by_generated set a = 3;
select * from realtime_by_generated;
delete from by_generated;
select * from realtime_by_generated;
alter table realtime_orders add column thrice int generated always as (twice * 3) stored;
update orders set a = 4;
select * from realtime_orders;
alter table orders add column other int generated always as (a * 5) stored;
update orders set a = 5;
delete from orders;

-- Made while the guard was off, or before the upgrade: the check names it.
alter event trigger campfire_guard disable;
alter table full_identity replica identity full;
create table sneaked (id int primary key, a int, twice int generated always as (a * 2) stored);
alter table sneaked replica identity full;
alter publication campfire add table sneaked;
alter event trigger campfire_guard enable;
select problem, fix from campfire.check_publication('campfire') where relation = 'sneaked'::regclass;
do $$
declare
  mend text;
begin
  for mend in select c.fix from campfire.check_publication('campfire') as c where c.relation = 'sneaked'::regclass loop
    execute mend;
  end loop;
end
$$;
insert into sneaked values (1, 1);
update sneaked set a = 2;
delete from sneaked;
select problem, fix from campfire.check_publication('campfire') where relation = 'sneaked'::regclass;
rollback;
\if :is_18
begin;
set client_min_messages = warning;
create table full_identity (id int primary key, a int);
alter table full_identity replica identity full;
select campfire.publish('campfire', 'full_identity');
alter table full_identity add column twice int generated always as (a * 2);
\echo :LAST_ERROR_SQLSTATE
-- With a list they are nobody's concern.
create table listed (id int primary key, a int, twice int generated always as (a * 2));
select campfire.publish('campfire', 'listed');
alter table listed add column thrice int generated always as (a * 3);
insert into listed values (1, 1);
update listed set a = 2;
delete from listed;
-- Beside a projection too; projected they cannot be, nor an expression over one.
create table orders (id int primary key, a int, twice int generated always as (a * 2));
select campfire.start_projection('orders', array['id', 'twice']);
select campfire.start_projection('orders', array['id', 'twice + 1 as more']);
\echo :LAST_ERROR_SQLSTATE
select campfire.start_projection('orders', null);
insert into orders values (1, 2);
update orders set a = 3;
alter table orders add column thrice int generated always as (a * 3);
update orders set a = 4;
select * from realtime_orders;
select * from campfire.verify_projection('orders');
alter table realtime_orders add column thrice int generated always as (a * 3);
delete from orders;
rollback;
-- A publication may carry stored ones: scalars, and of no help to virtual ones.
begin;
set client_min_messages = warning;
alter publication campfire set (publish_generated_columns = stored);
create table full_identity (id int primary key, a int, twice int generated always as (a * 2) stored);
alter table full_identity replica identity full;
select campfire.publish('campfire', 'full_identity');
insert into full_identity values (1, 1);
update full_identity set a = 2;
delete from full_identity;
select problem from campfire.check_publication('campfire');
alter table full_identity add column thrice int generated always as (a * 3);
alter table full_identity add column complex int[] generated always as (array[a]) stored;
\echo :LAST_ERROR_SQLSTATE
select problem from campfire.check_publication('campfire');
rollback;
\endif
