-- Scalar mirrors of tables: who keeps them and what is registered. The trigger function itself is Rust:
-- extension/src/projection.rs; who may do what with which rights: extension/src/owner.rs.

-- Registered tables are named by oid, so renames need no care; in a dump regclass is a qualified name.
create table campfire.projection_registry (
  source regclass primary key,
  mirror regclass not null unique,
  key_columns name[] not null check (cardinality(key_columns) > 0),
  columns name[] not null check (columns @> key_columns),
  created_at timestamptz not null default now(),
  definitions text[], -- over the source; null if each is the column of the same name
  restored boolean not null default false, -- its tables came back from a dump, and the rows were not compared since
  dropped_partitions text not null default 'keep' check (dropped_partitions in ('keep', 'delete')),
  constraint projection_registry_definitions_fit check (cardinality(definitions) = cardinality(columns))
);
comment on table campfire.projection_registry is
  'Internal. Projected tables and their scalar mirrors. Included in dumps. Read campfire.projections instead.';
select pg_extension_config_dump(
  'campfire.projection_registry',
  'where source in (select oid from pg_catalog.pg_class) and mirror in (select oid from pg_catalog.pg_class)');

-- By name, because what comes back from a dump has another oid.
create table campfire.projection_remains (
  source text primary key,
  mirror text not null,
  key_columns name[] not null,
  columns name[] not null,
  definitions text[],
  dropped_partitions text not null
);
comment on table campfire.projection_remains is
  'Internal. Projections whose tables were dropped, so that they can resume if the tables come back from a dump. Not included in dumps.';

create table campfire.projection_backfills (
  source regclass primary key,
  after_key jsonb, -- of the last row carried; null before the first
  carried bigint not null default 0,
  columns name[], -- that the mirror got from alter_projection(); null: whole rows
  muted bigint[] not null default '{}' -- routes that fire on every change, but not on this copying
);
comment on table campfire.projection_backfills is
  'Internal. Projections whose mirrors do not have all old rows yet, and how far the copying has got. Included in dumps. '
  'campfire.create_projection() continues from there.';
select pg_extension_config_dump('campfire.projection_backfills', 'where source in (select oid from pg_catalog.pg_class)');

comment on function campfire.sync_realtime_conversations() is
  'Trigger: copies each change of a projected table to its scalar mirror, as the owner of that table. Row trigger for INSERT, UPDATE and '
  'DELETE; statement trigger for TRUNCATE. An update that changes no projected value writes nothing. If the table is not in '
  'campfire.projections, or its mirror is gone, the trigger writes nothing and warns once per session. Raises 42703 if a projected column '
  'is gone.';

comment on function campfire.projection_registry_changed() is 'Internal trigger: makes every session rebuild its projection plans.';

create trigger projection_registry_changed after insert or update or delete on campfire.projection_registry
for each row execute function campfire.projection_registry_changed();

create view campfire.projections as
select p.source, p.mirror, p.key_columns, p.columns, p.created_at,
  coalesce(p.definitions, array(select quote_ident(c) from unnest(p.columns) with ordinality as u (c, n) order by n)) as definitions,
  not exists (select from campfire.projection_backfills as b where b.source = p.source) as complete,
  p.dropped_partitions
from campfire.projection_registry as p
where exists (select from pg_catalog.pg_class as c where c.oid = p.source)
  and exists (select from pg_catalog.pg_class as c where c.oid = p.mirror);
comment on view campfire.projections is 'Projected tables and their scalar mirrors.';
comment on column campfire.projections.source is 'The table that is projected.';
comment on column campfire.projections.mirror is 'The mirror. Only the trigger on the source writes to it.';
comment on column campfire.projections.key_columns is 'Columns of the mirror that identify a row: those of the source''s primary key.';
comment on column campfire.projections.columns is 'Columns of the mirror.';
comment on column campfire.projections.created_at is 'When the projection was made.';
comment on column campfire.projections.definitions is
  'What each column is made from: a column of the source, or an expression over its row. A cast to the mirror''s type is added.';
comment on column campfire.projections.complete is 'Whether the mirror has all old rows. If not, call campfire.create_projection() again.';

comment on column campfire.projections.dropped_partitions is
  'keep or delete: what happens to the rows of a partition that is dropped or detached. Change it with campfire.alter_projection().';

comment on function campfire.projection_columns(regclass, text[]) is
  'Internal. Reads the items of a projection as the owner of the source. Raises 42501, 0A000 for an item that is not an expression over '
  'one row, 42P17 for one that is not immutable, and the error of Postgres for names that do not exist.';
comment on function campfire.query_as_owner(regclass, text) is
  'Internal. Runs one statement as the owner of a table, for a member of that role; rows are jsonb. Raises 42501 for anyone else.';
comment on function campfire.start_projection(regclass, text[]) is
  'Internal. The step of campfire.create_projection() that makes the mirror, the registration and the triggers.';
comment on function campfire.backfill_batch(regclass, integer) is
  'Internal. The step of campfire.create_projection() that copies old rows to the mirror. Returns how many; 0 at the end.';
comment on function campfire.mend_projection(regclass, boolean) is
  'Internal. The step of campfire.repair_projection() that restores the mirror, the registration and the triggers; with true, it also '
  'records that the rows are in order. Raises 42501, 42704 for a table that neither has nor had a projection.';
comment on function campfire.choose_dropped_partitions(regclass, text) is
  'Internal. The step of campfire.alter_projection() that is about rows of partitions.';
comment on function campfire.change_projection(regclass, text[]) is
  'Internal. The step of campfire.alter_projection() that gives the mirror its columns.';
comment on function campfire.refuse_command(text, text, text, text) is
  'Internal. Raises an error of this SQLSTATE with message, detail and hint, and without CONTEXT.';
comment on function campfire.plan_as(oid, text) is
  'Internal. Raises what planning a statement as this role raises. Raises 42501 unless the caller is a member of the role.';
comment on function campfire.require_no_transaction(text) is
  'Internal. Raises 2D000 inside a transaction block.';
