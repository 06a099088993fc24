// Buys through PostGraphile over docs/api-schema.sql, which the database has. The server is in the
// environment; as whom PostGraphile logs in is SHOP_LOGIN.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';

import jwt from 'jsonwebtoken';
import pg from 'pg';
import { postgraphile } from 'postgraphile';

const SECRET = 'known to the test alone';
const AUDIENCE = 'shop';
const PURCHASE = `mutation ($item: BigInt!, $key: String!, $quantity: BigInt) {
  purchase(input: {itemId: $item, idempotencyKey: $key, quantity: $quantity}) { json }
}`;
const MY_ORDER = 'query ($ref: String!) { myOrder(orderRef: $ref) }';
const CANCEL = 'mutation ($ref: String!) { cancelMyOrder(input: {orderRef: $ref}) { json } }';
const ITEM = 'query ($item: BigInt!) { item(itemId: $item) }';

const operator = new pg.Pool();
const shop = new pg.Pool({ user: process.env.SHOP_LOGIN });
const server = createServer(
  postgraphile(shop, 'api', {
    jwtSecret: SECRET,
    jwtVerifyOptions: { audience: AUDIENCE },
    pgDefaultRole: 'shop_visitor',
    dynamicJson: true,
    ignoreRBAC: false,
    disableQueryLog: true,
  }),
);

before(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});

after(async () => {
  server.close();
  await Promise.all([shop.end(), operator.end()]);
});

function token(user, secret = SECRET) {
  return jwt.sign({ sub: user }, secret, { audience: AUDIENCE, expiresIn: '1 minute' });
}

