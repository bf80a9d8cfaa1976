\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A role of the application sends, as the owner of a trigger function or itself, and what cannot be sent undoes nothing.
begin;
select campfire.install_supabase_api();
create role campfire_regress_owner;
create role campfire_regress_writer;
grant create, usage on schema public to campfire_regress_owner;
set role campfire_regress_owner;
create table orders (id int primary key, shop_id text, total int);
grant select, insert, update, delete on orders to campfire_regress_writer;
-- As the comment of broadcast_changes() has it.
create function order_changed() returns trigger language plpgsql security definer set search_path = '' as $f$
begin
  perform realtime.broadcast_changes('shop:' || coalesce(new.shop_id, old.shop_id), tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
  return null;
end $f$;
create trigger order_changed after insert or update or delete on orders for each row execute function order_changed();
-- Nobody has granted anything yet.
set role campfire_regress_writer;
insert into orders values (1, '7', 10);
select * from orders;
reset role;
grant campfire_sender to campfire_regress_owner;
set role campfire_regress_writer;
insert into orders values (2, '7', 20);
update orders set total = 30 where id = 2;
delete from orders where id = 1;
\set VERBOSITY sqlstate
insert into orders values (3, null, 1);
\set VERBOSITY default
insert into orders values (4, 'x', 1);
-- The writer itself may not.
select realtime.send('{}', 'e', 'shop:7');
select realtime.send_binary('\x00', 'e', 'shop:7');
select realtime.broadcast_changes('shop:7', 'e', 'INSERT', 'orders', 'public', o, null) from orders as o where id = 2;
select count(*) from orders;
reset role;
select event, topic, private, payload -> 'record' ->> 'total' as total from realtime.messages order by payload #>> '{record,id}', event;

-- What the role may do: insert, to any channel, and nothing else.
set role campfire_regress_owner;
select realtime.send('{"n": 1}', 'e', 'room:1'), realtime.send('{"n": 1}', 'e', 'room:2', false);
select realtime.send('{}', 'e', 'org:10000000-0000-4000-8000-000000000001');
insert into realtime.messages (topic, extension, event, payload, private) values ('room:3', 'broadcast', 'e', '{}', true);
select campfire.broadcast('news', 'e', '{}');
select campfire.broadcast('org:10000000-0000-4000-8000-000000000001', 'note:made', '{}');
\set VERBOSITY sqlstate
select campfire.broadcast('org:10000000-0000-4000-8000-000000000001', 'message:created', '{}');
select * from realtime.messages;
insert into realtime.messages (topic, extension, event, payload, inserted_at) values ('room:3', 'broadcast', 'e', '{}', now());
update realtime.messages set event = 'x';
delete from realtime.messages;
insert into realtime.messages (topic, extension, event) values ('room:3', 'broadcast', 'e') returning id;
select realtime.maintain();
select * from realtime.probe('room:1', '{broadcast}');
select * from realtime.history('room:1', now(), 1);
select campfire.emit('campfire.broadcast', 'x');
select * from campfire.broadcast_keys;
select campfire.add_route('orders', 'INSERT', 'x', 'y');
\set VERBOSITY default
reset role;
-- It is in no role that acts for clients, and none is in it.
select r.rolname, m.rolname from pg_auth_members as a join pg_roles as r on r.oid = a.roleid join pg_roles as m on m.oid = a.member
where 'campfire_sender' in (r.rolname, m.rolname) order by 1, 2;
select rolcanlogin, rolsuper, rolbypassrls, rolcreaterole from pg_roles where rolname = 'campfire_sender';

-- A value of which there is no JSON, an operation that there is none, a constraint: warnings.
create type odd as enum ('a');
create function pg_temp.odd_json(odd) returns json language plpgsql as $$ begin raise exception 'no JSON of it'; end $$;
create cast (odd as json) with function pg_temp.odd_json(odd);
create table odds (o odd);
create function odds_changed() returns trigger language plpgsql as $$
begin
  perform realtime.broadcast_changes('odds', tg_op, tg_op, tg_table_name, tg_table_schema, new, old, coalesce(tg_argv[0], 'ROW'));
  return null;
end $$;
create trigger changed after insert on odds for each row execute function odds_changed();
insert into odds values ('a');
create trigger wrong after insert on orders for each row execute function odds_changed('STATEMENT');
insert into orders values (5, '7', 1);
select realtime.broadcast_changes('odds', 'e', 'TRUNCATE', 'odds', 'public', null::odds, null::odds);
alter table realtime.messages add check (topic <> 'shop:9');
\set VERBOSITY sqlstate
insert into orders values (6, '9', 1);
\set VERBOSITY default
select (select count(*) from odds), (select count(*) from orders);
rollback;
