#!/usr/bin/env bash
# After ALTER SCHEMA ... RENAME a logical reader of PostgreSQL 15 goes on with the old name of the schema.
#
# Software: PostgreSQL 15.18 beside 17.10 and 18.4, which announce the new name; pgoutput.
# Guess:    A relation is announced again whenever what the announcement says has changed: column, type, identity, table,
#           schema.
# Seen:     On 15 a renamed table is announced anew and a renamed schema is not: the rows after it come under the relation
#           that was announced with the old schema, until the table itself changes.
source "$(dirname "$0")/lib/setup.sh"
for version in 15 17 18; do postgres $version; done
javascript <<'JS' | seen_is "15.18
relation shop.orders
a row
a row
relation store.purchases
a row
17.10
relation shop.orders
a row
relation store.orders
a row
relation store.purchases
a row
18.4
relation shop.orders
a row
relation store.orders
a row
relation store.purchases
a row"
import { connect, sql } from './postgres.mjs'
for (const version of [15, 17, 18]) {
  const client = await connect(version)
  console.log((await sql(client, 'show server_version'))[0].server_version)
  await sql(client, `create schema shop; create table shop.orders (id int primary key); create publication everything for table shop.orders`)
  await sql(client, "select pg_create_logical_replication_slot('reader', 'pgoutput')")
  await sql(client, 'insert into shop.orders values (1)')
  await sql(client, 'alter schema shop rename to store')
  await sql(client, 'insert into store.orders values (2)')
  await sql(client, 'alter table store.orders rename to purchases')
  await sql(client, 'insert into store.purchases values (3)')
  const rows = await sql(client, `select data from pg_logical_slot_get_binary_changes('reader', null, null,
    'proto_version', '1', 'publication_names', 'everything')`)
  for (const { data } of rows) {
    const kind = String.fromCharCode(data[0])
    if (kind === 'I') console.log('a row')
    if (kind === 'R') console.log(`relation ${data.toString('utf8', 5).split('\0', 2).join('.')}`)
  }
  await client.end()
}
JS
