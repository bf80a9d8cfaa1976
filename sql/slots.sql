-- Replication slots: what the relay knew of them when it made them, and what the slot guard did to them. The guard itself is
-- a background worker, in servers that preload the library.

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

-- Facts about slots of this cluster; a dump must not carry them to another.
create table campfire.slot_events (
  occurred_at timestamptz not null default clock_timestamp(),
  slot_name name not null,
  event text not null check (event in ('dropped')),
  restart_lsn pg_lsn not null,
  confirmed_flush_lsn pg_lsn,
  retained_bytes bigint not null,
  retained_bytes_max bigint not null,
  primary key (occurred_at, slot_name)
);
comment on table campfire.slot_events is
  'Replication slots of this database that the slot guard dropped; never dumped. Rows may be deleted. See campfire.slot_max_retained in the documentation.';
comment on column campfire.slot_events.occurred_at is 'When.';
comment on column campfire.slot_events.slot_name is 'Name of the slot.';
comment on column campfire.slot_events.event is 'What was done: dropped.';
comment on column campfire.slot_events.restart_lsn is 'From where on the server kept WAL for the slot.';
comment on column campfire.slot_events.confirmed_flush_lsn is 'Up to where the slot had been read: what committed after it may not have been sent.';
comment on column campfire.slot_events.retained_bytes is 'WAL that the slot held back.';
comment on column campfire.slot_events.retained_bytes_max is 'What campfire.slot_max_retained allowed.';
