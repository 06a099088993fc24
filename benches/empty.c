/* The ceiling: a function that takes what flashsale.purchase_item takes, does nothing, and
 * answers with jsonb as long as a purchase's. */
#include "postgres.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(empty);

static const char answer[] =
    "{\"success\": true, \"order_id\": 1234567, \"item_id\": 1, \"quantity\": 1,"
    " \"status\": \"reserved\", \"remaining_inventory\": 1998765433,"
    " \"expires_at\": \"2026-01-01T00:00:00.000000+00:00\","
    " \"unit_price\": null, \"currency\": null, \"replayed\": false}";

Datum empty(PG_FUNCTION_ARGS)
{
    static Datum parsed = 0;

    if (parsed == 0)
    {
        MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

        parsed = DirectFunctionCall1(jsonb_in, CStringGetDatum(answer));
        MemoryContextSwitchTo(caller);
    }
    PG_RETURN_DATUM(parsed);
}
