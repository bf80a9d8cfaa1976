\set SHOW_CONTEXT never
-- Quotes, other alphabets, 63 bytes: names are cut after a whole character, and two long ones stay apart.
create schema "projection Test ""x""";
set search_path = "projection Test ""x""";
create table "Bestellung ""ä"" 'o'" ("Schlüssel.1" int, "select" text, "a,b{}" text, " " int, primary key ("Schlüssel.1", "select"));
insert into "Bestellung ""ä"" 'o'" values (1, 'it''s', '{"x"}', 2);
call campfire.create_projection($$"Bestellung ""ä"" 'o'"$$);
insert into "Bestellung ""ä"" 'o'" values (2, 'b\c', null, null);
update "Bestellung ""ä"" 'o'" set "a,b{}" = 'new', "Schlüssel.1" = 3 where "Schlüssel.1" = 1;
select * from "realtime_Bestellung ""ä"" 'o'" order by 1;
update "realtime_Bestellung ""ä"" 'o'" set " " = 9;
select * from campfire.verify_projection($$"Bestellung ""ä"" 'o'"$$);
call campfire.repair_projection($$"Bestellung ""ä"" 'o'"$$);
select campfire.drop_projection($$"Bestellung ""ä"" 'o'"$$);
call campfire.create_projection($$"Bestellung ""ä"" 'o'"$$, array['Schlüssel.1', '"select"', '"a,b{}" || ''%s'' as "Ünit"']);
select * from "realtime_Bestellung ""ä"" 'o'" order by 1;
truncate "Bestellung ""ä"" 'o'";
select count(*) from "realtime_Bestellung ""ä"" 'o'";
create table ääääääääääääääääääääääääääääää1 (id int primary key);
create table ääääääääääääääääääääääääääääää2 (id int primary key);
call campfire.create_projection('ääääääääääääääääääääääääääääää1');
call campfire.create_projection('ääääääääääääääääääääääääääääää2');
insert into ääääääääääääääääääääääääääääää1 values (1);
select p.source, c.relname as mirror, octet_length(c.relname) as bytes
from campfire.projections as p join pg_class as c on c.oid = p.mirror where c.relname like 'realtime_ää%' order by 2;
select tgname, octet_length(tgname) from pg_trigger where tgrelid = 'ääääääääääääääääääääääääääääää1'::regclass order by 1;
truncate ääääääääääääääääääääääääääääää1;
select campfire.name_around('realtime_', repeat('x', 54), '') = 'realtime_' || repeat('x', 54) as fits,
  octet_length(campfire.name_around('realtime_', repeat('x', 55), '')) as cut;
set client_min_messages = warning;
drop schema "projection Test ""x""" cascade;
