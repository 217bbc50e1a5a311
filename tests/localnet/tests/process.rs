//! Starting, refusing and stopping.

mod support;

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::json;
use solana_keypair::Keypair;
use solana_signer::Signer;
use support::{
    ASSOCIATED_TOKEN, Localnet, START, TOKEN, file, free_port, is_free, lines_of, refused, send_signal, wait_for,
};

/// The most a stop may take, in any state, on a loaded machine.
const STOP: Duration = Duration::from_secs(20);

#[test]
fn signals_stop_it_cleanly_and_free_its_ports() {
    for signal in ["INT", "TERM", "HUP"] {
        let mut net = Localnet::start(&[]);
        assert!(!is_free(net.port) && !is_free(net.port + 1));
        let status = net.stop_by(signal, STOP);
        assert_eq!(status.code(), Some(0), "after SIG{signal}: {status}");
        assert!(is_free(net.port) && is_free(net.port + 1), "ports are still taken after SIG{signal}");
    }
}

#[test]
fn open_connections_do_not_keep_it() {
    let mut net = Localnet::start(&[]);
    let idle: Vec<_> = [net.port, net.port + 1].map(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).into();
    // A client that keeps its HTTP connection open.
    net.rpc.get_slot().unwrap();
    assert_eq!(net.stop_by("INT", STOP).code(), Some(0));
    drop(idle);
    assert!(is_free(net.port) && is_free(net.port + 1));
}

#[test]
fn the_ready_line_says_where_it_is() {
    let net = Localnet::start(&["--slot-time-ms", "100"]);
    assert_eq!(net.ready["rpc"], format!("http://127.0.0.1:{}", net.port));
    assert_eq!(net.ready["ws"], format!("ws://127.0.0.1:{}", net.port + 1));
    assert_eq!(net.ready["genesis_hash"], net.call("getGenesisHash", json!([])));
    assert_eq!(net.ready["programs"], json!([]));
    assert_eq!(net.ready["slot_time_ms"], 100);
    assert_eq!(net.ready["pid"], net.pid());
}

