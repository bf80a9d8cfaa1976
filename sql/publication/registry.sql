-- Publications that campfire looks after.

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
