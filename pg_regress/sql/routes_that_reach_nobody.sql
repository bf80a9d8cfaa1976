\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Refused when they are added, named when they become so; the fix, pasted, mends it.
begin;
set client_min_messages = warning;
create domain shop_key as uuid;
create domain code as varchar(10);
create table visits (id int primary key, org int, named text, short varchar(20), long varchar(36), padded char(36), broad char(40), code code, key shop_key, note text, amount numeric);
alter table visits replica identity full;
select campfire.publish('campfire', 'visits');
select c as channel, t.* from unnest(array['id', 'org', 'short', 'broad', 'code', 'amount', 'named', 'long', 'padded', 'key']) as c, lateral (
  select case when exists (select from campfire.unheard_columns('visits', format('org:{%s}', c))) then 'nobody could join' else 'fits' end as verdict) as t;
select campfire.add_route('visits', 'INSERT', 'org:{org}', 'visit');
\echo :LAST_ERROR_SQLSTATE
select campfire.add_route('visits', 'INSERT', 'bcast:org:{key}:conv:{id}', 'visit');
select campfire.add_route('visits', 'INSERT', 'org:{key}:room:{key}', 'visit');
\echo :LAST_ERROR_SQLSTATE
select campfire.add_route('visits', 'INSERT', 'bcast:', 'visit');
\echo :LAST_ERROR_SQLSTATE
create table loose (id int primary key);
select campfire.add_route('loose', 'INSERT', 'loose', 'visit');
\echo :LAST_ERROR_SQLSTATE
-- A partition's rows are those of its table.
create table parted (id int primary key) partition by list (id);
create table part partition of parted for values in (1);
select campfire.publish('campfire', 'parted');
select campfire.publish('campfire', 'part');
select campfire.add_route('part', 'INSERT', 'parts', 'part');
\echo :LAST_ERROR_SQLSTATE

create function pg_temp.damage(command text) returns table (problem text, fix text, left_over bigint) language plpgsql as $$
declare
  told record;
begin
  begin
    execute command;
    for told in select c.problem, regexp_replace(c.fix, '_route\([0-9]+', '_route(ID') as shown, c.fix from campfire.check_publication() as c loop
      problem := regexp_replace(told.problem, 'route [0-9]+', 'route ID');
      fix := told.shown;
      if exists (select from campfire.check_publication() as c where c.fix = told.fix) then
        execute told.fix;
      end if;
      left_over := (select count(*) from campfire.check_publication());
      return next;
    end loop;
    raise exception sqlstate 'UNDO1';
  exception when sqlstate 'UNDO1' then null;
  end;
end $$;
select campfire.unpublish('campfire', 'part');
create table v (id int primary key, shop uuid not null, note text, state text);
select campfire.publish('campfire', 'v');
select campfire.add_route('v', 'INSERT', 'shop:{shop}', 'v:new', '{id,note,state}') > 0 as added;
select n, d.* from (values
  (1, 'alter table v rename note to note2'),
  (2, 'select campfire.publish_without(''campfire'', ''v'', ''{note}'')'),
  (3, 'select campfire.publish_without(''campfire'', ''v'', ''{note}''); alter table v drop column note'),
  (4, 'select campfire.publish_without(''campfire'', ''v'', ''{shop}''); alter table v drop column shop'),
  (5, 'alter table v rename shop to store'),
  (6, 'alter table v rename note to a; alter table v rename state to b; alter table v rename id to c'),
  (7, 'select campfire.unpublish(''campfire'', ''v'')'),
  (8, 'drop table v'),
  (9, 'select campfire.unpublish(''campfire'', ''v''); alter table v drop constraint v_pkey'),
  (10, 'select campfire.publish_without(''campfire'', ''v'', ''{note,shop}'')'),
  (11, 'select campfire.add_route(''visits'', ''DELETE'', ''shop:{key}'', ''gone'', ''{id,note}'');
        select campfire.add_route(''visits'', ''UPDATE'', ''shop:{key}'', ''changed'', ''{id}'', ''{note,amount}'');
        select campfire.unpublish(''campfire'', ''visits''); alter table visits replica identity default; select campfire.publish(''campfire'', ''visits'')'),
  (12, 'select campfire.add_route(''visits'', ''INSERT'', ''org:{key}'', ''visit''); alter table visits alter key type text using key::text;
        alter table visits alter key type varchar(20)'),
  (13, 'create table p (id int primary key, a text); select campfire.publish(''campfire'', ''p''); select campfire.add_route(''p'', ''INSERT'', ''p'', ''p'');
        create table q (id int primary key, a text) partition by list (id); alter table q attach partition p for values in (1); select campfire.publish(''campfire'', ''q'')'),
  (14, 'alter table messages rename column content to body; alter table messages rename column sender_name to by')
) as v (n, command), pg_temp.damage(command) as d order by n;
-- One that is off is nobody's trouble.
select campfire.enable_route(id, false) from campfire.routes where event = 'v:new';
alter table v rename note to note2;
select * from campfire.check_publication();

-- Of a table with a projection, the mirror is what to publish.
create table tickets (id int primary key, detail jsonb);
do $$ begin
  perform campfire.start_projection('tickets', '{id}');
end $$;
select campfire.add_route('tickets', 'INSERT', 'tickets', 'ticket');
select campfire.publish('campfire', 'tickets', '{id,detail}');
alter table tickets replica identity full;
select campfire.publish('campfire', 'tickets');
alter publication campfire add table tickets;
rollback;
