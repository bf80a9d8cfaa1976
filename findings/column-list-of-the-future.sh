#!/usr/bin/env bash
# A row is sent with the column list of a publication as it was changed *after* the row was written.
#
# Software: PostgreSQL 15.18, 18.4; pgoutput.
# Guess:    Logical decoding looks at the catalog as it was when a row was written, so each row has the list of its time.
# Seen:     A transaction writes a row, then another one changes the list and commits, then the first one commits. Its
#           row comes with the new list: a column that was published when the row was written is missing, and one that
#           was not published then is sent. Decoding begins at the commit, and what is known of the list stays until
#           the transaction that changed it is met.
source "$(dirname "$0")/lib/setup.sh"
for version in 15 18; do postgres $version; done
javascript <<'JS' | seen_is "15.18
relation pairs (id, new) identity default
insert pairs id=2 new=b
insert pairs id=1 new=secret then
18.4
relation pairs (id, new) identity default
insert pairs id=2 new=b
insert pairs id=1 new=secret then"
import { connect, decode, sql } from './postgres.mjs'
for (const version of [15, 18]) {
  const [early, late] = [await connect(version), await connect(version)]
  console.log((await sql(early, 'show server_version'))[0].server_version)
  await sql(early, 'create table pairs (id int primary key, old text, new text); create publication chosen for table pairs (id, old)')
  await sql(early, "select pg_create_logical_replication_slot('reader', 'pgoutput')")
  await sql(early, "begin; insert into pairs values (1, 'public then', 'secret then')")
  await sql(late, 'begin; alter publication chosen drop table pairs; alter publication chosen add table pairs (id, new); commit')
  await sql(late, "insert into pairs values (2, 'a', 'b')")
  await sql(early, 'commit')
  for (const line of await decode(late, 'reader', 'chosen')) console.log(line)
  await Promise.all([early.end(), late.end()])
}
JS
