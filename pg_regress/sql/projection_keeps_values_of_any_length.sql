\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Types with a length or a precision: the mirror holds every value as it is, also where a domain sets the length.
create schema projection_test;
set search_path = projection_test;
create domain code as char(3);
create domain strict_code as code check (value <> 'XXX');
create domain note as varchar(4);
create table prices (
  currency char(3), region strict_code, note note, text10 varchar(10), amount numeric(8,2), at time(2), since timestamp(1), until timestamptz(0),
  primary key (currency, region));
insert into prices values ('EUR', 'DE', 'abcd', 'ten', 1.5, '10:00:00.126', '2020-01-01 00:00:00.26', '2020-01-01 00:00:00.6+00');
set client_min_messages = warning;
call campfire.create_projection('prices', array['currency', 'region', 'note', 'text10', 'amount', 'at', 'since', 'until',
  'region::char(5) as wide', 'upper(note)::varchar(2) as short', 'coalesce(region, ''-'') as filled']);
reset client_min_messages;
select a.attname, a.atttypid::regtype, a.atttypmod from pg_attribute as a
where a.attrelid = 'realtime_prices'::regclass and a.attnum > 0 order by a.attnum;
set timezone = 'UTC';
select quote_literal(currency::text) as currency, octet_length(region) as region, note, text10, amount, at, since, until, octet_length(wide) as wide, short
from realtime_prices;
-- A change beyond the first letter; keys that begin alike.
insert into prices (currency, region) values ('USD', 'US');
update prices set currency = 'UAH' where currency = 'USD';
insert into prices (currency, region) values ('UAH', 'UA'), ('UAX', 'UA');
select currency, region, count(*) over () from realtime_prices order by 1, 2;
select * from campfire.verify_projection('prices');
delete from prices where currency = 'UAX';
select currency, region from realtime_prices order by 1, 2;
-- A longer type passes the guard. Its blanks are part of the value, and the rows were rewritten without a trigger.
alter table prices alter column currency type char(5);
select distinct kind from campfire.verify_projection('prices');
call campfire.repair_projection('prices');
select currency::text, octet_length(currency) from realtime_prices order by 1 limit 1;
select * from campfire.verify_projection('prices');

-- A mirror that was made too short: writes go on, the check names it, and one call mends it.
alter event trigger campfire_projections disable;
truncate prices;
alter table realtime_prices alter column currency type char(1), alter column region type char(1), alter column text10 type varchar(3),
  alter column amount type numeric(8,1);
alter event trigger campfire_projections enable;
insert into prices (currency, region, text10, amount) values ('EUR', 'DE', 'longer', 1.25), ('USD', 'US', 'ten', 1.5);
select currency, region, text10, amount from realtime_prices order by 1;
insert into prices (currency, region) values ('EGP', 'DK');
select * from campfire.verify_projection('prices') order by 1;
select problem, fix from campfire.check_publication('campfire');
-- Other changes of the table pass, so that no partition is missing on the day it is needed.
alter table prices add column seen boolean;
alter table realtime_prices alter column amount type numeric(7,1);
\echo :LAST_ERROR_SQLSTATE
call campfire.repair_projection('projection_test.prices');
select currency, region, text10, amount from realtime_prices order by 1;
select problem from campfire.check_publication('campfire');
select * from campfire.verify_projection('prices');
-- And the guard refuses to make one so.
alter table realtime_prices alter column currency type char(3);
alter table realtime_prices alter column text10 type varchar(9);
alter table realtime_prices alter column text10 type varchar(10);
set client_min_messages = warning;
select campfire.drop_projection('prices');
drop schema projection_test cascade;
