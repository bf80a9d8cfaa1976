#!/usr/bin/env bash
# An application that starts with Sequelize's `sync({ alter: true })` does not start any more once a column of its table is
# in a publication's column list, although neither model nor table has changed.
#
# Software: sequelize 6.37.8, pg 8.23.1, PostgreSQL 15.18.
# Guess:    `alter` compares the model with the table and changes what differs: nothing, at the second start.
# Seen:     It sets the type of every column but the primary key again, at each start, without looking. Postgres takes that
#           in silence for an ordinary table, and refuses it for a listed column (listed-column-keeps-its-type.sh), so that
#           sync() fails. Without a list the second start works, published or not.
source "$(dirname "$0")/lib/setup.sh"
postgres 15
npm_install sequelize@6.37.8
javascript <<'JS' | seen_is 'first start: ok, 0 columns get a type
second start: ok, 2 columns get a type
published whole: ok, 2 columns get a type
published with a list: cannot alter type of a column used by a publication WHERE clause'
import { DataTypes, Sequelize } from 'sequelize'
import { connect } from './postgres.mjs'
const client = await connect(15)
async function start(what) {
  let typed = 0
  const logging = (statement) => (typed += /ALTER COLUMN \S+ TYPE/.test(statement))
  const sequelize = new Sequelize({ dialect: 'postgres', host: `${process.cwd()}/pg15`, username: 'postgres', database: 'postgres', logging })
  sequelize.define('order', {
    id: { type: DataTypes.INTEGER, primaryKey: true },
    shop: { type: DataTypes.INTEGER, allowNull: false },
    name: DataTypes.STRING,
  }, { timestamps: false })
  const outcome = await sequelize.sync({ alter: true }).then(() => `ok, ${typed} columns get a type`, ({ message }) => message)
  console.log(`${what}: ${outcome}`)
  await sequelize.close()
}
await start('first start')
await start('second start')
await client.query('create publication p for table orders')
await start('published whole')
await client.query('alter publication p set table orders (id, shop, name)')
await start('published with a list')
await client.end()
JS
