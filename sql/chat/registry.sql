-- Where the chat tables are, and what of them the relay reads.

create table campfire.installations (
  schema_name name primary key,
  version text not null,
  installed_at timestamptz not null default now(),
  number integer not null unique check (number > 0)
);
comment on table campfire.installations is 'Schemas in which campfire.install() made the chat tables; dumped.';
comment on column campfire.installations.schema_name is 'The schema.';
comment on column campfire.installations.version is 'Version of campfire whose tables are there.';
comment on column campfire.installations.installed_at is 'When install() first ran for this schema.';
comment on column campfire.installations.number is 'Never changes; part of the ids of the built-in routes.';
select pg_extension_config_dump('campfire.installations', '');

-- One row per table that install() makes and the relay reads.
create table campfire.builtin_tables (
  table_name name primary key,
  control boolean not null,
  columns name[] not null,
  listed boolean not null, -- if not, replica identity full and no list
  identity_columns name[] -- what the replica identity must cover for deletes to be routed, beyond the key
);
comment on table campfire.builtin_tables is
  'Internal. What the standard publications carry: control tells which of the two, listed whether by a column list.';

insert into campfire.builtin_tables (table_name, control, columns, listed, identity_columns) values
  ('conversations', false, '{id,organization_id,customer_name,customer_email,created_at,updated_at}', true, null),
  ('messages', false, '{id,conversation_id,organization_id,content,sender_type,sender_name,sender_email,created_at}', true, '{id,conversation_id,organization_id}'),
  ('realtime_conversations', false, '{id,organization_id,customer_name,customer_email,status,priority,assignee_id,created_at,updated_at}', false, null),
  ('agents', true, '{organization_id,user_id,display_name,active}', true, null),
  ('read_receipts', true, '{conversation_id,organization_id,reader_type,reader_id,last_read_message_id,read_at}', false, null);

create function campfire.builtin_table(relation regclass) returns setof campfire.builtin_tables
language sql stable strict rows 1 set search_path = pg_catalog, pg_temp
begin atomic
  select b.*
  from campfire.builtin_tables as b
  join campfire.installations as i on true
  join pg_catalog.pg_namespace as n on n.nspname = i.schema_name
  join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = b.table_name
  where c.oid = relation;
end;
comment on function campfire.builtin_table(regclass) is
  'Internal. Which of the tables of install() this is; no row for any other table.';
