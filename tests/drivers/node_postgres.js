// node-postgres at its default settings. $STEPS names the steps to run; absent, all are.
'use strict'

const assert = require('node:assert')
const { Client } = require('pg')

const address = { host: process.env.HOST, port: Number(process.env.PORT), user: 'anyone', database: 'defaultdb' }

// An INT of CockroachDB has eight bytes, which node-postgres gives as text.
const number = (row) => Number(row.n)

async function transaction(client) {
  await client.query('create table t (n int primary key)')
  await client.query('begin')
  await client.query('insert into t values ($1)', [1])
  await client.query('commit')
  await client.query('begin')
  await client.query('insert into t values ($1)', [2])
  await client.query('rollback')
  const { rows } = await client.query('select n from t')
  assert.deepStrictEqual(rows.map(number), [1])
}

async function prepared(client) {
  for (let turn = 0; turn < 10; turn++) {
    const { rows } = await client.query({ name: 'sum', text: 'select n + $1::int as n from t', values: [turn] })
    assert.strictEqual(number(rows[0]), turn + 1)
  }
}

// A cancel request goes by a connection of its own, with the key that startup gave.
async function cancel(client) {
  const running = new Promise((resolve) => client.once('notice', resolve))
  const statement = client.query("do $$ begin raise notice 'it runs'; perform pg_sleep(60); end $$")
  await running
  const canceller = new Client(address)
  canceller.connection.connect(address.port, address.host)
  canceller.connection.once('connect', () => canceller.connection.cancel(client.processID, client.secretKey))
  await assert.rejects(statement, { code: '57014' })
}

async function error(client) {
  await assert.rejects(client.query('insert into t values (1)'), { code: '23505', constraint: 't_pkey' })
}

async function main() {
  const client = new Client(address)
  await client.connect()
  const chosen = process.env.STEPS?.split(' ')
  for (const step of [transaction, prepared, cancel, error]) {
    if (chosen && !chosen.includes(step.name)) continue
    await step(client)
    console.log(step.name)
  }
  await client.end()
}

main().then(() => process.exit(0), (reason) => {
  console.error(reason)
  process.exit(1)
})
