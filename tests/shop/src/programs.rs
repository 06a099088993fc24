//! The app and the gateway as child processes, which can be killed and started again.

use std::env;
use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::time::sleep;

const STARTS_WITHIN: Duration = Duration::from_secs(20);
const LOG_LINES_SHOWN: usize = 30;

/// A running program; it dies when this is dropped.
pub struct Program {
    binary: &'static str,
    port: u16,
    settings: Vec<(String, String)>,
    log: PathBuf,
    child: Child,
}

impl Program {
    /// Starts a program of this workspace and waits until it answers.
    pub async fn start(
        binary: &'static str,
        port: u16,
        settings: Vec<(String, String)>,
        folder: &Path,
    ) -> Result<Self, String> {
        let log = folder.join(format!("{binary}-{port}.log"));
        let child = spawn(binary, &settings, &log)?;
        let mut program = Self {
            binary,
            port,
            settings,
            log,
            child,
        };
        program.until_it_answers().await?;
        Ok(program)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// SIGKILL: no goodbye, nothing is finished.
    pub fn kill(&mut self) {
        // It fails only for a process that has ended and been waited for.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Starts it anew with the same port, settings and log.
    pub async fn restart(&mut self) -> Result<(), String> {
        self.kill();
        self.child = spawn(self.binary, &self.settings, &self.log)?;
        self.until_it_answers().await
    }

    /// Any answer will do, 503 too: an app may be started while its database is down.
    async fn until_it_answers(&mut self) -> Result<(), String> {
        let started_at = Instant::now();
        let health = format!("{}/healthz", self.url());
        while reqwest::get(&health).await.is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!(
                    "{} ended with {status}:\n{}",
                    self.binary,
                    self.end_of_log()
                ));
            }
            if started_at.elapsed() > STARTS_WITHIN {
                return Err(format!(
                    "{} does not answer:\n{}",
                    self.binary,
                    self.end_of_log()
                ));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    pub fn end_of_log(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!(
                "--- the end of the log of {}:\n{}",
                self.binary,
                self.end_of_log()
            );
        }
    }
}

fn spawn(binary: &str, settings: &[(String, String)], log: &Path) -> Result<Child, String> {
    let path = beside_this_program(binary)?;
    let log_file = OpenOptions::new().create(true).append(true).open(log);
    let log_file = log_file.map_err(|error| format!("{}: {error}", log.display()))?;
    let log_too = log_file.try_clone().map_err(|error| error.to_string())?;
    Command::new(&path)
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log_file)
        .stderr(log_too)
        .spawn()
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Cargo puts programs into the folder of its profile, and tests into `deps` there.
fn beside_this_program(binary: &str) -> Result<PathBuf, String> {
    let this = env::current_exe().map_err(|error| error.to_string())?;
    let mut folder = this.parent().unwrap_or(Path::new("/"));
    if folder.ends_with("deps") {
        folder = folder.parent().unwrap_or(Path::new("/"));
    }
    let path = folder.join(binary);
    if path.exists() {
        return Ok(path);
    }
    let profile = folder
        .file_name()
        .map_or("clients".into(), |name| name.to_string_lossy());
    Err(format!(
        "{} is missing: cargo build --profile {profile} --package {binary}",
        path.display()
    ))
}

/// A port nobody listens on. Below those that the system gives to outgoing connections: one of
/// them could take the port of a program that is down for a moment.
pub fn free_port() -> Result<u16, String> {
    let mut random = rand::rng();
    (0..100)
        .map(|_| random.random_range(20_000..30_000))
        .find(|port| is_free(*port))
        .ok_or_else(|| "found no free port between 20000 and 30000".into())
}

pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
