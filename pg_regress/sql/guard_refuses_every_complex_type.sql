\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Types by the ways a column can get into a publication. A row a type: what every way says, and whether the hint made
-- the step pass; ways that say the same are one line.
begin;
set jit = off;
set client_min_messages = warning;
create extension hstore;
create extension citext;
create extension ltree;
create extension cube;
create domain over_jsonb as jsonb;
create domain over_text as text;
create domain over_domain as over_jsonb;
create domain over_scalar_domain as over_text;
create domain over_citext as citext;
create domain over_array as int[];
create type mood as enum ('good', 'bad');
create domain over_enum as mood;
create type pair as (a int, b text);
create type span as range (subtype = int8);
create table types (n serial, type text, scalar boolean);
insert into types (type, scalar) select t, true from unnest('{uuid,text,varchar,varchar(20),char(3),name,citext,boolean,int2,int4,int8,float4,float8,numeric,"numeric(10,2)",date,time,timetz,timestamp,timestamptz,timestamptz(3),over_text,over_scalar_domain,over_citext}'::text[]) as t;
insert into types (type, scalar) select t, false from unnest('{json,jsonb,jsonpath,int[],text[],uuid[],jsonb[],over_text[],over_jsonb,over_domain,over_array,over_enum,mood,mood[],pair,pair[],span,int4range,int8range,numrange,tsrange,tstzrange,daterange,int4multirange,int8multirange,nummultirange,tsmultirange,tstzmultirange,datemultirange,bytea,xml,interval,money,bit,bit(8),varbit,inet,cidr,macaddr,macaddr8,point,line,lseg,box,path,polygon,circle,tsvector,tsquery,pg_lsn,txid_snapshot,pg_snapshot,xid,xid8,cid,tid,oid,regclass,regproc,regprocedure,regtype,regrole,regnamespace,regconfig,regoper,regcollation,refcursor,int2vector,oidvector,\"char\",aclitem,hstore,ltree,lquery,ltree[],cube,citext[]}'::text[]) as t;
select count(*) as types from types;
select type from types where scalar <> campfire.is_scalar(type::regtype);

create function pg_temp.try(path text, setup text, step text, out outcome text) language plpgsql as $$
declare
  hint text;
begin
  begin
    execute setup;
    begin
      execute step;
      outcome := 'passes';
    exception when others then
      outcome := sqlstate || ' ' || sqlerrm;
      get stacked diagnostics hint = pg_exception_hint;
      begin
        execute hint;
        begin
          execute step;
          outcome := outcome || ' / passes after the hint';
        exception when others then
          outcome := outcome || case when exists (select from pg_publication_tables where pubname = 'campfire' and tablename = 'probe')
            and not exists (select from campfire.publication_verdict('campfire')) then ' / done by the hint' else ' / HINT FAILS: ' || sqlerrm end;
        end;
      exception when others then
        outcome := outcome || ' / HINT FAILS: ' || sqlerrm || ' ' || hint;
      end;
    end;
    raise exception using errcode = 'ZZ000';
  exception when sqlstate 'ZZ000' then null;
  end;
end $$;
-- Postgres itself refuses to alter the type of a listed column, scalar or not: that way is closed.
create table ways (path text, setup text, step text);
insert into ways values
  ('publish', 'create table probe (id int primary key, c %1$s)', 'select campfire.publish(''campfire'', ''probe'', ''{id,c}'')'),
  ('create_publication', 'create table probe (id int primary key, c %1$s); alter table probe replica identity full', 'select campfire.create_publication(''campfire'', ''{probe}'')'),
  ('ADD TABLE', 'create table probe (id int primary key, c %1$s)', 'alter publication campfire add table probe'),
  ('ADD TABLE (list)', 'create table probe (id int primary key, c %1$s)', 'alter publication campfire add table probe (id, c)'),
  ('SET TABLE', 'create table probe (id int primary key, c %1$s); drop publication campfire; select campfire.create_publication(''campfire'', ''{}'')', 'alter publication campfire set table probe'),
  ('ADD COLUMN', 'create table probe (id int primary key); alter table probe replica identity full; select campfire.publish(''campfire'', ''probe'')', 'alter table probe add column c %1$s'),
  ('ALTER TYPE, full', 'create table probe (id int primary key, c bool); alter table probe replica identity full; select campfire.publish(''campfire'', ''probe'')', 'alter table probe alter column c type %1$s using null');
select t.scalar, w.path, count(*) as types,
  regexp_replace(o.outcome, 'type .*? (cannot|is not)', 'type T \1') as outcome
from types as t cross join ways as w
cross join lateral pg_temp.try(w.path, format(w.setup, t.type), format(w.step, t.type)) as o
group by 1, 2, 4 order by 1 desc, 2, 4;
rollback;
