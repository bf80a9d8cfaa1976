\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- One partition a day, from yesterday to three days ahead; what is older than the retention goes.
begin;
set local timezone = 'Pacific/Kiritimati';
set local datestyle = 'ISO';
select campfire.install_supabase_api();
create view days as
select to_date(c.relname, '"messages_"YYYY_MM_DD') - (now() at time zone 'utc')::date as day, c.relrowsecurity,
  coalesce(array_length(c.relacl, 1), 0) as grantees, pg_get_expr(c.relpartbound, c.oid) ~ to_char(to_date(c.relname, '"messages_"YYYY_MM_DD'), 'YYYY-MM-DD') as named_by_its_day
from pg_inherits as i join pg_class as c on c.oid = i.inhrelid where i.inhparent = 'realtime.messages'::regclass and c.relname <> 'messages_kept' order by 1;
select * from days;
select realtime.make_partitions();

-- send() makes today's if nobody did.
do $$ begin execute format('drop table realtime.%I', realtime.partition_name((now() at time zone 'utc')::date)); end $$;
select realtime.send('{}', 'e', 'room:7');
select count(*) from realtime.messages;
do $$ begin execute format('drop table realtime.%I', realtime.partition_name((now() at time zone 'utc')::date)); end $$;
select count(*) from campfire.realtime_probe('room:7', '{broadcast}');

-- As it would be in a while.
create function pretend(day int) returns void language plpgsql as $$
declare
  d date := (now() at time zone 'utc')::date + day;
begin
  execute format('create table realtime.%I partition of realtime.messages for values from (%L) to (%L)', realtime.partition_name(d), d, d + 1);
end $$;
select pretend(-2), pretend(-3), pretend(-4), pretend(-40);
create table realtime.messages_kept partition of realtime.messages for values from ('2020-01-01') to ('2020-01-02');
select campfire.maintain_supabase_api();
select day from days;
select to_regclass('realtime.messages_kept');
show lock_timeout;
update campfire.settings set value = '1' where name = 'realtime_retention_hours';
select realtime.maintain();
select day from days;
update campfire.settings set value = 'a day' where name = 'realtime_retention_hours';
\echo :LAST_ERROR_SQLSTATE
rollback;
