\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Whom a route's events reach outside org:, in which order a snapshot has its rows, and whose its events are.
begin;
create table orders (id int primary key, shop_id uuid not null, made_at timestamptz, detail jsonb);
select campfire.publish('campfire', 'orders', '{id,shop_id,made_at}');
select campfire.add_route('orders', 'INSERT', 'org:{shop_id}', 'order:created', public => true);
select campfire.add_route('orders', 'INSERT', 'shop:{shop_id}', 'order:created', public => null);
select campfire.add_route('orders', 'INSERT', 'news', 'order:created', public => true) is not null as added;
select campfire.add_route('orders', 'INSERT', 'news', 'order:seen', public => true, snapshot_by => 'made_at');
select campfire.add_route('orders', 'UPDATE', 'shop:{shop_id}', 'order:updated', snapshot_by => 'made_at');
select campfire.add_route('orders', 'INSERT', 'org:{shop_id}', 'order:created', snapshot_by => 'made_at');
select campfire.add_route('orders', 'INSERT', 'shop:{shop_id}', 'order:created', snapshot_by => 'nothing');
select campfire.add_route('orders', 'INSERT', 'shop:{shop_id}', 'order:created', snapshot_by => 'detail');
select campfire.add_route('orders', 'INSERT', 'shop:{shop_id}', 'order:created', '{id}', snapshot_by => 'made_at') is not null as added;
select channel, event, public, snapshot_by, gate from campfire.routes where not builtin order by id;
-- Made again, a route is what it was.
select replace(campfire.remade_route(id, 'public.orders', '{id}', null), id::text, 'ID') from campfire.routes where not builtin order by id;
alter table orders rename made_at to placed_at;
select regexp_replace(problem, 'route \d+', 'route ID') as problem, regexp_replace(fix, '\(\d+\)', '(ID)') as fix
from campfire.route_problems();
-- What is sent by a route is sent by nobody else, whatever its spelling.
select channel, event, campfire.routed_event(channel, event) is not null as is_routed
from (values ('shop:7', 'order:created'), ('bcast:shop:7', 'Order:Created'), ('shop:%', 'order:created'), ('shop:7', 'order:seen'),
  ('shops:7', 'order:created'), ('news', 'ORDER:created'), ('news:7', 'order:created'),
  ('org:00000000-0000-0000-0000-000000000001', 'order:created')) as c (channel, event);
\set VERBOSITY terse
select campfire.broadcast('shop:7', 'Order:created', '{}');
\set VERBOSITY default
select campfire.enable_route(id, false) from campfire.routes where channel = 'shop:{shop_id}';
select campfire.broadcast('shop:7', 'Order:created', '{}');
rollback;
-- The table of policies holds no rows, and its owner runs nothing as the relay's helper.
set client_min_messages = warning; -- Another test may have left it.
drop table if exists campfire.private_channels;
reset client_min_messages;
select campfire.policies_table();
begin;
select campfire.private_channels_probe('shop:7', '{broadcast}');
select campfire.install_private_channels();
set local role authenticated;
insert into campfire.private_channels (topic, extension) values ('shop:7', 'broadcast');
reset role;
create policy members on campfire.private_channels for insert to authenticated with check (campfire.topic() = 'shop:7');
set local role authenticated;
insert into campfire.private_channels (topic, extension) values ('shop:7', 'broadcast');
set local realtime.topic = 'shop:7';
insert into campfire.private_channels (topic, extension) values ('shop:7', 'broadcast');
commit;
select to_regclass('campfire.private_channels') is null as is_gone;
begin;
select campfire.install_private_channels();
\set VERBOSITY terse
select campfire.private_channels_probe('shop:7', '{broadcast}');
create policy members on campfire.private_channels for select to authenticated using (campfire.topic() = 'shop:7');
alter table campfire.private_channels owner to service_role;
select campfire.private_channels_probe('shop:7', '{broadcast}');
select campfire.install_private_channels();
select extension, id is not null as has_id from campfire.private_channels_probe('shop:7', '{broadcast,presence}');
select c.relrowsecurity, count(p) as policies from pg_class as c join pg_policy as p on p.polrelid = c.oid
where c.oid = 'campfire.private_channels'::regclass group by c.oid;
select campfire.install_supabase_api();
select campfire.policies_table();
set role service_role;
select campfire.install_private_channels();
rollback;
