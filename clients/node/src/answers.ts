/**
 * The answers. Their fields have the names of the extension's in camelCase; times are Dates, and
 * amounts are in minor units (cents). After `if (answer.success)` TypeScript knows the fields.
 */

export const REASONS = [
  'busy',
  'conflict',
  'item_not_found',
  'out_of_stock',
  'sale_not_started',
  'sale_ended',
  'sale_paused',
  'user_limit_reached',
  'idempotency_key_reused',
  'order_not_found',
  'order_expired',
  'order_cancelled',
  'order_refunded',
  'order_not_confirmed',
  'already_confirmed',
  'duplicate_payment',
  'payment_ref_in_use',
  'amount_mismatch',
  'payment_not_found',
  'payment_not_due',
  'user_not_found',
  'not_enough_free',
] as const;
export type Reason = (typeof REASONS)[number];
export type OrderStatus = 'reserved' | 'paying' | 'confirmed' | 'cancelled' | 'expired' | 'refunded';
export type PaymentStatus = 'paid' | 'due' | 'refunded';
export type ItemState = 'on_sale' | 'sold_out' | 'not_started' | 'ended' | 'paused';

/** A business outcome, not an error. Which of the optional fields there are depends on the reason. */
export interface Refusal {
  success: false;
  reason: Reason;
  /** A sentence for people. */
  message: string;
  /** Whether the same call may succeed a moment later. */
  retryable: boolean;
  retryAfterMs?: number;
  itemId?: number;
  orderId?: number;
  orderRef?: string;
  status?: OrderStatus;
  remainingInventory?: number;
  maxPerUser?: number;
  orderIds?: number[];
  startsAt?: Date;
  endsAt?: Date;
  refundRequired?: boolean;
  userId?: string;
  paymentRef?: string;
}

export type Answer<T extends { success: true }> = T | Refusal;

/** Units reserved by a purchase. */
export interface Reservation {
  success: true;
  orderId: number;
  orderRef: string;
  itemId: number;
  quantity: number;
  status: OrderStatus;
  remainingInventory: number;
  /** null if a replayed order is no longer `reserved`. */
  expiresAt: Date | null;
  unitPrice: number | null;
  currency: string | null;
  replayed: boolean;
}

export interface PaymentBegun {
  success: true;
  orderId: number;
  /** Not there if the order was named by its id. */
  orderRef?: string;
  status: OrderStatus;
  paymentDeadline: Date;
}

export interface Confirmed {
  success: true;
  orderId: number;
  /** Not there if the order was named by its id. */
  orderRef?: string;
  status: OrderStatus;
  alreadyConfirmed: boolean;
  reinstated: boolean;
}

export interface Cancelled {
  success: true;
  orderId: number;
  /** Not there if the order was named by its id. */
  orderRef?: string;
  status: OrderStatus;
  restored: number;
  alreadyClosed: boolean;
}

export interface Payment {
  paymentRef: string | null;
  status: PaymentStatus;
  why: Reason | null;
  amount: number | null;
  currency: string | null;
}

export interface Order {
  success: true;
  orderId: number;
  orderRef: string;
  itemId: number;
  userId: string;
  quantity: number;
  status: OrderStatus;
  unitPrice: number | null;
  currency: string | null;
  total: number | null;
  idempotencyKey: string | null;
  createdAt: Date;
  expiresAt: Date | null;
  payingAt: Date | null;
  paymentDeadline: Date | null;
  confirmedAt: Date | null;
  closedAt: Date | null;
  closeReason: string | null;
  payments: Payment[];
}

export interface UserOrders {
  success: true;
  userId: string;
  orders: Omit<Order, 'success'>[];
}

export interface FoundPayment extends Payment {
  success: true;
  paymentRef: string;
  orderId: number | null;
  orderRef: string | null;
  createdAt: Date;
  dueSince: Date | null;
  refundedAt: Date | null;
  refundRef: string | null;
}

export interface Availability {
  success: true;
  itemId: number;
  name: string | null;
  available: boolean;
  state: ItemState;
  remainingInventory: number;
  unitPrice: number | null;
  currency: string | null;
  maxPerUser: number | null;
  startsAt: Date | null;
  endsAt: Date | null;
}

export interface Restocked {
  success: true;
  itemId: number;
  delta: number;
  stock: number;
  remainingInventory: number;
  replayed: boolean;
}

export interface Paused {
  success: true;
  itemId: number;
  paused: boolean;
}

export interface Reconciled {
  success: true;
  expired: number;
  restored: number;
  skipped: number;
  paymentChecks: number;
  more: boolean;
}

export interface OrderRefunded {
  success: true;
  orderId: number;
  /** Not there if the order was named by its id. */
  orderRef?: string;
  status: OrderStatus;
  restored: number;
  writtenOff: number;
  alreadyRefunded: boolean;
}

export interface PaymentRefunded {
  success: true;
  paymentRef: string;
  orderId: number | null;
  orderRef: string | null;
  status: PaymentStatus;
  refundRef: string | null;
  alreadyRefunded: boolean;
}

/** A row of the view `payment_checks`: ask the gateway, then confirm or cancel the order. */
export interface PaymentCheck {
  orderId: number;
  orderRef: string;
  itemId: number;
  userId: string;
  quantity: number;
  amount: number | null;
  currency: string | null;
  payingAt: Date;
  paymentDeadline: Date;
}

/** A row of the view `refunds_due`: refund it at the gateway, then report it. */
export interface RefundDue {
  paymentRef: string | null;
  orderId: number | null;
  orderRef: string | null;
  userId: string | null;
  amount: number | null;
  currency: string | null;
  dueSince: Date;
  why: Reason;
}

export interface BrokenInvariant {
  invariant: string;
  itemId: number | null;
  orderId: number | null;
  paymentRef: string | null;
  detail: string;
}

/** A row of `health()`: something that needs a person. */
export interface Problem {
  severity: 'error' | 'warning';
  problem: string;
  detail: string;
  hint: string;
}
