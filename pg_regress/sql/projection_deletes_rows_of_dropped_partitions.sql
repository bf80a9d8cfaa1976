\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
set client_min_messages = warning;
create table days (id int, region text, primary key (id, region)) partition by range (id);
create table days_1 partition of days for values from (0) to (10);
create table days_2 partition of days for values from (10) to (20) partition by list (region);
create table days_2a partition of days_2 for values in ('a');
create table days_2b partition of days_2 for values in ('b');
create table days_3 partition of days for values from (20) to (30);
create table days_4 partition of days for values from (30) to (40);
create table beside (id int primary key);
select campfire.start_projection('days', null), campfire.start_projection('beside', null);
insert into days values (1, 'a'), (11, 'a'), (12, 'b'), (21, 'a'), (31, 'a');
insert into beside values (1);
-- They stay at first.
drop table days_1;
select array_agg(id order by id) from realtime_days;
call campfire.alter_projection('days', dropped_partitions => 'never');
\echo :LAST_ERROR_SQLSTATE
call campfire.alter_projection('orders', dropped_partitions => 'delete');
call campfire.alter_projection('days', dropped_partitions => 'delete');
select source, dropped_partitions from campfire.projections where source in ('days'::regclass, 'beside'::regclass) order by 1;
drop table days_2b;
select array_agg(id order by id) from realtime_days;
alter table days detach partition days_3;
select array_agg(id order by id) from realtime_days;
drop table days_3;
drop table days_2;
select array_agg(id order by id) from realtime_days;
drop table beside;
alter table days rename to weeks;
create table weeks_5 partition of weeks for values from (40) to (50);
insert into weeks values (41, 'a');
drop table weeks_5;
select array_agg(id order by id) from realtime_days;
select * from campfire.verify_projection('weeks');
rollback;
