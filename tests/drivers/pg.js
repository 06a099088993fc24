// The scenarios with Node's pg.

import assert from 'node:assert/strict';

import pg from 'pg';

const PURCHASE = 'SELECT flashsale.purchase_item($1, $2, $3, $4, $5) AS answer';

/** The answer to one call. */
async function ask(client, sql, ...parameters) {
  const { rows } = await client.query(sql, parameters);
  return rows[0].answer;
}

function purchase(client, item, user, { quantity = 1, key = null, strategy = null } = {}) {
  return ask(client, PURCHASE, item, user, quantity, key, strategy);
}

async function newItem(client, units = 10) {
  return ask(client, "SELECT flashsale.create_item($1, unit_price => 500, currency => 'EUR') AS answer", units);
}

async function freeUnits(client, item) {
  return (await ask(client, 'SELECT flashsale.item_availability($1) AS answer', item)).remaining_inventory;
}

const scenarios = {
  async purchase(pool) {
    const item = await newItem(pool);
    const answer = await purchase(pool, item, 'alice');
    assert.equal(answer.success, true);
    assert.equal(answer.status, 'reserved');
    assert.equal(await freeUnits(pool, item), 9);
  },

  async key(pool) {
    const item = await newItem(pool);
    const first = await purchase(pool, item, 'alice', { key: 'basket' });
    const again = await purchase(pool, item, 'alice', { key: 'basket' });
    assert.deepEqual([first.replayed, again.replayed], [false, true]);
    assert.equal(again.order_id, first.order_id);
    assert.equal(await freeUnits(pool, item), 9);
  },

  async busy(pool) {
    const item = await newItem(pool);
    const other = await pool.connect();
    await other.query('BEGIN');
    await purchase(other, item, 'bob');
    const refused = await purchase(pool, item, 'alice');
    assert.deepEqual([refused.success, refused.reason, refused.retryable], [false, 'busy', true]);
    assert.ok(refused.retry_after_ms > 0);
    await other.query('COMMIT');
    other.release();
    assert.equal((await purchase(pool, item, 'alice')).success, true);
  },

  async 'sold-out'(pool) {
    const item = await newItem(pool, 1);
    assert.equal((await purchase(pool, item, 'alice')).success, true);
    const refused = await purchase(pool, item, 'bob');
    assert.deepEqual([refused.reason, refused.retryable], ['out_of_stock', false]);
    assert.equal(refused.remaining_inventory, 0);
  },

  async payment(pool) {
    const { order_ref: ref } = await purchase(pool, await newItem(pool), 'alice', { quantity: 2 });
    assert.equal((await ask(pool, 'SELECT flashsale.begin_payment($1) AS answer', ref)).status, 'paying');
    const confirm = 'SELECT flashsale.confirm_order($1, $2, $3, $4) AS answer';
    const paid = await ask(pool, confirm, ref, `charge ${ref}`, 1000, 'EUR');
    assert.equal(paid.status, 'confirmed');
    const order = await ask(pool, 'SELECT flashsale.get_order($1) AS answer', ref);
    assert.deepEqual([order.total, order.payments[0].payment_ref], [1000, `charge ${ref}`]);
  },

  async ref(pool) {
    const { order_ref: ref, order_id: id } = await purchase(pool, await newItem(pool), 'alice');
    assert.equal((await ask(pool, 'SELECT flashsale.get_order($1) AS answer', ref)).order_id, id);
    // pg sends a number without a type, so this is the function that takes a ref, or an id in digits.
    assert.equal((await ask(pool, 'SELECT flashsale.get_order($1) AS answer', id)).order_ref, ref);
    const unknown = await ask(pool, 'SELECT flashsale.get_order($1) AS answer', `${id}-0000000000`);
    assert.equal(unknown.reason, 'order_not_found');
    assert.equal((await ask(pool, 'SELECT flashsale.cancel_order($1::bigint) AS answer', id)).restored, 1);
  },

  async batch(pool) {
    const item = Number(await newItem(pool, 2));
    const requests = ['alice', 'bob', 'carol'].map((user_id) => ({ item_id: item, user_id }));
    // pg makes a PostgreSQL array of an array, so it gets the text.
    const answers = await ask(pool, 'SELECT flashsale.purchase_batch($1) AS answer', JSON.stringify(requests));
    assert.deepEqual(answers.map((answer) => answer.success), [true, true, false]);
  },

  async error(pool) {
    const item = await newItem(pool);
    const wrong = { code: '22023', message: 'quantity is 0: it must be at least 1' };
    await assert.rejects(purchase(pool, item, 'alice', { quantity: 0 }), wrong);
    assert.equal((await purchase(pool, item, 'alice')).success, true);
  },

  async transaction(pool) {
    const item = await newItem(pool);
    const client = await pool.connect();
    await client.query('BEGIN');
    assert.equal((await purchase(client, item, 'alice', { quantity: 11 })).reason, 'out_of_stock');
    assert.equal((await purchase(client, item, 'alice')).success, true);
    await client.query('ROLLBACK');
    client.release();
    assert.equal(await freeUnits(pool, item), 10);
  },

  async grouped(pool) {
    const item = await newItem(pool);
    assert.equal((await purchase(pool, item, 'alice', { strategy: 'grouped' })).status, 'reserved');
    const client = await pool.connect();
    await client.query('BEGIN');
    await assert.rejects(purchase(client, item, 'alice', { strategy: 'grouped' }), { code: '25001' });
    await client.query('ROLLBACK');
    client.release();
    assert.equal(await freeUnits(pool, item), 9);
  },

  async serialization(pool) {
    const item = await newItem(pool);
    const client = await pool.connect();
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    await freeUnits(client, item);
    await purchase(pool, item, 'bob');
    await assert.rejects(purchase(client, item, 'alice'), { code: '40001' });
    await client.query('ROLLBACK');
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    assert.equal((await purchase(client, item, 'alice')).success, true);
    await client.query('COMMIT');
    client.release();
    assert.equal(await freeUnits(pool, item), 8);
  },

  async repeated(pool) {
    const item = await newItem(pool);
    const calls = async () => {
      for (let n = 0; n < 10; n++) {
        assert.equal((await purchase(pool, item, 'alice', { key: 'basket' })).success, true);
      }
    };
    await calls();
    const other = await pool.connect(); // the others go over another connection of a pooler
    await other.query('BEGIN');
    await other.query('SELECT');
    await calls();
    await other.query('COMMIT');
    other.release();
  },

  async types(pool) {
    const item = await newItem(pool);
    assert.equal(typeof item, 'string'); // bigint
    const answer = await purchase(pool, item, 42);
    assert.equal(typeof answer.order_id, 'number'); // in jsonb
    assert.equal(typeof answer.success, 'boolean');
    assert.ok(!Number.isNaN(Date.parse(answer.expires_at))); // a text
    const order = await ask(pool, 'SELECT flashsale.get_order($1) AS answer', answer.order_ref);
    assert.deepEqual([order.user_id, order.idempotency_key, order.paying_at], ['42', null, null]);
    const uuid = '6b29fc40-ca47-1067-b31d-00dd010662da';
    assert.equal((await purchase(pool, item, uuid)).success, true);
    const orders = await ask(pool, 'SELECT flashsale.user_orders($1) AS answer', uuid);
    assert.equal(orders.orders[0].item_id, Number(item));
  },
};

const pool = new pg.Pool();
for (const [name, scenario] of Object.entries(scenarios)) {
  try {
    await scenario(pool);
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`not ok ${name}: ${error.stack}`);
    process.exit(1); // a transaction may be open
  }
}
await pool.end();
