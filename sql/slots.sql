-- What the slot guard did. The guard itself is a background worker, in servers that preload the library.

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
