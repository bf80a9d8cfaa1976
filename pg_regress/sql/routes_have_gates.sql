\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A gate says which members of a private channel get the event of a row; what is not exact is refused, with the place.
begin;
create collation any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create domain named as text;
create table orders (
  id int primary key, shop int not null, seller uuid, state named, draft boolean, total numeric, at timestamptz,
  rate float8, code char(3), loose text collate any_case, data jsonb);
create table sales (id int primary key, shop int not null, seller uuid, at timestamptz);
select campfire.publish('campfire', 'orders');
alter table sales replica identity full;
select campfire.publish('campfire', 'sales');

create function gated(gate text, operation text default 'INSERT', channel text default 'shop:{shop}', relation regclass default 'orders',
  public boolean default false, on_move boolean default false) returns void language sql as $$
  select campfire.drop_route(campfire.add_route(relation, operation, channel, 'x', columns => '{id}', gate => gate, public => public,
    on_move => on_move));
$$;

-- What is one
select gated('seller = claims.sub');
select gated('state in (''open'', claims.app.state) and not draft or total >= 12.5 and at is not null');
select gated('shop = any (claims.shops) or claims.role = ''service_role''');
select gated('seller = claims.sub', 'UPDATE', relation => 'sales');
select gated('seller = claims.sub', 'DELETE', relation => 'sales', on_move => true);

-- What is none
select gated('seller =');
select gated('vendor = claims.sub');
select gated('state < ''m''');
select gated('at > ''2026-01-01''');
select gated('rate = 1');
select gated('code = ''abc''');
select gated('loose = ''x''');
select gated('data is null');
select gated('lower(state) = ''x''');
select gated('true');

-- Where there is none
select gated('seller = claims.sub', channel => 'org:{seller}');
select gated('seller = claims.sub', public => true);
select gated('seller = claims.sub', 'UPDATE');
select gated('seller = claims.sub', on_move => true);

-- What becomes of one
select campfire.add_route('sales', 'UPDATE', 'shop:{shop}', 'sale', columns => '{id}', gate => 'seller = claims.sub') > 0 as added;
select gate from campfire.routes where event = 'sale';
select problem, fix ~ 'drop_route' as fix from campfire.route_problems();
alter table sales rename column seller to vendor;
select regexp_replace(problem, '\d+', 'N') as problem, fix ~ 'drop_route' as fix from campfire.route_problems();
alter table sales rename column vendor to seller;
select campfire.unpublish('campfire', 'sales');
alter table sales replica identity default;
select campfire.publish('campfire', 'sales');
select regexp_replace(problem, '\d+', 'N') as problem, fix ~ 'drop_route' as fix from campfire.route_problems();
rollback;