/** The answer to a request with this token, or with none. */
async function request(bearer, query, variables) {
  const response = await fetch(`http://127.0.0.1:${server.address().port}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(bearer && { authorization: `Bearer ${bearer}` }) },
    body: JSON.stringify({ query, variables }),
  });
  return response.json();
}

/** What the only field of the request returns. */
async function ask(user, query, variables) {
  const { data, errors } = await request(user && token(user), query, variables);
  assert.equal(errors, undefined, JSON.stringify(errors));
  const [value] = Object.values(data);
  return 'json' in value ? value.json : value;
}

async function newItem(inventory) {
  const { rows } = await operator.query('SELECT flashsale.create_item($1, unit_price => 500) AS item', [inventory]);
  return rows[0].item;
}

async function orders(item) {
  const { rows } = await operator.query(
    'SELECT user_id, status, quantity::int FROM flashsale.orders WHERE item_id = $1 ORDER BY order_id', [item]);
  return rows;
}

test('a buyer buys', async () => {
  const item = await newItem(3);
  const answer = await ask('alice', PURCHASE, { item, key: 'basket', quantity: '2' });
  assert.deepEqual([answer.success, answer.status, answer.remaining_inventory], [true, 'reserved', 1]);
  assert.deepEqual(await orders(item), [{ user_id: 'alice', status: 'reserved', quantity: 2 }]);
});

test('the same key is the same order', async () => {
  const item = await newItem(3);
  const first = await ask('alice', PURCHASE, { item, key: 'basket' });
  const again = await ask('alice', PURCHASE, { item, key: 'basket' });
  assert.deepEqual([again.replayed, again.order_ref], [true, first.order_ref]);
});

test('a sold-out item', async () => {
  const item = await newItem(1);
  await ask('alice', PURCHASE, { item, key: 'basket' });
  const refused = await ask('bob', PURCHASE, { item, key: 'basket' });
  assert.deepEqual([refused.success, refused.reason], [false, 'out_of_stock']);
  const { available, state } = await ask(null, ITEM, { item }); // which anybody may look at
  assert.deepEqual([available, state], [false, 'sold_out']);
});

test('a crowd gets exactly what there is', async () => {
  const item = await newItem(10);
  const buyers = Array.from({ length: 40 }, (_, n) => ask(`buyer ${n}`, PURCHASE, { item, key: 'basket' }));
  const answers = await Promise.all(buyers);
  assert.equal(answers.filter((answer) => answer.success).length, 10);
  assert.equal((await orders(item)).length, 10);
  const looks = await Promise.all(Array.from({ length: 40 }, () => ask(null, ITEM, { item })));
  assert.ok(looks.every((look) => look.state === 'sold_out'));
});

test('orders are seen by their buyer alone', async () => {
  const { order_ref: ref, order_id: id } = await ask('alice', PURCHASE, { item: await newItem(1), key: 'basket' });
  assert.equal((await ask('alice', MY_ORDER, { ref })).status, 'reserved');
  const unknown = await ask('bob', MY_ORDER, { ref: '1-0000000000' });
  assert.equal(unknown.reason, 'order_not_found');
  for (const name of [ref, String(id)]) {
    assert.deepEqual(await ask('bob', MY_ORDER, { ref: name }), { ...unknown, order_ref: name });
  }
  const { orders: own } = await ask('alice', '{ myOrders }');
  assert.ok(own.some((order) => order.order_ref === ref));
  const { orders: others = [] } = await ask('bob', '{ myOrders }');
  assert.ok(others.every((order) => order.user_id === 'bob'));
});

test('orders are cancelled by their buyer alone', async () => {
  const item = await newItem(1);
  const { order_ref: ref } = await ask('alice', PURCHASE, { item, key: 'basket' });
  assert.equal((await ask('bob', CANCEL, { ref })).reason, 'order_not_found');
  assert.equal((await orders(item))[0].status, 'reserved');
  const answer = await ask('alice', CANCEL, { ref });
  assert.deepEqual([answer.status, answer.restored], ['cancelled', 1]);
});

test('nobody buys without a token, or with a forged one', async () => {
  const item = await newItem(1);
  const anonymous = await request(null, PURCHASE, { item, key: 'basket' });
  assert.equal(anonymous.errors[0].message, 'you are not signed in');
  const forged = await request(token('alice', 'a guess'), PURCHASE, { item, key: 'basket' });
  assert.equal(forged.errors[0].message, 'invalid signature');
  const after = await request(null, '{ myOrders }'); // no request inherits the user of the one before
  assert.equal(after.errors[0].message, 'you are not signed in');
  assert.deepEqual(await orders(item), []);
});

test('a wrong argument', async () => {
  const item = await newItem(1);
  const { errors } = await request(token('alice'), PURCHASE, { item, key: 'basket', quantity: '0' });
  assert.equal(errors[0].message, 'quantity is 0: it must be at least 1');
});

test('the API has these fields and no others', async () => {
  const query = '{ __schema { queryType { fields { name } } mutationType { fields { name } } } }';
  const { data } = await request(null, query);
  const names = ({ fields }) => fields.map((field) => field.name).sort();
  const ofRelay = ['node', 'nodeId', 'query'];
  const queries = names(data.__schema.queryType).filter((name) => !ofRelay.includes(name));
  assert.deepEqual(queries, ['item', 'myOrder', 'myOrders']);
  assert.deepEqual(names(data.__schema.mutationType), ['cancelMyOrder', 'purchase']);
});

test('a purchase needs a key, and names no user', async () => {
  const query = '{ __type(name: "PurchaseInput") { inputFields { name type { kind } } } }';
  const { data } = await request(null, query);
  const kinds = Object.fromEntries(data.__type.inputFields.map(({ name, type }) => [name, type.kind]));
  delete kinds.clientMutationId; // Relay's
  assert.deepEqual(kinds, { itemId: 'NON_NULL', idempotencyKey: 'NON_NULL', quantity: 'SCALAR' });
});

const refused = { code: '42501' };
test('the roles of the API can do nothing else', { skip: process.env.SHOP_LOGIN !== 'shop_web' }, async () => {
  await assert.rejects(shop.query("SELECT api.item(1)"), refused);
  const client = await shop.connect();
  await client.query('SET ROLE shop_visitor');
  for (const call of ["flashsale.confirm_order(1)", "flashsale.get_order(1)", 'api_private.buyer()']) {
    await assert.rejects(client.query(`SELECT ${call}`), refused, call);
  }
  await assert.rejects(client.query('SELECT FROM flashsale.orders'), refused);
  await assert.rejects(client.query('SET ROLE shop_api'), refused);
  client.release(true);
});
