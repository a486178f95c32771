// One process of node-postgres clients: `node work.js PORT DATABASE TEST CLIENTS`; prints what it found as JSON.
'use strict';
const assert = require('node:assert');
const { createRequire } = require('node:module');
const { Client, Pool } = createRequire(process.cwd() + '/package.json')('pg');

const [port, database, test, clients] = process.argv.slice(2);
const place = { host: '127.0.0.1', port: Number(port), user: 'app', database };
const INSERT = 'INSERT INTO items VALUES ($1, $2, $3, $4)';
const COUNT = 'SELECT count(*)::int AS count FROM items WHERE test = $1 AND client = $2';
const crowd = (count, work) => Promise.all(Array.from({ length: count }, (_, n) => work(n)));

async function connected(work, more) {
  const client = new Client({ ...place, ...more });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const tasks = {
  async parameters(n) {
    return connected(async (client) => {
      for (let k = 0; k < 20; k++) {
        const { rows } = await client.query('SELECT $1::int + $2::int AS sum, $3::text AS tag', [n, k, `${n}/${k}`]);
        assert.deepStrictEqual(rows, [{ sum: n + k, tag: `${n}/${k}` }]);
      }
      return 20;
    });
  },

  async named(n) {
    return connected(async (client) => {
      for (let k = 0; k < 20; k++) {
        const own = { name: 'mine', text: `SELECT 'client ${n}: ' || $1 AS told`, values: [`turn ${k}`] };
        assert.strictEqual((await client.query(own)).rows[0].told, `client ${n}: turn ${k}`);
        const shared = { name: 'shared', text: 'SELECT $1::int * 2 AS twice', values: [k], rowMode: 'array' };
        assert.deepStrictEqual((await client.query(shared)).rows, [[2 * k]]);
      }
      return 40;
    });
  },

  async queued(n) {
    return connected(async (client) => {
      const asked = Array.from({ length: 30 }, (_, k) => client.query('SELECT $1::int AS k, $2::int AS n', [k, n]));
      (await Promise.all(asked)).forEach(({ rows }, k) => assert.deepStrictEqual(rows, [{ k, n }]));
      return 30;
    });
  },

  async transactions(n) {
    return connected(async (client) => {
      for (let k = 0; k < 10; k++) {
        await client.query('BEGIN');
        await client.query({ name: 'insert', text: INSERT, values: [test, n, k, 'node'] });
        const { rows } = await client.query(COUNT, [test, n]);
        assert.strictEqual(rows[0].count, Math.ceil(k / 2) + 1);
        await client.query(k % 2 ? 'ROLLBACK' : 'COMMIT');
      }
      return (await client.query(COUNT, [test, n])).rows[0].count;
    });
  },

  async errors(n) {
    return connected(async (client) => {
      let seen = 0;
      for (let k = 0; k < 10; k++) {
        await assert.rejects(client.query('SELECT 1 / $1::int', [0]), { code: '22012' });
        await assert.rejects(client.query({ name: 'wrong', text: 'SELECT nothing' }), { code: '42703' });
        await assert.rejects(client.query('SELEKT'), { code: '42601' });
        seen += (await client.query('SELECT $1::int AS one', [1])).rows[0].one;
      }
      return seen;
    });
  },

  async types(n) {
    return connected(async (client) => {
      const born = new Date('2020-01-02T03:04:05.678Z');
      const { rows } = await client.query(
        `INSERT INTO people (test, id, feels, tags, worth, born, more, raw) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         RETURNING feels, tags, worth, born, more, raw, current_setting('application_name') AS name`,
        [test, n, 'happy', ['a', 'b,c', null], '12.340', born, { deep: [n] }, Buffer.from([0, 255])],
      );
      assert.deepStrictEqual(rows, [{
        feels: 'happy', tags: ['a', 'b,c', null], worth: '12.340', born, more: { deep: [n] },
        raw: Buffer.from([0, 255]), name: `node ${n}`,
      }]);
      return 1;
    }, { application_name: `node ${n}` });
  },
};

async function pooled() {
  const pool = new Pool({ ...place, max: Number(clients) });
  const sums = await crowd(200, async (n) => (await pool.query('SELECT $1::int AS n', [n])).rows[0].n);
  await pool.end();
  return sums.reduce((a, b) => a + b);
}

async function main() {
  const found = { pooled: await pooled() };
  for (const [name, work] of Object.entries(tasks)) {
    found[name] = (await crowd(Number(clients), work)).reduce((a, b) => a + b);
  }
  console.log(JSON.stringify(found));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