#[test]
fn without_json_it_prints_text_for_people() {
    let port = free_port();
    let mut child = support::command().args(["--port", &port.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = lines_of(child.stdout.take().unwrap());
    let mut text = String::new();
    // The last line says how to stop it.
    while !text.contains("Ctrl-C") {
        let line = lines.recv_timeout(START).unwrap_or_else(|e| panic!("\"Ctrl-C\" is not in {text:?} ({e})"));
        text += &format!("{line}\n");
    }
    send_signal("INT", child.id());
    let status = wait_for("it ends", STOP, || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
    for part in [format!("http://127.0.0.1:{port}"), format!("ws://127.0.0.1:{}", port + 1)] {
        assert!(text.contains(&part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn a_second_network_on_its_ports_is_refused() {
    let net = Localnet::start(&[]);
    // The same pair, and the pairs that overlap in one port.
    for (port, taken) in [(net.port, net.port), (net.port + 1, net.port + 1), (net.port - 1, net.port)] {
        let (status, stderr) = refused(&["--port", &port.to_string()]);
        assert_eq!(status, 1, "{stderr}");
        assert!(
            stderr.contains(&format!("port {taken} ")) && stderr.contains("taken") && stderr.contains("--port P"),
            "{stderr}"
        );
    }
    // It was not disturbed.
    assert_eq!(net.call("getHealth", json!([])), "ok");
}

#[test]
fn two_that_start_at_once_do_not_share_a_port() {
    let port = free_port().to_string();
    let start = || {
        let quiet = Stdio::null;
        support::command().args(["--port", &port]).stdout(quiet()).stderr(quiet()).spawn().unwrap()
    };
    let mut both = [start(), start()];
    let loser = wait_for("one of them gives up", START, || (0..2).find(|&i| both[i].try_wait().unwrap().is_some()));
    assert_eq!(both[loser].wait().unwrap().code(), Some(1));
    let winner = &mut both[1 - loser];
    assert!(winner.try_wait().unwrap().is_none(), "both gave up");
    winner.kill().unwrap();
    winner.wait().unwrap();
}

#[test]
fn a_foreign_listener_is_named() {
    let port = free_port();
    let _other = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port + 1)).unwrap();
    let (status, stderr) = refused(&["--port", &port.to_string()]);
    assert_eq!(status, 1);
    assert!(stderr.contains(&format!("port {} (WebSocket)", port + 1)), "{stderr}");
}

#[test]
fn bad_program_files_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let elf = Localnet::start(&[]).elf_of(ASSOCIATED_TOKEN);
    let mut host = elf.clone();
    host[18..20].copy_from_slice(&62u16.to_le_bytes());
    let (half, mut damaged) = (elf[..elf.len() / 2].to_vec(), elf.clone());
    // Every instruction becomes one that does not exist.
    damaged[0x1000..0x2000].fill(0xff);
    let cases = [
        (folder.path().join("missing.so").to_str().unwrap().to_owned(), "cannot be read"),
        (folder.path().to_str().unwrap().to_owned(), "cannot be read"),
        (file(folder.path(), "empty.so", b""), "the file is empty"),
        (file(folder.path(), "text.so", b"not a program, though long enough to be one"), "64-bit little-endian ELF"),
        (file(folder.path(), "host.so", &host), "machine 62"),
        (file(folder.path(), "half.so", &half), "the runtime refuses"),
        (file(folder.path(), "damaged.so", &damaged), "the runtime refuses"),
        (file(folder.path(), "huge.so", &vec![0; 10 * 1024 * 1024]), "more than"),
    ];
    let id = Keypair::new().pubkey();
    for (path, reason) in cases {
        let port = free_port();
        let (status, stderr) = refused(&["--port", &port.to_string(), "--program", &format!("{id}={path}")]);
        assert_eq!(status, 1, "{path}: {stderr}");
        assert!(stderr.contains(reason) && stderr.contains(&path) && stderr.contains(&id.to_string()), "{path}: {stderr}");
        assert!(is_free(port));
    }
    let good = file(folder.path(), "good.so", &elf);
    for taken in [TOKEN, ASSOCIATED_TOKEN, "11111111111111111111111111111111"] {
        let (status, stderr) = refused(&["--port", &free_port().to_string(), "--program", &format!("{taken}={good}")]);
        assert!(status == 1 && stderr.contains("an address of its own"), "{taken}: {stderr}");
    }
}

#[test]
fn bad_arguments_are_a_usage_error() {
    for bad in [vec!["--port", "65535"], vec!["--fund", "x=1"], vec!["--nonsense"], vec!["--program", "x.so"]] {
        let (status, stderr) = refused(&bad);
        assert_eq!(status, 64, "{bad:?}: {stderr}");
        assert!(!stderr.is_empty());
    }
    let twice = format!("{TOKEN}=1");
    let (status, stderr) = refused(&["--fund", &twice, "--fund", &twice]);
    assert!(status == 64 && stderr.contains("twice"), "{stderr}");
}

#[test]
fn a_killed_parent_takes_it_along() {
    let port = free_port();
    let binary = env!("CARGO_BIN_EXE_datagalax-localnet");
    let script = format!("{binary} --port {port} --json --exit-with-parent $$ & wait");
    let mut shell = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let ready = lines_of(shell.stdout.take().unwrap()).recv_timeout(START).expect("the network starts");
    assert!(ready.contains(&format!("http://127.0.0.1:{port}")), "{ready}");
    shell.kill().unwrap();
    shell.wait().unwrap();
    wait_for("the network ends with its parent", STOP, || (is_free(port) && is_free(port + 1)).then_some(()));
}

#[test]
fn a_parent_that_is_gone_already_is_noticed() {
    let (status, stderr) = refused(&["--port", &free_port().to_string(), "--exit-with-parent", "1999999999"]);
    assert!(status == 1 && stderr.contains("--exit-with-parent 1999999999"), "{stderr}");
}

#[test]
fn somebody_who_stops_it_over_rpc_is_told_on() {
    let mut net = Localnet::start(&[]);
    // The answer may be lost while the server closes; that it ends is what counts.
    let _ = net.try_call("exit", json!([]));
    let status = wait_for("it ends", STOP, || net.ended());
    assert_eq!(status.code(), Some(1));
}

#[test]
fn nobody_loads_plugins_into_it() {
    let net = Localnet::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let config = file(folder.path(), "plugin.json", br#"{"libpath": "libplugin.so"}"#);
    // Where plugins are on, the answer is that the library cannot be loaded.
    let refusal = net.try_call("loadPlugin", json!([config])).unwrap_err().to_string();
    assert!(refusal.contains("Internal error") && !refusal.contains("libplugin"), "{refusal}");
}
