//! The sellers in the rush: our strategies and their peers, and the statements that set them up.

use clap::ValueEnum;
use storm::Call;
use tokio_postgres::Config;

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Peer {
    Nowait,
    Optimistic,
    Atomic,
    Grouped,
    /// One conditional UPDATE
    Update,
    Neveroversell,
    /// Sells nothing: the cost of a call
    Empty,
}

/// The statements that differ between peers.
struct Statements {
    /// `$1` units on sale; answers the item.
    create: &'static str,
    /// `$1` the item, `$2` the user; answers as `purchase_item` does.
    buy: &'static str,
    /// `$1` the item, `$2` its units at first; answers the units sold as the orders have it,
    /// and as the stock has it.
    sold: &'static str,
}

const OURS: Statements = Statements {
    create: "SELECT flashsale.create_item($1)",
    buy: "SELECT flashsale.purchase_item($1, $2)",
    sold: "SELECT (SELECT count(*) FROM flashsale.orders o WHERE o.item_id = $1), $2 - inventory
           FROM flashsale.items WHERE item_id = $1",
};

const UPDATE: Statements = Statements {
    create: "INSERT INTO peer.items (id, inventory)
             SELECT coalesce(max(id), 0) + 1, $1 FROM peer.items RETURNING id",
    buy: "SELECT peer.seed3($1, $2)",
    sold: "SELECT (SELECT count(*) FROM peer.orders WHERE item_id = $1), $2 - inventory
           FROM peer.items WHERE id = $1",
};

/// Resources have names there: the time, so that each run has a new one.
const NEVEROVERSELL: Statements = Statements {
    create: "WITH item AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS id)
             SELECT item.id FROM item, nos_upsert_resource(item.id::text, $1::bigint::integer)",
    buy: "SELECT jsonb_build_object('success', status = 'held', 'reason', status)
          FROM nos_hold($1::bigint::text, 1, $2)",
    sold: "SELECT (SELECT count(*) FROM nos_holds
                   WHERE resource_id = $1::bigint::text AND state = 'held'),
                  $2::bigint - (total - held - sold)
           FROM nos_resources WHERE id = $1::bigint::text",
};

const EMPTY: Statements = Statements {
    create: "SELECT $1::bigint",
    buy: "SELECT peer.empty($1, $2)",
    sold: "SELECT $2::bigint, $2::bigint WHERE $1::bigint > 0",
};

impl Peer {
    fn statements(self) -> &'static Statements {
        match self {
            Peer::Nowait | Peer::Optimistic | Peer::Atomic | Peer::Grouped => &OURS,
            Peer::Update => &UPDATE,
            Peer::Neveroversell => &NEVEROVERSELL,
            Peer::Empty => &EMPTY,
        }
    }

    pub fn create(self) -> &'static str {
        self.statements().create
    }

    pub fn sold(self) -> &'static str {
        self.statements().sold
    }

    /// One unit for this user.
    pub fn call(self, item_id: i64, user_id: String) -> Call {
        Call::Peer {
            sql: self.statements().buy,
            item_id,
            user_id,
        }
    }

    /// Where it sells; ours with the strategy as a setting of the session.
    pub fn config(self, server: &Config, neveroversell_database: &str) -> Config {
        let mut config = server.clone();
        match self {
            Peer::Neveroversell => config.dbname(neveroversell_database),
            Peer::Update | Peer::Empty => &mut config,
            ours => config.options(format!("-c flashsale.strategy={}", ours.name())),
        };
        config
    }

    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("no peer is hidden");
        value.get_name().into()
    }

    pub fn is_ours(self) -> bool {
        matches!(
            self,
            Peer::Nowait | Peer::Optimistic | Peer::Atomic | Peer::Grouped
        )
    }
}

/// One of ours, by its name: for commands that sell with `purchase_item`.
pub fn strategy(name: &str) -> Result<Peer, String> {
    Peer::from_str(name, false)
        .ok()
        .filter(|peer| peer.is_ours())
        .ok_or_else(|| "it is one of nowait, optimistic, atomic, grouped".into())
}
