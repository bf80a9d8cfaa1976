#!/usr/bin/env bash
# A logical reader is sent a transaction that no session of the same server can see yet.
#
# Software: PostgreSQL 15.18, 18.4; synchronous_standby_names.
# Guess:    What a logical slot gives is committed, so a query that begins afterwards, on the same server, shows it.
# Seen:     A commit that waits for a synchronous standby has its record in the WAL, and logical decoding goes by the
#           WAL: the row is streamed. Sessions go by the list of running transactions, which it leaves only after the
#           wait. Who is told of a row and looks it up finds nothing, for as long as the standby takes.
source "$(dirname "$0")/lib/setup.sh"
for version in 15 18; do postgres $version synchronous_standby_names=absent; done
javascript <<'JS' | seen_is "15.18
streamed: insert orders id=1; rows that another session sees: 0
after the wait: 1
18.4
streamed: insert orders id=1; rows that another session sees: 0
after the wait: 1"
import { connect, decode, sql } from './postgres.mjs'
for (const version of [15, 18]) {
  const [writer, reader] = [await connect(version), await connect(version)]
  const count = async () => (await sql(reader, 'select count(*)::int as rows from orders'))[0].rows
  console.log((await sql(reader, 'show server_version'))[0].server_version)
  await sql(reader, 'set synchronous_commit = local')
  await sql(reader, 'create table orders (id int primary key); create publication everything for table orders')
  await sql(reader, "select pg_create_logical_replication_slot('reader', 'pgoutput')")
  const [{ pid }] = await sql(writer, 'select pg_backend_pid() as pid')
  const writing = sql(writer, 'insert into orders values (1)')
  while ((await sql(reader, `select wait_event from pg_stat_activity where pid = ${pid}`))[0].wait_event !== 'SyncRep');
  const streamed = (await decode(reader, 'reader', 'everything')).filter((line) => line.startsWith('insert'))
  console.log(`streamed: ${streamed}; rows that another session sees: ${await count()}`)
  await sql(reader, `select pg_cancel_backend(${pid})`) // ends the wait; the commit stands
  await writing
  console.log(`after the wait: ${await count()}`)
  await Promise.all([writer.end(), reader.end()])
}
JS
