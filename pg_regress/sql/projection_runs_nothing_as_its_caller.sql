\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- What an owner's code leaves behind for the end of the transaction would run as whoever called. A superuser verifies,
-- repairs, fills, drops a partition: nothing of it runs as the superuser.
begin;
create role campfire_test_owner nologin;
create schema theirs authorization campfire_test_owner;
create table theirs.evidence (who name);
grant insert on theirs.evidence to public;
set role campfire_test_owner;
create table theirs.trap (id int);
create function theirs.spring() returns trigger language plpgsql as
$$ begin insert into theirs.evidence values (current_user); return null; end $$;
create constraint trigger spring after insert on theirs.trap deferrable initially deferred
for each row execute function theirs.spring();
create function theirs.lay() returns int language plpgsql as $$ begin insert into theirs.trap values (1); return 1; end $$;
-- Immutable by its word alone. Harmless until it is armed.
create table theirs.armed (yes boolean);
create function theirs.value(n int) returns int language plpgsql immutable as
$$ begin return case when exists (select from theirs.armed) then theirs.lay() else 0 end; end $$;
create table theirs.orders (id int primary key, n int);
create table theirs.days (id int primary key, n int) partition by range (id);
create table theirs.days_1 partition of theirs.days for values from (0) to (10);
select campfire.start_projection('theirs.orders', array['id', 'theirs.value(n) as value']);
select campfire.start_projection('theirs.days', array['id', 'theirs.value(n) as value']);
insert into theirs.orders values (1, 1), (2, 2);
insert into theirs.days values (1, 1);
call campfire.alter_projection('theirs.days', dropped_partitions => 'delete');
insert into theirs.armed values (true);
reset role;

select * from campfire.verify_projection('theirs.orders');
\echo :LAST_ERROR_SQLSTATE
select campfire.repair_keys('theirs.orders', '[{"id": 1}]');
\echo :LAST_ERROR_SQLSTATE
select campfire.backfill_batch('theirs.orders', 10);
\echo :LAST_ERROR_SQLSTATE
select * from campfire.query_as_owner('theirs.orders', 'select to_jsonb(theirs.lay())');
\echo :LAST_ERROR_SQLSTATE
select * from campfire.query_as_owner('theirs.orders', 'declare c cursor with hold for select theirs.lay()');
\echo :LAST_ERROR_SQLSTATE
select campfire.start_projection('theirs.trap', array['theirs.lay() as n']);
insert into theirs.orders values (3, 3);
\echo :LAST_ERROR_SQLSTATE
update theirs.orders set n = 4 where id = 1;
\echo :LAST_ERROR_SQLSTATE
delete from theirs.orders where id = 2;
alter table theirs.orders add column more int;
drop table theirs.days_1;
set constraints all immediate;
select * from theirs.evidence;

-- The same, through a deferred trigger on the mirror: a writer's statement may queue it, for the writer, as it may any trigger of
-- the source; what runs on behalf of another role may not.
delete from theirs.armed;
set role campfire_test_owner;
create constraint trigger spring after insert or update or delete on theirs.realtime_orders deferrable initially deferred
for each row execute function theirs.spring();
alter table theirs.orders disable trigger user;
update theirs.orders set id = id + 10;
alter table theirs.orders enable trigger user;
reset role;
set constraints all deferred;
select campfire.repair_keys('theirs.orders', '[{"id": 11}, {"id": 1}]');
\echo :LAST_ERROR_SQLSTATE
set constraints all immediate;
select * from theirs.evidence;
set role campfire_test_owner;
select campfire.repair_keys('theirs.orders', '[{"id": 11}, {"id": 1}]');
set constraints all immediate;
reset role;
select distinct who from theirs.evidence;
rollback;
