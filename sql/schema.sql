-- The schema, the roles of the cluster, and the registries.
--
-- Everything is written with its schema: the script runs with whatever search_path CREATE EXTENSION found.
set local search_path = pg_catalog, pg_temp;

-- The script makes the schema itself. With `schema =` in the control file an existing schema would be adopted,
-- and whoever owned it could drop us.
create schema campfire;
comment on schema campfire is 'campfire: makes committed rows live. Start with: select campfire.install();';
grant usage on schema campfire to public;

-- Postgres notes the schema that CREATE EXTENSION found first, and would drop the extension with it: with public, in most
-- databases, where nothing of it is. A schema in the control file would refuse the dumps of databases that noted another.
update pg_extension set extnamespace = 'pg_catalog'::regnamespace where extname = 'campfire';
delete from pg_depend
where classid = 'pg_extension'::regclass and objid = (select oid from pg_extension where extname = 'campfire')
  and refclassid = 'pg_namespace'::regclass;

-- Roles ---------------------------------------------------------------------------------------------------------

do $roles$
declare
  wanted constant name[] := '{anon,authenticated,service_role,campfire_relay}';
  memberships constant name[] := '{anon,authenticated,service_role,pg_read_all_stats}';
  purposes constant text[] := array[
    'campfire: a visitor, bound to one conversation by the claims',
    'campfire: an agent, bound to one organization by the claims',
    'campfire: trusted server code, sees every organization',
    'campfire: the relay logs in as this role; the DBA grants it LOGIN and REPLICATION'];
  wanted_role name;
  existing record;
begin
  if exists (select from unnest(wanted) as r where r not in (select rolname from pg_roles)) then
    -- Roles belong to the cluster: two databases may get here at once. Log-ins only read this table and go on.
    lock table pg_authid in share row exclusive mode;
  end if;

  for i in 1 .. cardinality(wanted) loop
    wanted_role := wanted[i];
    select rolsuper, rolcanlogin, rolbypassrls into existing from pg_roles where rolname = wanted_role;
    if not found then
      execute format('create role %I nologin', wanted_role);
      execute format('comment on role %I is %L', wanted_role, purposes[i]);
    elsif existing.rolsuper then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('role "%s" exists and is a superuser', wanted_role),
        hint = format('alter role %I nosuperuser;', wanted_role);
    elsif existing.rolcanlogin and wanted_role <> 'campfire_relay' then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('role "%s" exists and can log in', wanted_role),
        detail = 'Whoever acts as this role chooses the claims, so nobody may log in as it.',
        hint = format('alter role %I nologin;', wanted_role);
    elsif existing.rolbypassrls and wanted_role not in ('service_role', 'campfire_relay') then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('role "%s" exists and bypasses row-level security', wanted_role),
        hint = format('alter role %I nobypassrls;', wanted_role);
    end if;
  end loop;

  for wanted_role in
    select m from unnest(memberships) as m
    where not exists (
      select from pg_auth_members
      where member = 'campfire_relay'::regrole and roleid = m::text::regrole)
  loop
    execute format('grant %I to campfire_relay', wanted_role);
  end loop;
end
$roles$;

-- Who may do what -----------------------------------------------------------------------------------------------

