#!/usr/bin/env bash
# What format_type() and regtype say of char(n) without its length is another type when it is read back: char(1).
#
# Software: PostgreSQL 15.18, 18.4.
# Guess:    format_type(type, null) is the type's name for any length, so it can be pasted into CREATE TABLE or a cast to
#           get a column that takes every value, as it is for varchar, numeric and timestamp.
# Seen:     For bpchar it says "character", which SQL reads as character(1): a column made by it refuses longer values, and
#           a cast by it cuts them to one letter without an error. format_type(type, -1) says "bpchar", which is right.
source "$(dirname "$0")/lib/setup.sh"
for version in 15 18; do postgres $version; done
javascript <<'JS' | seen_is "15.18
varchar: null says character varying, -1 says character varying; cast of 123: 123; insert: ok
numeric: null says numeric, -1 says numeric; cast of 123: 123; insert: ok
bpchar: null says character, -1 says bpchar; cast of 123: 1; insert: error 22001: value too long for type character(1)
18.4
varchar: null says character varying, -1 says character varying; cast of 123: 123; insert: ok
numeric: null says numeric, -1 says numeric; cast of 123: 123; insert: ok
bpchar: null says character, -1 says bpchar; cast of 123: 1; insert: error 22001: value too long for type character(1)"
import { attempt, connect, sql } from './postgres.mjs'
for (const version of [15, 18]) {
  const client = await connect(version)
  console.log((await sql(client, 'show server_version'))[0].server_version)
  for (const type of ['varchar', 'numeric', 'bpchar']) {
    const [{ name, other }] = await sql(client, `select format_type('${type}'::regtype, null) as name, format_type('${type}'::regtype, -1) as other`)
    const [{ value }] = await sql(client, `select ('123'::${type})::${name} as value`)
    const table = `made_by_${type}`
    await sql(client, `create table ${table} (value ${name})`)
    console.log(`${type}: null says ${name}, -1 says ${other}; cast of 123: ${value}; insert: ${await attempt(client, `insert into ${table} values ('123')`)}`)
  }
  await client.end()
}
JS
