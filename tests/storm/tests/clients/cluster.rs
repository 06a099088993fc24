//! Programs of PostgreSQL, and clusters of their own for tests that crash them or need the seller.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio_postgres::Config;

const PORT: u16 = 5432;

/// A program that comes with the server, from PG_BINDIR or else from the PATH.
pub fn tool(name: &str) -> Command {
    match env::var_os("PG_BINDIR") {
        Some(folder) => Command::new(Path::new(&folder).join(name)),
        None => Command::new(name),
    }
}

/// Sends a signal, such as STOP, to a process of a server.
pub fn signal(process: i32, name: &str) {
    let kill = Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status();
    assert!(kill.expect("kill").success());
}

/// The same program by the user that servers run as: neither PostgreSQL nor PgBouncer runs as root.
pub fn as_server_user(mut command: Command) -> Command {
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group);
    }
    // Its own folder may be closed to that user.
    command.current_dir("/");
    command
}

/// The postgres user if we are root; `None` stands for ourselves.
fn server_user() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").expect("the own process").uid() != 0 {
        return None;
    }
    let id = |flag| {
        let output = Command::new("id")
            .args([flag, "postgres"])
            .output()
            .expect("id");
        let id = String::from_utf8_lossy(&output.stdout).trim().parse();
        id.expect("a user named postgres, to run servers as")
    };
    Some((id("-u"), id("-g")))
}

/// A folder of the server user, with a path short enough for a socket; it goes at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("storm.{}.{}", process::id(), NUMBER.fetch_add(1, Relaxed));
        let folder = Self(Path::new("/var/tmp").join(name));
        fs::create_dir(&folder.0).expect("a new folder");
        if let Some((user, group)) = server_user() {
            chown(&folder.0, Some(user), Some(group)).expect("a folder of the server user");
        }
        folder
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("an ASCII path")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

pub struct Cluster {
    pub config: Config,
    folder: Folder,
    environment: Vec<(&'static str, &'static str)>,
}

impl Cluster {
    fn planned() -> Self {
        let folder = Folder::new();
        let mut config = Config::new();
        config
            .host(folder.path())
            .port(PORT)
            .user("postgres")
            .dbname("postgres");
        Self {
            config,
            folder,
            environment: Vec::new(),
        }
    }

    /// A copy of another cluster that follows it.
    pub fn standby_of(primary: &Cluster) -> Self {
        let standby = Self::planned();
        let port = PORT.to_string();
        run(
            tool("pg_basebackup"),
            &[
                "-D",
                &standby.data(),
                "-h",
                primary.folder(),
                "-p",
                &port,
                "-U",
                "postgres",
                "-c",
                "fast",
                "-R",
                "-N",
            ],
        );
        standby.restart();
        standby
    }

    /// With the extension preloaded and these settings, each `name = value`. The workers work
    /// for the database postgres. Nobody is told busy because a process was slow.
    pub fn start(settings: &[&str]) -> Self {
        let cluster = Self::planned();
        let data = cluster.data();
        run(
            tool("initdb"),
            &["-D", &data, "-U", "postgres", "-A", "trust", "-N"],
        );
        let defaults = [
            "max_connections = 300",
            "shared_preload_libraries = flashsale",
            "flashsale.group_wait = 60s",
            "flashsale.lock_wait = 60s",
        ];
        let lines = [&defaults, settings].concat().join("\n") + "\n";
        let file = OpenOptions::new()
            .append(true)
            .open(format!("{data}/postgresql.conf"));
        file.and_then(|mut file| file.write_all(lines.as_bytes()))
            .expect("a settings file");
        cluster.restart();
        cluster
    }

    /// Where its socket is.
    pub fn folder(&self) -> &str {
        self.folder.path()
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).expect("a log")
    }

    /// Tells everybody to stop at once, as an operator does.
    pub fn stop(&self) {
        run(
            tool("pg_ctl"),
            &["-D", &self.data(), "-m", "fast", "-w", "stop"],
        );
    }

    /// As a power cut for everything but the disk: no process gets to say goodbye.
    pub fn crash(&self) {
        run(
            tool("pg_ctl"),
            &["-D", &self.data(), "-m", "immediate", "stop"],
        );
    }

    /// Starts it again after a stop or a crash, with these variables in its environment from
    /// now on.
    pub fn restart_in(&mut self, environment: &[(&'static str, &'static str)]) {
        self.environment = environment.to_vec();
        self.restart();
    }

    pub fn restart(&self) {
        let settings = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c port={PORT}",
            self.folder.path()
        );
        let log = self.log_file();
        let mut pg_ctl = tool("pg_ctl");
        pg_ctl.envs(self.environment.iter().copied());
        run(
            pg_ctl,
            &[
                "-D",
                &self.data(),
                "-l",
                &log,
                "-o",
                &settings,
                "-w",
                "start",
            ],
        );
    }

    /// Runs statements, one a line, in single-user mode, while the server is stopped.
    pub fn run_alone(&self, statements: &str) {
        let mut postgres = as_server_user(tool("postgres"));
        let mut running = postgres
            .args(["--single", "-D", &self.data(), "postgres"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut input = running.stdin.take().expect("a pipe");
        input.write_all(statements.as_bytes()).expect("it reads");
        drop(input);
        assert!(running.wait().expect("it ends").success());
    }

    fn log_file(&self) -> String {
        format!("{}/log", self.folder.path())
    }

    fn data(&self) -> String {
        format!("{}/data", self.folder.path())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may be down already.
        let mut stop = as_server_user(tool("pg_ctl"));
        stop.args(["-D", &self.data(), "-m", "immediate", "stop"]);
        stop.stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .ok();
    }
}

fn run(program: Command, arguments: &[&str]) {
    let mut command = as_server_user(program);
    let status = command
        .args(arguments)
        .stdout(Stdio::null())
        .status()
        .expect("it starts");
    assert!(status.success(), "{command:?}");
}
