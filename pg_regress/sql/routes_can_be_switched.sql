\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- The switch is the database's; the route stays the extension's.
begin;
insert into campfire.route_overrides (schema_name, key, enabled) values ('public', 71, true), ('public', 11, false);
select id, event, enabled from campfire.routes where id in (71 - 1000, 11 - 1000) order by id;
rollback;
