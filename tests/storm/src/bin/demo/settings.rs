//! UNITS, BUYERS and CONNECTIONS from the environment, checked before anything starts.

use std::env;

use tokio_postgres::Client;

/// Connections of the people who buy other items.
pub const OTHER_CONNECTIONS: usize = 8;
/// One more for the demo itself.
const OWN_CONNECTIONS: usize = 1;

pub struct Settings {
    pub units: u64,
    pub buyers: u64,
    pub connections: usize,
}

impl Settings {
    pub fn from_env() -> Result<Self, String> {
        Ok(Self {
            units: number("UNITS", 100, 10_000_000)?,
            buyers: number("BUYERS", 5_000, 1_000_000)?,
            connections: number("CONNECTIONS", 100, 10_000)? as usize,
        })
    }

    pub fn expected_sales(&self) -> u64 {
        self.units.min(self.buyers)
    }

    /// Fails before the server would, and says what to change.
    pub async fn check_room(&self, client: &Client) -> Result<(), String> {
        const ROOM: &str = "SELECT current_setting('max_connections')::int8
                 - current_setting('superuser_reserved_connections')::int8
                 - (SELECT count(*) FROM pg_stat_activity
                    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())";
        let room: i64 = client
            .query_one_scalar(ROOM, &[])
            .await
            .map_err(|error| storm::explain(&error))?;
        let needed = self.connections + OTHER_CONNECTIONS + OWN_CONNECTIONS;
        if needed as i64 <= room {
            return Ok(());
        }
        let most = room - (OTHER_CONNECTIONS + OWN_CONNECTIONS) as i64;
        Err(format!(
            "CONNECTIONS={} needs {needed} connections in all, but the server has room for {room}: \
             use CONNECTIONS={} or fewer, or raise max_connections",
            self.connections,
            most.max(0)
        ))
    }
}

fn number(name: &str, default: u64, most: u64) -> Result<u64, String> {
    let Ok(text) = env::var(name) else {
        return Ok(default);
    };
    if text.is_empty() {
        return Ok(default);
    }
    match text.replace(['_', ','], "").parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!(
            "{name} must be a whole number from 1 to {most}, not \"{text}\""
        )),
    }
}
