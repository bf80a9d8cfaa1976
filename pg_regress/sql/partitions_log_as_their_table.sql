\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Rows of a partitioned table are logged by the replica identity of the partition; it is kept that of the table.
begin;
create table events (id int, day date, shop uuid, body text) partition by range (day);
create table first partition of events (primary key (id, day)) for values from ('2026-01-01') to ('2026-02-01');
create table second partition of events for values from ('2026-02-01') to ('2026-03-01') partition by list (id);
create table second_one partition of second for values in (1, 2);
create function pg_temp.identities() returns table (partition regclass, identity "char", logged name[]) language sql as $$
  select c.oid::regclass, c.relreplident, campfire.replica_identity_columns(c.oid)
  from pg_partition_tree('events') as p join pg_class as c on c.oid = p.relid where p.isleaf order by c.relname collate "C"
$$;
alter table events replica identity full;
select campfire.publish('campfire', 'events');
select * from pg_temp.identities();
select campfire.add_route('events', 'DELETE', 'shop:{shop}', 'event:deleted') > 0 as added;
select campfire.logged_columns('events');
-- Made or attached later; one that has no key of its own.
create table third partition of events (primary key (id, day)) for values from ('2026-03-01') to ('2026-04-01');
create table fourth (like events);
alter table events attach partition fourth for values from ('2026-04-01') to ('2026-05-01');
create table second_two partition of second for values in (3);
select * from pg_temp.identities();
-- Not undone by hand.
alter table third replica identity default;
\echo :LAST_ERROR_SQLSTATE
alter table third replica identity nothing;
\echo :LAST_ERROR_SQLSTATE
-- What was done while the guard was off is named, and keeps add_route() from it.
alter event trigger campfire_guard disable;
alter table third replica identity default;
alter event trigger campfire_guard enable;
select relation, column_name, regexp_replace(problem, 'route [0-9]+', 'route ID') as problem, fix from campfire.check_publication();
select campfire.add_route('events', 'DELETE', 'shop:{shop}', 'event:gone');
\echo :LAST_ERROR_SQLSTATE
select campfire.align_partitions('events');
select * from campfire.check_publication();
rollback;

begin;
create table events (id int not null, day date not null, shop uuid not null, primary key (id, day)) partition by range (day);
create table first partition of events for values from ('2026-01-01') to ('2026-02-01');
create unique index by_shop on events (shop, day);
alter table events replica identity using index by_shop;
select campfire.publish('campfire', 'events');
select campfire.add_route('events', 'DELETE', 'shop:{shop}', 'event:deleted', '{day}') > 0 as added;
create table second partition of events for values from ('2026-02-01') to ('2026-03-01');
create table third (like events including all);
alter table events attach partition third for values from ('2026-03-01') to ('2026-04-01');
select c.relname, c.relreplident, campfire.replica_identity_columns(c.oid) from pg_class as c where c.relname in ('first', 'second', 'third') order by 1;
select * from campfire.check_publication();
-- By hand into the publication.
create table bare (id int not null, day date) partition by range (day);
create table bare_one partition of bare default;
alter table bare replica identity full;
alter publication campfire add table bare;
select relreplident from pg_class where relname = 'bare_one';
rollback;
