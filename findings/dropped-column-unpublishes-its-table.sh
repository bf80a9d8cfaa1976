#!/usr/bin/env bash
# DROP COLUMN ... CASCADE takes the whole table out of a publication that lists the column.
#
# Software: PostgreSQL 15.18, 18.4; publications with a column list.
# Guess:    CASCADE takes the column out of the list, as it takes it out of nothing else that has other columns.
# Seen:     A list is one object. It falls as a whole, and the table with it: the publication goes on without the table,
#           and its readers get no error, only no more rows.
source "$(dirname "$0")/lib/setup.sh"
for version in 15 18; do postgres $version; done
javascript <<'JS' | seen_is "15.18
published: id, name, note
drop column note: error 2BP01: cannot drop column note of table people because other objects depend on it
drop column note cascade: ok
published: nothing
18.4
published: id, name, note
drop column note: error 2BP01: cannot drop column note of table people because other objects depend on it
drop column note cascade: ok
published: nothing"
import { attempt, connect, sql } from './postgres.mjs'
for (const version of [15, 18]) {
  const client = await connect(version)
  const published = async () => {
    const rows = await sql(client, "select attnames::text[] as names from pg_publication_tables where pubname = 'chosen'")
    console.log('published:', rows.map(({ names }) => names.join(', ')).join() || 'nothing')
  }
  console.log((await sql(client, 'show server_version'))[0].server_version)
  await sql(client, `create table people (id int primary key, name text, note text, secret text);
    create publication chosen for table people (id, name, note)`)
  await published()
  for (const statement of ['drop column note', 'drop column note cascade']) {
    console.log(`${statement}: ${await attempt(client, `alter table people ${statement}`)}`)
  }
  await published()
  await client.end()
}
JS
