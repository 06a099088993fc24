-- Cancels the orders from :next on, one a call.
SELECT flashsale.cancel_order(:next);
\set next :next + 1
