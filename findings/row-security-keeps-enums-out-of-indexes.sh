#!/usr/bin/env bash
# With row-level security, PostgreSQL uses no index for a comparison of an enum, and does so for one of text.
#
# Software: PostgreSQL 15.18 and 18.4.
# Guess:    An index on (tenant, status) serves "the open ones of a tenant" whether status is an enum or a text. Both have
#           built-in equality, and policies add their own condition to the query without taking others away.
# Seen:     For the owner, whom no policy binds, the enum is in the condition of the index. For a role that a policy binds,
#           only the tenant is; the enum is compared after the row was fetched, because enum_eq is not marked leakproof and
#           texteq is. A partial index whose predicate has the enum is used all the same, since predicates are proven when
#           the query is planned, and nothing is called.
source "$(dirname "$0")/lib/setup.sh"
for version in 15 18; do postgres $version; done
javascript <<'JS' | seen_is "15.18
leakproof: enum_eq false, texteq true, uuid_eq true
owner, enum: by index (tenant, status), filter none
reader, enum: by index (tenant), filter status
reader, text: by index (tenant, status), filter none
reader, enum, partial index: by index (tenant), filter none
18.4
leakproof: enum_eq false, texteq true, uuid_eq true
owner, enum: by index (tenant, status), filter none
reader, enum: by index (tenant), filter status
reader, text: by index (tenant, status), filter none
reader, enum, partial index: by index (tenant), filter none"
import { connect, sql } from './postgres.mjs'
for (const version of [15, 18]) {
  const client = await connect(version)
  console.log((await sql(client, 'show server_version'))[0].server_version)
  const proofs = await sql(client, `select proname, proleakproof from pg_proc
    where proname in ('enum_eq', 'texteq', 'uuid_eq') order by proname`)
  console.log(`leakproof: ${proofs.map((p) => `${p.proname} ${p.proleakproof}`).join(', ')}`)
  await sql(client, `
    create role reader;
    create type state as enum ('open', 'closed');
    create table tickets_enum (tenant uuid, status state, title text);
    create table tickets_text (tenant uuid, status text, title text);
    create index on tickets_enum (tenant, status);
    create index on tickets_text (tenant, status);
    alter table tickets_enum enable row level security;
    alter table tickets_text enable row level security;
    create policy everyone on tickets_enum to reader using (title <> 'secret' or current_user = 'nobody');
    create policy everyone on tickets_text to reader using (title <> 'secret' or current_user = 'nobody');
    grant select on tickets_enum, tickets_text to reader;
    set enable_seqscan = off; set enable_bitmapscan = off`)
  const look = async (who, table) => {
    const [row] = await sql(client, `explain (costs off, format json) select from ${table}
      where tenant = '00000000-0000-4000-8000-000000000001' and status = 'open'`)
    const plan = row['QUERY PLAN'][0].Plan
    const names = (text) => ['tenant', 'status'].filter((name) => (text ?? '').includes(`(${name} =`) || (text ?? '').includes(`(${name})`))
    const [cond, filter] = [names(plan['Index Cond']), names(plan.Filter)]
    console.log(`${who}: by index (${cond.join(', ')}), filter ${filter.join(', ') || 'none'}`)
  }
  await look('owner, enum', 'tickets_enum')
  await sql(client, 'set role reader')
  await look('reader, enum', 'tickets_enum')
  await look('reader, text', 'tickets_text')
  await sql(client, `reset role; drop index tickets_enum_tenant_status_idx;
    create index on tickets_enum (tenant) where status = 'open'; set role reader`)
  await look('reader, enum, partial index', 'tickets_enum')
  await client.end()
}
JS
