export * from './answers.js';
export {
  type Charge,
  type NewItem,
  type OrderName,
  type PurchaseOptions,
  type PurchaseRequest,
  type Queryable,
  type Strategy,
  type User,
  audit,
  beginPayment,
  cancelOrder,
  confirmOrder,
  createItem,
  findPayment,
  getOrder,
  health,
  itemAvailability,
  pauseItem,
  paymentChecks,
  purchaseBatch,
  purchaseItem,
  reconcileStaleReservations,
  refundOrder,
  refundPayment,
  refundsDue,
  restockItem,
  resumeItem,
  userOrders,
} from './calls.js';
export { Closed, OutcomeUnknown, Overloaded } from './errors.js';
export { Gatherer, type GathererOptions } from './gatherer.js';
export { type RetryOptions, purchaseWithRetry, withRetry } from './retry.js';
