\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
create extension citext;
create domain word as text;
create domain short_word as word check (length(value) < 10);
create domain numbers as int[];
create domain document as jsonb;
create type mood as enum ('sad', 'happy');
create type pair as (a int, b int);
select t as type, campfire.is_scalar(t::regtype) as scalar
from unnest('{uuid,text,varchar,char(3),name,citext,boolean,int2,int4,int8,float4,float8,numeric,date,time,timetz,timestamp,timestamptz,word,short_word}'::text[]) with ordinality as u (t, n)
order by n;
select t as type, campfire.is_scalar(t::regtype) as scalar
from unnest('{jsonb,json,int[],text[],word[],inet,cidr,macaddr,macaddr8,mood,pair,int4range,int4multirange,bytea,xml,interval,money,bit,varbit,oid,regclass,xid,pg_lsn,tsvector,tsquery,point,polygon,jsonpath,numbers,document}'::text[]) with ordinality as u (t, n)
order by n;
-- The internal "char" is not char(n), and a type is citext by its extension, not by its name.
select campfire.is_scalar('"char"'::regtype);
drop extension citext;
create type citext as enum ('a');
select campfire.is_scalar('citext'::regtype);
rollback;
