\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- What is in the way of a day's partition is named by everybody who needs it, with SQL that mends it.
begin;
set client_min_messages = warning;
select campfire.install_supabase_api();
-- Days and names of the moment, as the output must not have them.
create function pg_temp.shown(text text) returns text language plpgsql as $$
begin
  for n in -1 .. 3 loop
    text := replace(replace(text, realtime.partition_name((now() at time zone 'utc')::date + n), 'messages_DAY' || n), to_char((now() at time zone 'utc')::date + n, 'YYYY-MM-DD'), 'DAY' || n);
  end loop;
  return text;
end $$;
create function pg_temp.day(n int) returns date language sql as $$ select (now() at time zone 'utc')::date + n $$;
create function pg_temp.partition(n int) returns text language sql as $$ select 'realtime.' || realtime.partition_name(pg_temp.day(n)) $$;
create function pg_temp.run(statement text) returns void language plpgsql as $$ begin execute statement; end $$;
create function pg_temp.tried(what text, damage text) returns table (after text, problem text, fix text, left_over bigint, sent bigint) language plpgsql as $$
declare
  found record;
begin
  begin
    execute damage;
    for found in select c.problem, c.fix from campfire.check_supabase_api() as c loop
      after := what;
      problem := pg_temp.shown(found.problem);
      fix := pg_temp.shown(found.fix);
      if exists (select from campfire.check_supabase_api() as c where c.fix = found.fix) then
        execute found.fix;
      end if;
      left_over := (select count(*) from campfire.check_supabase_api());
      perform realtime.send('{}', 'e', 'room:7');
      sent := (select count(*) from realtime.messages where event = 'e');
      return next;
    end loop;
    raise exception sqlstate 'UNDO1';
  exception when sqlstate 'UNDO1' then null;
  end;
end $$;
select t.* from (values
  (1, 'detached and kept', format('alter table realtime.messages detach partition %s', pg_temp.partition(0))),
  (2, 'tomorrow detached and kept', format('alter table realtime.messages detach partition %s', pg_temp.partition(1))),
  (3, 'a table of that name', format('drop table %1$s; create table %1$s (id int)', pg_temp.partition(0))),
  (4, 'a view of that name, and one of the new name', format('drop table %1$s; create view %1$s as select 1 as a; create table %1$s_kept ()', pg_temp.partition(0))),
  (5, 'bounds of another day', format('drop table %1$s; create table %1$s partition of realtime.messages for values from (''2020-01-01'') to (''2020-01-02'')', pg_temp.partition(0))),
  (6, 'half a day', format('drop table %s; create table realtime.noon partition of realtime.messages for values from (%L) to (%L)',
    pg_temp.partition(2), pg_temp.day(2) + time '06:00', pg_temp.day(2) + time '12:00')),
  (7, 'a default partition with rows', format('drop table %s; create table realtime.rest partition of realtime.messages default;
    insert into realtime.messages (topic, extension) values (''room:7'', ''broadcast'')', pg_temp.partition(0)))
) as d (n, what, damage), pg_temp.tried(d.what, d.damage) as t order by d.n;
-- A partition that covers the day by another name is nothing to mend; nor is a default one that is empty.
select t.* from (values
  ('a week', format('drop table %s; drop table %s; create table realtime.week partition of realtime.messages for values from (%L) to (%L)',
    pg_temp.partition(2), pg_temp.partition(3), pg_temp.day(2), pg_temp.day(9))),
  ('an empty default', 'create table realtime.rest partition of realtime.messages default')
) as d (what, damage), pg_temp.tried(d.what, d.damage) as t;

-- Said to senders, to the relay that asks the policies, and by maintenance, which goes on with the other days.
select pg_temp.run(format('alter table realtime.messages detach partition %s', pg_temp.partition(0)));
select pg_temp.run(format('drop table %s', pg_temp.partition(3)));
create function pg_temp.heard(statement text) returns table (code text, message text, detail text, hint text) language plpgsql as $$
begin
  execute statement;
exception when others then
  get stacked diagnostics code = returned_sqlstate, message = message_text, detail = pg_exception_detail, hint = pg_exception_hint;
  message := pg_temp.shown(message);
  detail := pg_temp.shown(detail);
  hint := pg_temp.shown(hint);
  return next;
end $$;
set client_min_messages = error; -- WARNINGs name the day
select * from pg_temp.heard('select * from campfire.realtime_probe(''room:7'', ''{broadcast}'')');
select realtime.send('{}', 'e', 'room:7');
select realtime.make_partitions() as made;
select count(*) from realtime.messages;
-- A check constraint of the application is told as it is.
select pg_temp.run(format('alter table realtime.messages attach partition %s for values from (%L) to (%L)', pg_temp.partition(0), pg_temp.day(0), pg_temp.day(1)));
alter table realtime.messages add constraint short check (length(topic) < 3);
select code, message from pg_temp.heard('select * from campfire.realtime_probe(''room:7'', ''{broadcast}'')');
rollback;