create function campfire.require_superuser(action text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('%s must be run by a superuser', action),
      hint = format('Connect as a superuser, then repeat %s. What it makes can be given away with ALTER ... OWNER TO.', action);
  end if;
end
$$;
comment on function campfire.require_superuser(text) is
  'Internal. Raises 42501 unless the caller is a superuser.';

create function campfire.require_read_committed(changed text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    perform campfire.refuse_command('55000',
      format('%s cannot be altered in a %s transaction', changed, current_setting('transaction_isolation')),
      'What others have committed since the transaction began could not be seen.',
      'set transaction isolation level read committed; -- before anything else in the transaction');
  end if;
end
$$;
comment on function campfire.require_read_committed(text) is
  'Internal. Raises 55000 in a transaction whose queries see only what was there when it began.';

-- Settings ------------------------------------------------------------------------------------------------------
-- Defaults belong to the extension, changes to the database: only changes are dumped, so a restored row never
-- meets a row that the script has already made.

create table campfire.setting_defaults (
  name text primary key,
  value text not null,
  description text not null
);
comment on table campfire.setting_defaults is 'Internal. The settings this version knows. Read campfire.settings instead.';

create table campfire.setting_overrides (
  name text primary key,
  value text not null
);
comment on table campfire.setting_overrides is 'Internal. Settings changed in this database; dumped. Update campfire.settings instead.';
select pg_extension_config_dump('campfire.setting_overrides', '');

insert into campfire.setting_defaults (name, value, description) values
  ('claim_organization', 'org_id', 'Where a token''s claims name the organization: a dot separated path, such as app_metadata.org_id.'),
  ('claim_conversation', 'conversation_id', 'Where a visitor''s claims name the conversation: a dot separated path.');

create view campfire.settings as
select d.name, coalesce(o.value, d.value) as value, d.value as default_value, d.description
from campfire.setting_defaults as d
left join campfire.setting_overrides as o on o.name = d.name;
comment on view campfire.settings is
  'Settings kept in the database. Change one by: update campfire.settings set value = ''app_metadata.org_id'' where name = ''claim_organization''; null restores the default.';
comment on column campfire.settings.name is 'Name of the setting.';
comment on column campfire.settings.value is 'Value in force. The only column that can be updated.';
comment on column campfire.settings.default_value is 'Value in force when nothing was set.';
comment on column campfire.settings.description is 'What the setting means.';

create function campfire.change_setting() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if (new.name, new.default_value, new.description) is distinct from (old.name, old.default_value, old.description) then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('only the value of setting "%s" can be changed', old.name);
  end if;
  if new.value is null or new.value = new.default_value then
    delete from campfire.setting_overrides where name = new.name;
    new.value := new.default_value;
    return new;
  end if;
  if new.name like 'claim\_%' and new.value !~ '^[^.]+(\.[^.]+)*$' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" is not a path to a claim', new.value),
      hint = 'A path is one or more names separated by dots, such as app_metadata.org_id.';
  end if;
  if new.name like '%\_bytes\_max' and new.value !~ '^[1-9][0-9]{0,9}$' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" is not a number of bytes', new.value),
      hint = 'Write digits alone, such as 65536.';
  end if;
  if new.name like '%\_hours' and new.value !~ '^[1-9][0-9]{0,5}$' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" is not a number of hours', new.value),
      hint = 'Write digits alone, such as 72.';
  end if;
  insert into campfire.setting_overrides as o (name, value) values (new.name, new.value)
  on conflict (name) do update set value = excluded.value;
  return new;
end
$$;
comment on function campfire.change_setting() is
  'Internal. Makes campfire.settings writable; raises 22023 for a malformed path or number, or a change of anything but the value.';

create trigger change_setting instead of update on campfire.settings
for each row execute function campfire.change_setting();

-- Registries ----------------------------------------------------------------------------------------------------

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

create table campfire.managed_publications (
  name name primary key,
  -- Not a foreign key: pg_dump warns of tables that refer to themselves.
  control_of name unique,
  standard boolean not null
);
comment on table campfire.managed_publications is
  'Publications that campfire made and looks after; dumped. By name, because a publication''s oid does not survive a dump or pg_upgrade.';
comment on column campfire.managed_publications.name is 'Name of the publication.';
comment on column campfire.managed_publications.control_of is 'For the twin that carries agents and read receipts: the publication of rows it belongs to.';
comment on column campfire.managed_publications.standard is 'Whether it must carry the standard tables of every installation.';
select pg_extension_config_dump('campfire.managed_publications', '');

-- Facts about slots of this cluster; a dump must not carry them to another.
create table campfire.slots (
  slot_name name primary key,
  system_identifier text not null,
  timeline bigint not null,
  publication_names name[] not null,
  publication_oids oid[] not null,
  publication_xmins text[] not null,
  created_at timestamptz not null default now(),
  public_channels boolean,
  check (cardinality(publication_names) = cardinality(publication_oids)
     and cardinality(publication_names) = cardinality(publication_xmins))
);
comment on table campfire.slots is
  'What was true when the relay created a replication slot, and how it is set; written and compared by the relay; never dumped.';
comment on column campfire.slots.slot_name is 'Name of the replication slot.';
comment on column campfire.slots.system_identifier is 'Cluster in which the slot was created.';
comment on column campfire.slots.timeline is 'Timeline of that cluster then.';
comment on column campfire.slots.publication_names is 'Publications the slot is read with.';
comment on column campfire.slots.publication_oids is 'Their oids then: one that was made after the slot cannot be decoded by it.';
comment on column campfire.slots.publication_xmins is 'xmin of their rows in pg_publication then.';
comment on column campfire.slots.created_at is 'When the slot was created.';
comment on column campfire.slots.public_channels is
  'Whether the relay that attached last lets clients join public channels outside org: (CAMPFIRE_PUBLIC_CHANNELS); null before that.';
