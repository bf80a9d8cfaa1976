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
comment on table campfire.projection_registry is 'Internal. Projected tables and their scalar mirrors; dumped. Read campfire.projections instead.';
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
  'Internal. Projections whose tables were dropped, so that they can go on if the tables come back from a dump; not dumped.';

create table campfire.projection_backfills (
  source regclass primary key,
  after_key jsonb, -- of the last row carried; null before the first
  carried bigint not null default 0
);
comment on table campfire.projection_backfills is
  'Internal. Projections whose mirrors have not got all old rows yet, and how far they are; dumped. campfire.create_projection() goes on there.';
select pg_extension_config_dump('campfire.projection_backfills', 'where source in (select oid from pg_catalog.pg_class)');

comment on function campfire.sync_realtime_conversations() is
  'Trigger: carries each change of a projected table to its scalar mirror, as the owner of that table. '
  'Row trigger for INSERT, UPDATE, DELETE; statement trigger for TRUNCATE. An update that changes no projected value writes nothing. '
  'On a table that is not in campfire.projections, or whose mirror is gone, it writes nothing and warns once a session. '
  'Raises 42703 if a projected column is gone.';

comment on function campfire.projection_registry_changed() is
  'Internal trigger: makes every session prepare its projection plans again.';

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
comment on column campfire.projections.mirror is 'The mirror, written by the trigger on the source and by nobody else.';
comment on column campfire.projections.key_columns is 'Columns of the mirror that identify a row: those of the source''s primary key.';
comment on column campfire.projections.columns is 'Columns of the mirror.';
comment on column campfire.projections.created_at is 'When the projection was made.';
comment on column campfire.projections.definitions is 'What each of them is: a column of the source, or an expression over its row; a cast to the mirror''s type is added.';
comment on column campfire.projections.complete is 'Whether the old rows are all in the mirror. If not: call campfire.create_projection() again.';

comment on column campfire.projections.dropped_partitions is
  'keep or delete: what becomes of the rows of a partition that is dropped or detached. Change it with campfire.alter_projection().';

comment on function campfire.projection_columns(regclass, text[]) is
  'Internal. Reads the items of a projection as the owner of the source. Raises 42501, 0A000 for what is not an expression over one row, '
  '42P17 for one that is not immutable, and what Postgres raises for names that do not exist.';
comment on function campfire.query_as_owner(regclass, text) is
  'Internal. Runs one statement as the owner of a table, for a member of that role; rows are jsonb. Raises 42501 for others.';
comment on function campfire.start_projection(regclass, text[]) is
  'Internal. The step of campfire.create_projection() that makes mirror, registration and triggers.';
comment on function campfire.backfill_batch(regclass, integer) is
  'Internal. The step of campfire.create_projection() that carries old rows to the mirror; returns how many, 0 at the end.';
comment on function campfire.mend_projection(regclass, boolean) is
  'Internal. The step of campfire.repair_projection() that brings mirror, registration and triggers into order; with true, notes that '
  'the rows are in order too. Raises 42501, 42704 for a table that has no projection and had none.';
comment on function campfire.alter_projection(regclass, text) is
  'Chooses what becomes of the mirror''s rows when a partition of the table is dropped or detached: keep (at first) or delete, which '
  'makes each an event and reads the mirror once. For the owner of the table. Raises 42501, 42704 for a table without projection, 22023 '
  'for another word. Example: select campfire.alter_projection(''measurements'', dropped_partitions => ''delete'');';
comment on function campfire.refuse_command(text, text, text, text) is
  'Internal. Raises an error of this SQLSTATE with message, detail and hint, and without CONTEXT.';
comment on function campfire.require_no_transaction(text) is
  'Internal. Raises 2D000 inside a transaction block.';
