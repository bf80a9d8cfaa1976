\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Each refusal's hint is run as it is; then the refused step passes, or the hint was the corrected step, which is seen
-- by check_publication having nothing to say and the table being published (or being a step that nothing can allow).
begin;
set client_min_messages = warning;
create function pg_temp.mend(step text, out refused text, out hint text, out verdict text) language plpgsql as $$
begin
  execute step;
  verdict := 'WAS NOT REFUSED';
exception when others then
  refused := sqlstate || ' ' || sqlerrm;
  get stacked diagnostics hint = pg_exception_hint;
  execute hint;
  begin
    execute step;
    verdict := 'passes after the hint';
  exception when others then
    verdict := case when sqlstate = '42710' and sqlerrm like '%already%' then 'done by the hint' else 'stays refused: ' || sqlstate end;
  end;
  verdict := verdict || coalesce((select e'\n' || string_agg(c.problem, e'\n') from campfire.check_publication('campfire') as c), '');
end $$;
create function pg_temp.try(setup text, step text, out refused text, out hint text, out verdict text) language plpgsql as $$
begin
  begin
    if setup <> '' then execute setup; end if;
    select m.* into refused, hint, verdict from pg_temp.mend(step) as m;
    raise exception using errcode = 'ZZ000';
  exception when sqlstate 'ZZ000' then null;
  end;
end $$;
create type kind as enum ('a');
create table keyed (id int primary key, name text, hidden text, detail jsonb);
create table keyless (name text);
create table two (id int not null unique, other text not null unique, detail jsonb, name text);
create table plain (id int primary key, name text);
create table complex (id int primary key, kind kind not null unique);
create table parted (id int, day date, detail jsonb, primary key (id, day)) partition by range (day);
create table part (id int not null, day date not null, detail jsonb);
create table "Odd ""Name""" ("Key " int primary key, "Data" jsonb, "Text" text);
select n, t.* from (values
  (1, '', 'alter publication campfire add table keyed'),
  (2, '', 'alter publication campfire add table keyed (id, detail)'),
  (3, '', 'alter publication campfire add table keyed (name)'),
  (4, '', 'alter publication campfire add table keyless'),
  (5, '', 'alter publication campfire add table "Odd ""Name"""'),
  (6, 'alter table plain replica identity full', 'alter publication campfire add table plain (id)'),
  (7, 'alter table keyed replica identity full', 'alter publication campfire add table keyed'),
  (9, 'drop publication campfire; select campfire.create_publication(''campfire'', ''{}''); create schema other; create table other.t (id int primary key, detail jsonb)', 'alter publication campfire add tables in schema other'),
  (10, 'drop publication campfire', 'create publication campfire for all tables'),
  (11, 'drop publication campfire', 'create publication campfire for table keyed, messages'),
  (12, $$select campfire.publish('campfire', 'keyed', '{id,name}')$$, 'alter table keyed alter column name type jsonb using to_jsonb(name)'),
  (14, $$alter table plain replica identity full; select campfire.publish('campfire', 'plain')$$, 'alter table plain add column detail jsonb'),
  (15, $$alter table plain replica identity full; select campfire.publish('campfire', 'plain')$$, 'alter table plain alter column name type jsonb using to_jsonb(name)'),
  (16, $$select campfire.publish('campfire', 'keyed', '{id,name}')$$, 'alter table keyed replica identity nothing'),
  (17, $$select campfire.publish('campfire', 'keyed', '{id,name}')$$, 'alter table keyed replica identity full'),
  (18, $$select campfire.publish('campfire', 'plain')$$, 'alter table plain replica identity full'),
  (19, $$alter table two replica identity using index two_id_key; select campfire.publish('campfire', 'two', '{id,name}')$$, 'alter table two replica identity using index two_other_key'),
  (20, $$alter table two replica identity using index two_id_key; select campfire.publish('campfire', 'two', '{id,name}')$$, 'alter table two drop constraint two_id_key'),
  (21, $$select campfire.publish('campfire', 'complex')$$, 'alter table complex replica identity using index complex_kind_key'),
  (22, $$create unique index two_name on keyed (id); alter table keyed replica identity using index two_name; select campfire.publish('campfire', 'keyed', '{id,name}')$$, 'drop index two_name'),
  (23, $$select campfire.publish('campfire', 'keyed', '{id,name}')$$, 'alter table keyed drop constraint keyed_pkey'),
  (24, $$select campfire.publish('campfire', 'keyed', '{id,name}')$$, 'alter table keyed drop column name cascade'),
  (25, $$select campfire.publish('campfire', 'keyed', '{id,name}')$$, 'alter table keyed drop column id cascade'),
  (26, $$select campfire.publish('campfire', 'parted')$$, 'alter table part replica identity full; alter table parted attach partition part for values from (''2026-01-01'') to (''2027-01-01'')'),
  (27, $$select campfire.publish('campfire', 'parted')$$, 'alter table part replica identity nothing; alter table parted attach partition part for values from (''2026-01-01'') to (''2027-01-01'')'),
  (28, $$create domain word as text; alter table keyed alter column name type word; select campfire.publish('campfire', 'keyed', '{id,name}')$$, 'drop domain word cascade'),
  (29, '', 'drop index messages_replica_identity'),
  (30, '', 'alter table realtime_conversations add column detail jsonb'),
  (32, '', 'alter table realtime_conversations replica identity nothing'),
  (34, '', 'alter table messages replica identity full'),
  (35, 'create table base (id int primary key); create table kid (primary key (id)) inherits (base); alter table kid replica identity full; alter publication campfire add table kid', 'alter table base add column detail jsonb'),
  (36, '', 'alter table realtime_conversations replica identity default'),
  (37, '', 'alter table messages replica identity default'),
  (38, '', $$alter publication campfire add table keyed (id, name) where (name = 'x')$$),
  (39, $$alter table plain replica identity full; alter publication campfire add table plain where (name = 'x')$$, 'alter table plain replica identity default'),
  (40, $$alter table plain replica identity full; alter publication campfire add table plain where (name = 'x')$$, 'alter table plain drop column name cascade'),
  (41, $$alter publication campfire add table keyed (id, name) where (id > 5)$$, 'alter table keyed drop column name cascade')
) as v (n, setup, step), pg_temp.try(setup, step) as t order by n;
rollback;
