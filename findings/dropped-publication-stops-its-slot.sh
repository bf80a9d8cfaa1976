#!/usr/bin/env bash
# A slot cannot be read past a transaction that drops the publication and then writes a row, also once the publication
# is there again.
#
# Software: PostgreSQL 15.18, 17.10 (both stop), 18.4 (goes on).
# Guess:    Nothing is published where there is no publication: the row is skipped. Or, since the name is looked up when
#           the slot is read, making a publication of that name again lets the reader go on.
# Seen:     Up to 17 each reading ends with "publication ... does not exist" at the same place: the name is looked up in
#           the catalog as it was at that row, in which no later publication can be. 18 skips the row with a warning.
source "$(dirname "$0")/lib/setup.sh"
for version in 15 17 18; do postgres $version; done
javascript <<'JS' | seen_is "15.18
read: error 42704: publication \"chosen\" does not exist
made again; read: error 42704: publication \"chosen\" does not exist
17.10
read: error 42704: publication \"chosen\" does not exist
made again; read: error 42704: publication \"chosen\" does not exist
18.4
read: nothing
made again; read: relation pairs (id) identity default, insert pairs id=2"
import { connect, decode, sql } from './postgres.mjs'
for (const version of [15, 17, 18]) {
  const client = await connect(version)
  const read = () => decode(client, 'reader', 'chosen')
    .then((lines) => lines.join(', ') || 'nothing', ({ code, message }) => `error ${code}: ${message}`)
  console.log((await sql(client, 'show server_version'))[0].server_version)
  await sql(client, 'create table pairs (id int primary key); create publication chosen for table pairs')
  await sql(client, "select pg_create_logical_replication_slot('reader', 'pgoutput')")
  await sql(client, 'begin; drop publication chosen; insert into pairs values (1); commit')
  console.log('read:', await read())
  await sql(client, 'create publication chosen for table pairs')
  await sql(client, 'insert into pairs values (2)')
  console.log('made again; read:', await read())
  await client.end()
}
JS
