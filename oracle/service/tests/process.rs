//! examples/daemon.rs as a process: what it says and how it exits, what it serves, and what of it survives.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

fn command(state: &Path) -> Command {
    let tests = std::env::current_exe().unwrap();
    let binary: PathBuf = tests.ancestors().nth(2).unwrap().join("examples/daemon");
    assert!(binary.exists(), "{} is not built: cargo build -p datagalax-service --examples", binary.display());
    let mut command = Command::new(binary);
    command.env_clear().args(["--state-dir", state.to_str().unwrap()]);
    command
}

/// A running daemon, killed when the test ends.
struct Daemon {
    child: Child,
    logs: BufReader<std::process::ChildStderr>,
}

impl Daemon {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let logs = BufReader::new(child.stderr.take().unwrap());
        Self { child, logs }
    }

    /// The next log line with this text.
    fn says(&mut self, text: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.logs.read_line(&mut line).unwrap(), 0, "ended without saying `{text}`:\n{all}");
            if line.contains(text) {
                return line;
            }
            all.push_str(&line);
        }
    }

    fn monitor(&mut self) -> SocketAddr {
        let line: serde_json::Value = serde_json::from_str(&self.says("serving /metrics")).unwrap();
        line["monitor"].as_str().unwrap().parse().unwrap()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the child is not reaped yet, so the pid is its own.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }

    /// Its exit status and the rest of what it said.
    fn end(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        self.logs.read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Status and body of a GET by hand, so that it is really HTTP.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: monitor\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"))
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The samples of an exposition by name and labels; everything in it must be well-formed.
fn samples(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let is_sample = |line: &&str| !line.starts_with('#');
    let parse = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
    };
    text.lines().filter(is_sample).map(parse).collect()
}

