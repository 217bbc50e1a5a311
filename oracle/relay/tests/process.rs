//! The daemon itself: settings that cannot work, and a life from start to signal.

use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

fn relay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_datagalax-relay"));
    command.env_clear().args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn settings_that_cannot_work_end_with_64_and_name_the_option() {
    let missing = ["--name", "relay.example", "--allow", "/nonexistent/list"];
    let files = ["--name", "relay.example", "--anyone", "--connections", "1000000", "--max-hosts", "1000000"];
    let both = ["--name", "relay.example", "--anyone", "--allow", "list"];
    for (arguments, option) in [
        (&[][..], "--name"),
        (&missing, "--allow"),
        (&both, "--allow"),
        (&files, "--connections"),
        (&["--per-host", "0"], "--per-host"),
    ] {
        let ended = relay(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(option), "{arguments:?}: {said}");
    }
}

#[test]
fn it_serves_until_a_signal() {
    // Both held until both are known, so that they differ.
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [public, hosts] = [0, 1].map(|i| held[i].local_addr().unwrap().to_string());
    drop(held);
    let arguments = ["--name", "127.0.0.1", "--anyone", "--listen", &public, "--hosts", &hosts];
    let mut child = relay(&arguments).spawn().unwrap();
    let since = Instant::now();
    let mut host = loop {
        match TcpStream::connect(&hosts) {
            Ok(stream) => break stream,
            Err(_) if since.elapsed() < Duration::from_secs(20) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => panic!("{error}: {:?}", child.try_wait()),
        }
    };
    std::io::Write::write_all(&mut host, b"DGRELAY1\0").unwrap();
    host.read_exact(&mut [0; 16]).unwrap();
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    let status = child.wait().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(status.success(), "{said}");
}
