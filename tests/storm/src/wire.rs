//! A network between the app and its database that can fall silent.

use std::env;
use std::future::pending;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// Forwards connections to the server's socket.
pub struct Wire {
    pub address: SocketAddr,
    silence: watch::Sender<()>,
}

impl Wire {
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (silence, silent) = watch::channel(());
        tokio::spawn(accept(listener, silent));
        Self { address, silence }
    }

    /// From now on nothing passes over the connections there are, which stay open. New ones work.
    pub fn fall_silent(&self) {
        self.silence.send(()).expect("a listener");
    }
}

async fn accept(listener: TcpListener, silent: watch::Receiver<()>) {
    let (folder, port) = (env::var("PGHOST"), env::var("PGPORT"));
    let socket = format!(
        "{}/.s.PGSQL.{}",
        folder.expect("PGHOST"),
        port.expect("PGPORT")
    );
    while let Ok((app, _)) = listener.accept().await {
        let server = UnixStream::connect(&socket).await.expect("the server");
        tokio::spawn(carry(app, server, silent.clone()));
    }
}

async fn carry(app: TcpStream, server: UnixStream, mut silent: watch::Receiver<()>) {
    silent.mark_unchanged(); // an earlier silence does not concern this connection
    let (from_app, to_app) = app.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = forward(from_app, to_server, silent.clone()) => {}
        () = forward(from_server, to_app, silent) => {}
    }
}

/// Until either end closes. It falls silent between messages only, so that the server never waits
/// for the rest of one.
async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut silent: watch::Receiver<()>,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        let read = tokio::select! {
            biased;
            _ = silent.changed() => pending().await,
            read = from.read(&mut buffer) => read,
        };
        match read {
            Ok(length @ 1..) if to.write_all(&buffer[..length]).await.is_ok() => {}
            _ => return,
        }
    }
}
