// The endpoint of the design that docs/architecture.md compares with: Express, pg with its default
// pool, and for solution 1 a lock in Redis. Its payment answers at once, and always with success,
// so what the design does after a failed payment is left out.
//
// From the environment: SOLUTION (1, 2 or 3), PAYMENT (instant, or none to only reserve), LISTEN
// (a port of 127.0.0.1), REDIS (the path of a socket), and the database as pg reads it.

import { setTimeout as pause } from 'node:timers/promises'
import express from 'express'
import pg from 'pg'
import { createClient } from 'redis'

const LOCK_TIMEOUT_MS = 5_000
const MOST_ATTEMPTS = 3
const RETRY_DELAY_MS = 10

const pays = process.env.PAYMENT === 'instant'
const pool = new pg.Pool()
const redis = createClient({ socket: { path: process.env.REDIS } })

const refused = (reason) => ({ success: false, reason })
const OUT_OF_STOCK = 'Out of stock'

// ---- solution 1: a lock in Redis around a row lock --------------------------------------

async function purchaseLocked(itemId, userId) {
  const key = `purchase:${itemId}`
  const value = `${Date.now()}-${Math.random()}`
  if (!(await redis.set(key, value, { PX: LOCK_TIMEOUT_MS, NX: true }))) {
    return refused('Item currently being purchased')
  }
  try {
    const reserved = await reserveLocked(itemId, userId)
    return reserved.success ? await pay(reserved, itemId, userId) : reserved
  } finally {
    if ((await redis.get(key)) === value) await redis.del(key)
  }
}

async function reserveLocked(itemId, userId) {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    const reserved = await reserveIn(client, itemId, userId)
    await client.query(reserved.success ? 'COMMIT' : 'ROLLBACK')
    return reserved
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
}

async function reserveIn(client, itemId, userId) {
  const found = await client.query(
    'SELECT id, inventory, version FROM peer.items WHERE id = $1 FOR UPDATE NOWAIT', [itemId])
  const item = found.rows[0]
  if (!item) return refused('Item not found')
  if (item.inventory <= 0) return refused(OUT_OF_STOCK)
  const taken = await client.query(
    `UPDATE peer.items SET inventory = inventory - 1, version = version + 1
     WHERE id = $1 AND inventory > 0 AND version = $2 RETURNING inventory`, [itemId, item.version])
  if (taken.rowCount === 0) return refused(OUT_OF_STOCK)
  const order = await client.query(
    `INSERT INTO peer.orders (user_id, item_id, status, created_at)
     VALUES ($1, $2, 'reserved', now()) RETURNING id`, [userId, itemId])
  return { success: true, orderId: order.rows[0].id, inventory: taken.rows[0].inventory }
}

// ---- solution 2: the version -----------------------------------------------------------

async function purchaseOptimistic(itemId, userId) {
  for (let attempt = 1; ; attempt++) {
    const found = await pool.query(
      'SELECT id, inventory, version FROM peer.items WHERE id = $1', [itemId])
    const item = found.rows[0]
    if (!item) return refused('Item not found')
    if (item.inventory <= 0) return refused(OUT_OF_STOCK)
    const taken = await pool.query(
      `UPDATE peer.items SET inventory = inventory - 1, version = version + 1
       WHERE id = $1 AND inventory > 0 AND version = $2 RETURNING inventory`,
      [itemId, item.version])
    if (taken.rowCount > 0) {
      const reserved = await ordered(itemId, userId, taken.rows[0].inventory)
      if (pays) await charge(userId, itemId, reserved.orderId) // it leaves the order reserved
      return reserved
    }
    if (attempt === MOST_ATTEMPTS) return refused('Concurrent modification, please retry')
    await pause(RETRY_DELAY_MS)
  }
}

// ---- solution 3: a conditional decrement -------------------------------------------------

async function purchaseAtomic(itemId, userId) {
  const taken = await pool.query(
    `UPDATE peer.items SET inventory = inventory - 1 WHERE id = $1 AND inventory > 0
     RETURNING inventory`, [itemId])
  if (taken.rowCount === 0) return refused(OUT_OF_STOCK)
  return pay(await ordered(itemId, userId, taken.rows[0].inventory), itemId, userId)
}

// ---- orders and payment -----------------------------------------------------------------

async function ordered(itemId, userId, inventory) {
  const order = await pool.query(
    `INSERT INTO peer.orders (user_id, item_id, status) VALUES ($1, $2, 'reserved') RETURNING id`,
    [userId, itemId])
  return { success: true, orderId: order.rows[0].id, inventory }
}

const charge = async () => ({ success: true })

async function pay(reserved, itemId, userId) {
  if (!pays) return reserved
  await charge(userId, itemId, reserved.orderId)
  await pool.query(`UPDATE peer.orders SET status = 'confirmed' WHERE id = $1`, [reserved.orderId])
  return reserved
}

// ---- the endpoint -----------------------------------------------------------------------

const purchase = { 1: purchaseLocked, 2: purchaseOptimistic, 3: purchaseAtomic }[process.env.SOLUTION]
const app = express()

app.post('/purchase/:itemId', async (request, response) => {
  try {
    const result = await purchase(request.params.itemId, request.get('x-user'))
    if (result.success) {
      const { orderId, inventory } = result
      response.json({ success: true, orderId, remainingInventory: inventory })
    } else {
      response.status(400).json({ success: false, reason: result.reason })
    }
  } catch (error) {
    console.error('Purchase error:', error)
    response.status(500).json({ success: false, reason: 'Internal server error' })
  }
})

await redis.connect()
app.listen(Number(process.env.LISTEN), '127.0.0.1')
