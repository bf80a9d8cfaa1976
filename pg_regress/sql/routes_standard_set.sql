\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
select id, table_name, operation, on_move, channel, event, enabled, builtin from campfire.routes order by id;
select distinct event, columns, when_changed from campfire.routes order by 1, 2, 3;
-- Every column of every route is published.
select r.id from campfire.routes as r
where not exists (
  select from pg_publication_tables as p
  where p.pubname in ('campfire', 'campfire_control') and p.schemaname = r.schema_name and p.tablename = r.table_name
    and p.attnames @> r.columns and p.attnames @> coalesce(r.when_changed, '{}'));
