#!/usr/bin/env bash
# Adding a virtual generated column, PostgreSQL 18's default kind, stops every UPDATE and DELETE of a published table
# whose replica identity is full.
#
# Software: PostgreSQL 18.4.
# Guess:    A virtual column is stored nowhere, so it is no part of an identity that is made of what is stored.
# Seen:     ALTER TABLE succeeds. From then on UPDATE and DELETE fail: the identity must not contain generated columns
#           that are not published. `publish_generated_columns = stored` mends a STORED column and not a virtual one,
#           which can be published by no setting at all; so only another identity, or dropping the column, helps.
source "$(dirname "$0")/lib/setup.sh"
postgres 18
javascript <<'JS' | seen_is "update before: ok
add the column: ok
update: error 42P10: cannot update table \"items\" (Replica identity must not contain unpublished generated columns.)
delete: error 42P10: cannot delete from table \"items\" (Replica identity must not contain unpublished generated columns.)
insert: ok
publish generated columns: ok
update: error 42P10: cannot update table \"items\" (Replica identity must not contain unpublished generated columns.)
make it a stored one: ok
update: ok"
import { connect } from './postgres.mjs'
const client = await connect(18)
await client.query(`create table items (id int primary key, price int);
  alter table items replica identity full;
  create publication everything for table items;
  insert into items values (1, 10)`)
const steps = {
  'update before': 'update items set price = 11',
  'add the column': 'alter table items add column gross int generated always as (price * 119 / 100)',
  update: 'update items set price = 12',
  delete: 'delete from items',
  insert: 'insert into items values (2, 20)',
  'publish generated columns': 'alter publication everything set (publish_generated_columns = stored)',
  'update ': 'update items set price = 12',
  'make it a stored one': `alter table items drop column gross;
    alter table items add column gross int generated always as (price * 119 / 100) stored`,
  'update  ': 'update items set price = 12',
}
for (const [what, statement] of Object.entries(steps)) {
  const outcome = await client.query(statement).then(() => 'ok', ({ code, message, detail }) => `error ${code}: ${message} (${detail})`)
  console.log(`${what.trim()}: ${outcome}`)
}
await client.end()
JS
