//! How many connections the server has for all tests together.

use std::sync::Arc;

use storm::{config_from_env, connect};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::sql::value;

/// Tests run side by side as long as the server has connections for all of them.
pub async fn room_for(connections: usize) -> OwnedSemaphorePermit {
    static ROOM: OnceCell<Arc<Semaphore>> = OnceCell::const_new();
    let size = room_size().await;
    assert!(
        connections <= size,
        "this test needs {connections} connections, the server has room for {size}"
    );
    let room = ROOM
        .get_or_init(|| async { Arc::new(Semaphore::new(size)) })
        .await;
    Arc::clone(room)
        .acquire_many_owned(connections as u32)
        .await
        .expect("the semaphore is never closed")
}

pub async fn room_size() -> usize {
    static SIZE: OnceCell<usize> = OnceCell::const_new();
    *SIZE
        .get_or_init(|| async {
            let server = config_from_env().expect("a server in the environment");
            let client = connect(&server).await.expect("the server answers");
            let room = "SELECT current_setting('max_connections')::int8
                             - current_setting('superuser_reserved_connections')::int8 - 4";
            value::<i64>(&client, room, &[]).await as usize
        })
        .await
}

/// Clusters that tests start for themselves; more at once would only wait for the same cores.
const CLUSTERS: usize = 3;

pub async fn room_for_a_cluster() -> OwnedSemaphorePermit {
    static ROOM: OnceCell<Arc<Semaphore>> = OnceCell::const_new();
    let room = ROOM
        .get_or_init(|| async { Arc::new(Semaphore::new(CLUSTERS)) })
        .await;
    Arc::clone(room)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed")
}
