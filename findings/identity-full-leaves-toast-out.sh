#!/usr/bin/env bash
# REPLICA IDENTITY FULL does not complete the new row: a long value that did not change is still left out of it.
#
# Software: PostgreSQL 15.18, 18.4; pgoutput.
# Guess:    With FULL every UPDATE carries both rows whole, so the marker "unchanged TOAST" cannot occur any more.
# Seen:     The old row has the value, the new row has the marker. A reader that takes the new row alone, as one may when
#           there is an old row beside it, loses the value; it has to be copied over from the old one.
source "$(dirname "$0")/lib/setup.sh"
for version in 15 18; do postgres $version; done
javascript <<'JS' | seen_is "15.18
update pages old: id=1 visits=1 body=(5000 characters) new: id=1 visits=2 body=(unchanged TOAST)
18.4
update pages old: id=1 visits=1 body=(5000 characters) new: id=1 visits=2 body=(unchanged TOAST)"
import { connect, decode, sql } from './postgres.mjs'
for (const version of [15, 18]) {
  const client = await connect(version)
  console.log((await sql(client, 'show server_version'))[0].server_version)
  await sql(client, `create table pages (id int primary key, visits int, body text);
    alter table pages alter body set storage external;
    alter table pages replica identity full;
    create publication everything for table pages;
    insert into pages values (1, 1, repeat('x', 5000))`)
  await sql(client, "select pg_create_logical_replication_slot('reader', 'pgoutput')")
  await sql(client, 'update pages set visits = 2')
  const lines = await decode(client, 'reader', 'everything')
  for (const line of lines.filter((line) => line.startsWith('update'))) console.log(line)
  await client.end()
}
JS
