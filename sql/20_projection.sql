-- Scalar mirrors of tables. The trigger function itself is Rust: extension/src/projection.rs.

comment on function campfire.sync_realtime_conversations() is
  'Trigger: carries each change of a projected table to its scalar mirror, as the owner of that table. '
  'Row trigger for INSERT, UPDATE, DELETE; statement trigger for TRUNCATE. An update that changes no projected column writes nothing. '
  'Raises 55000 on a table that is not in campfire.projections, 42703 if a projected column is gone.';

comment on function campfire.projection_registry_changed() is
  'Internal trigger: makes every session prepare its projection plans again.';

create trigger projection_registry_changed after insert or update or delete on campfire.projection_registry
for each row execute function campfire.projection_registry_changed();

create view campfire.projections as
select p.source, p.mirror, p.key_columns, p.columns, p.created_at
from campfire.projection_registry as p
where exists (select from pg_catalog.pg_class as c where c.oid = p.source)
  and exists (select from pg_catalog.pg_class as c where c.oid = p.mirror);
comment on view campfire.projections is 'Projected tables and their scalar mirrors.';
comment on column campfire.projections.source is 'The table that is projected.';
comment on column campfire.projections.mirror is 'The mirror, written by the trigger on the source and by nobody else.';
comment on column campfire.projections.key_columns is 'Columns that identify a row in both.';
comment on column campfire.projections.columns is 'Projected columns, by the same name in both; the mirror''s type is the source''s or text.';
comment on column campfire.projections.created_at is 'When the projection was made.';
