\set SHOW_CONTEXT never
create schema projection_test;
set search_path = projection_test;
create table events (day date, id int, body text, note text, primary key (day, id)) partition by range (day);
create table first partition of events for values from ('2026-01-01') to ('2026-02-01');
-- A partition whose columns are numbered otherwise, and one that is partitioned again.
create table second (gone text, note text, id int not null, body text, day date not null);
alter table second drop column gone;
alter table events attach partition second for values from ('2026-02-01') to ('2026-03-01');
create table third partition of events for values from ('2026-03-01') to ('2026-04-01') partition by list (id);
create table third_one partition of third for values in (1, 2, 3);
insert into events select date '2026-01-31' + n, n, 'old ' || n, 'note' from generate_series(0, 1) as n;
call campfire.create_projection('events', array['day', 'id', 'body', 'upper(note) as note'], batch_rows => 1);
select * from realtime_events order by day, id;
-- By the table and by the partition.
insert into events values ('2026-01-02', 2, 'table', 'n');
insert into second (day, id, body) values ('2026-02-03', 2, 'partition');
insert into third_one values ('2026-03-02', 3, 'below');
update second set note = 'changed' where id = 2;
-- From one partition to another.
update events set day = day + 31 where id = 2 and day < '2026-02-01';
select * from realtime_events order by day, id;
select * from campfire.verify_projection('events');
-- TRUNCATE of a partition, of a partitioned partition, of one that came later.
create table fourth partition of events for values from ('2026-04-01') to ('2026-05-01');
insert into events values ('2026-04-01', 4, 'fourth');
truncate fourth;
select * from realtime_events order by day, id;
truncate third;
select count(*) from realtime_events;
truncate second;
select * from realtime_events order by day, id;
select * from campfire.verify_projection('events');
-- What a table brings along when it is attached, or takes along, is found and mended.
create table fifth (day date not null, id int not null, body text, note text);
insert into fifth values ('2026-05-05', 5, 'brought', null);
alter table events attach partition fifth for values from ('2026-05-01') to ('2026-06-01');
select * from campfire.verify_projection('events');
call campfire.repair_projection('events');
insert into fifth values ('2026-05-06', 6, 'after', null);
alter table events detach partition fifth;
insert into fifth values ('2026-05-07', 7, 'on its own', null);
truncate fifth;
select tgname from pg_trigger where tgrelid = 'fifth'::regclass;
select * from campfire.verify_projection('events');
call campfire.repair_projection('events');
select * from campfire.verify_projection('events');
select day, id from realtime_events order by day, id;
truncate events;
select count(*) from realtime_events;
select campfire.drop_projection('events');
insert into first values ('2026-01-02', 2);
truncate first;
select count(*) as triggers from pg_trigger where tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure
  and tgrelid in (select relid from pg_partition_tree('events'));
set client_min_messages = warning;
drop schema projection_test cascade;