#[track_caller]
fn refuses(output: &Output, says: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(says.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn settings_that_cannot_work_exit_64_and_name_option_and_origin() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("daemon.toml");
    let path = file.to_str().unwrap();
    fs::write(&file, "every = 99999\n").unwrap();
    let run = |arguments: &[&str], environment: &[(&str, &str)]| {
        command(folder.path()).args(arguments).envs(environment.iter().copied()).output().unwrap()
    };
    refuses(&run(&["--every", "x"], &[]), &["--every", "came from the command line"]);
    refuses(&run(&[], &[("DAEMON_EVERY", "x")]), &["--every", "came from the environment variable DAEMON_EVERY"]);
    refuses(&run(&["--config", path], &[]), &["99999", "--every", &format!("came from the settings file {path}")]);
    refuses(&run(&[], &[("DATAGALAX_CONFIG", path)]), &["--every", path]);
    // What stands above the file is taken instead of it, and blamed instead of it.
    refuses(&run(&["--config", path], &[("DAEMON_EVERY", "y")]), &["'y'", "the environment variable DAEMON_EVERY"]);
    fs::write(&file, "evry = 1\n").unwrap();
    refuses(&run(&["--config", path], &[]), &["no setting `evry`", "did you mean `every`"]);
    refuses(&run(&["--log", "a=b=c"], &[]), &["--log"]);
    refuses(
        &Command::new(command(folder.path()).get_program()).env_clear().output().unwrap(),
        &["--state-dir", "DAEMON_STATE_DIR"],
    );
}

#[test]
fn a_monitor_that_cannot_listen_ends_it_and_names_the_option() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = command(folder.path()).args(["--monitor", &taken.local_addr().unwrap().to_string()]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot listen on") && text.contains("--monitor"), "{text}");
}

#[test]
fn what_is_printed_needs_no_other_option() {
    let program = command(Path::new("/nonexistent")).get_program().to_owned();
    let print = |option: &str| {
        let output = Command::new(&program).env_clear().arg(option).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let settings = print("--print-settings");
    assert!(
        settings.contains("#every = 1000\n") && settings.contains("# Environment: DAEMON_STATE_DIR. Required.\n"),
        "{settings}"
    );
    let metrics = print("--print-metrics");
    assert!(metrics.contains("datagalax_example_noted_total\tcounter\tNumbers noted, by parity.\n"), "{metrics}");
}

#[test]
fn metrics_and_health_are_served_on_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(command(folder.path()).args(["--monitor", "0", "--every", "1"]));
    let address = daemon.monitor();
    assert!(address.ip().is_loopback());
    until("readiness", || (get(address, "/ready").0 == 200).then_some(()));
    assert_eq!(json(&get(address, "/ready").1), json(r#"{"ready": true, "reasons": {}}"#));
    // A disk that is slow for a moment makes it not live for as long.
    until("life", || (get(address, "/live") == (200, r#"{"live":true,"reasons":[]}"#.into())).then_some(()));
    assert_eq!(get(address, "/nothing").0, 404);
    let found = until("an even number", || {
        let found = samples(&get(address, "/metrics").1);
        let noted = found.get("datagalax_example_noted_total{parity=\"even\"}").is_some_and(|n| *n >= 1.0);
        let fine = (found["datagalax_live"], found["datagalax_ready"]) == (1.0, 1.0);
        (noted && fine).then_some(found)
    });
    assert!(found["process_resident_memory_bytes"] > 1e6 && found["process_open_fds"] > 3.0, "{found:?}");
    assert!(found.keys().any(|name| name.starts_with("datagalax_build_info{") && name.contains("daemon=\"daemon\"")));
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.end().0, Some(0));
}

#[test]
fn the_monitor_bounds_what_a_stranger_sends() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(command(folder.path()).args(["--monitor", "0", "--every", "1"]));
    let address = daemon.monitor();
    // A head without end is cut off with a refusal, not kept in memory.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    let line = [b"X: ".as_slice(), &[b'a'; 1000], b"\r\n"].concat();
    // Far more than the kernel buffers on both sides; at some point the connection is closed against us.
    let sent = (0..64_000).take_while(|_| stream.write_all(&line).is_ok()).count();
    assert!(sent < 64_000, "64 MB of head were taken");
    // More silent connections than it has places for do not shut others out for longer than the bound on a head.
    let silent: Vec<TcpStream> = (0..17).map(|_| TcpStream::connect(address).unwrap()).collect();
    until("an answer", || (get(address, "/live").0 == 200).then_some(()));
    drop(silent);
    drop(daemon);
}

#[test]
fn a_loop_that_hangs_makes_it_not_live() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon =
        Daemon::start(command(folder.path()).args(["--monitor", "0", "--misbehave", "hang", "--grace", "100ms"]));
    let address = daemon.monitor();
    let body = until("the watchdog", || Some(get(address, "/live")).filter(|(status, _)| *status == 503)).1;
    assert!(json(&body)["reasons"][0].as_str().unwrap().contains("the loop `noting`"), "{body}");
    daemon.signal(libc::SIGTERM);
    let (status, text) = daemon.end();
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("cut off after the --grace of 100ms, still running: noting (1)"), "{text}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon =
        Daemon::start(command(folder.path()).args(["--misbehave", "stubborn", "--every", "1", "--grace", "1h"]));
    BufReader::new(daemon.child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    daemon.signal(libc::SIGTERM);
    daemon.says("stopping");
    daemon.signal(libc::SIGINT);
    // It may be ended while it writes to the pipe that nobody reads; the status is the signal's all the same.
    assert_eq!(daemon.end().0, Some(128 + libc::SIGINT));
}

#[test]
fn a_blocking_call_that_never_returns_does_not_keep_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(command(folder.path()).args(["--misbehave", "block", "--grace", "100ms"]));
    BufReader::new(daemon.child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    daemon.signal(libc::SIGTERM);
    let (status, text) = daemon.end();
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("ended by force"), "{text}");
}

#[test]
fn what_was_said_to_be_noted_survives_kill_9_at_any_instant() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = 0;
    for round in 1..=12 {
        let mut daemon = Daemon::start(command(folder.path()).args(["--every", "0"]));
        let lines = BufReader::new(daemon.child.stdout.take().unwrap()).lines();
        for (line, count) in lines.zip(1..) {
            let Ok(number) = line.unwrap().parse::<u64>() else { break };
            // It goes on from what was said, at most one further that was written and not said.
            assert!(number == said + 1 || (count == 1 && number == said + 2), "{number} after {said}");
            said = number;
            if count >= 3 * round {
                daemon.signal(libc::SIGKILL);
                // What is still in the pipe was said, too.
            }
        }
    }
    assert!(said > 200, "{said}");
}

#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "1000000")];
    let daemon = Daemon::start(command(folder.path()).args(["--every", "1"]).envs(environment));
    let next = || {
        let mut buffer = [0; 1024];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut heard = Vec::new();
    while !["READY=1", "STATUS=working", "WATCHDOG=1"].iter().all(|text| heard.iter().any(|h| h == text)) {
        heard.push(next());
    }
    daemon.signal(libc::SIGTERM);
    while next() != "STOPPING=1" {}
    assert_eq!(daemon.end().0, Some(0));
}
