//! Programs that are started, killed and started again.

use std::env;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(60);

/// A program with an address, killed when dropped.
pub struct Program {
    name: &'static str,
    pub address: SocketAddr,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    child: Child,
}

impl Program {
    /// Starts a program of this workspace and waits until it says it is well.
    pub async fn start(
        name: &'static str,
        address: SocketAddr,
        environment: Vec<(&'static str, String)>,
        folder: &Path,
    ) -> Self {
        let log = folder.join(format!("{name}-{}.log", address.port()));
        let child = launch(name, &environment, &log);
        let mut program = Self {
            name,
            address,
            environment,
            log,
            child,
        };
        program.until_well().await;
        program
    }

    /// Its settings.
    pub fn environment(&self) -> &[(&'static str, String)] {
        &self.environment
    }

    /// Where a path of it is.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// SIGKILL: it gets to finish nothing.
    pub fn kill(&mut self) {
        // It may be dead already.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// SIGSTOP: it stands still, and requests to it wait, until it goes on.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &process]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal}");
    }

    /// Starts it again where it was, without waiting for it.
    pub fn start_again(&mut self) {
        self.child = launch(self.name, &self.environment, &self.log);
    }

    pub async fn until_well(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let http = reqwest::Client::new();
        while !http
            .get(self.url("/healthz"))
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            let has_ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            assert!(
                !has_ended,
                "{} has ended:
{}",
                self.name,
                self.said()
            );
            assert!(
                Instant::now() < deadline,
                "{} is not well:
{}",
                self.name,
                self.said()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it wrote to its log.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

fn launch(name: &str, environment: &[(&'static str, String)], log: &Path) -> Child {
    let log = File::options()
        .append(true)
        .create(true)
        .open(log)
        .expect("a log");
    Command::new(program(name))
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{name} does not start, is it built? {error}"))
}

/// Beside this program, or beside the folder of the tests.
pub fn program(name: &str) -> PathBuf {
    let own = env::current_exe().expect("the own path");
    let folder = own.parent().expect("a folder");
    let folder = if folder.ends_with("deps") {
        folder.parent().expect("a folder above")
    } else {
        folder
    };
    folder.join(name)
}

/// An address of this machine that was free a moment ago, and another one each time. From below the
/// ports that outgoing connections take, or one of those could take it while its program is down.
pub fn free_address() -> SocketAddr {
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new(rand::random_range(20_000..29_000)));
    loop {
        let port = NEXT.fetch_add(1, Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return ([127, 0, 0, 1], port).into();
        }
    }
}
