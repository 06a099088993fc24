//! Where the server is: the environment variables that libpq reads.

use std::env;
use std::error::Error as _;

use tokio_postgres::{Client, Config, Error, NoTls};

/// PGHOST (a socket's folder or a name), PGPORT, PGUSER, PGDATABASE and PGPASSWORD, with the
/// defaults of libpq.
pub fn config_from_env() -> Result<Config, String> {
    let port = variable("PGPORT").unwrap_or_else(|| "5432".into());
    let port: u16 = port
        .parse()
        .map_err(|_| format!("PGPORT must be a port number, not \"{port}\""))?;
    let user = variable("PGUSER")
        .or_else(|| variable("USER"))
        .ok_or("set PGUSER to a database user")?;
    let mut config = Config::new();
    config
        .host(variable("PGHOST").unwrap_or_else(|| "/var/run/postgresql".into()))
        .port(port)
        .dbname(variable("PGDATABASE").unwrap_or_else(|| user.clone()))
        .user(user)
        .application_name("storm");
    if let Some(password) = variable("PGPASSWORD") {
        config.password(password);
    }
    Ok(config)
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Opens a connection and lets a task drive it until the client is dropped.
pub async fn connect(config: &Config) -> Result<Client, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The error with what the server or the system said about it.
pub fn explain(error: &Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
