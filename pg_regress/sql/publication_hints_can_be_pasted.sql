\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Each refusal's hint is run as it is; then the refused step passes, or the hint was the corrected step.
begin;
set client_min_messages = warning;
create function pg_temp.mend(step text, out refused text, out hint text, out verdict text) language plpgsql as $$
begin
  execute step;
  verdict := 'was not refused';
exception when others then
  refused := sqlstate || ' ' || sqlerrm;
  get stacked diagnostics hint = pg_exception_hint;
  execute hint;
  if hint like 'select campfire.publish(%' then
    verdict := 'published by the hint';
  else
    execute step;
    verdict := 'passes after the hint';
  end if;
end $$;
create type kind as enum ('a');
create table full_with_key (id int primary key, detail jsonb);
alter table full_with_key replica identity full;
create table full_with_index (id int not null unique, other text not null unique, detail jsonb);
alter table full_with_index replica identity full;
create table full_without (detail jsonb);
alter table full_without replica identity full;
create table full_all (id int, name text);
alter table full_all replica identity full;
create table keyless (name text);
create table keyless_complex (detail jsonb);
create table keyed_by_enum (kind kind primary key, name text);
create table "Odd ""Name""" ("Key " int primary key, "Data" jsonb, "Text" text);
create unlogged table fleeting (id int primary key);
select relation, m.* from (values
  ('full_with_key', null), ('full_with_index', null), ('full_without', null), ('full_all', '{id}'), ('keyless', null),
  ('keyless_complex', null), ('keyed_by_enum', null), ('fleeting', null), ('full_with_key', '{id,detail}'),
  ('"Odd ""Name"""', '{"Data","Text"}')
) as v (relation, columns), pg_temp.mend(format('select campfire.publish(%L, %L, %L)', 'campfire', relation, columns)) as m;
select tablename, attnames from pg_publication_tables
where pubname = 'campfire' and tablename not in ('conversations', 'messages', 'realtime_conversations') order by 1;
select * from campfire.check_publication('campfire');
rollback;
