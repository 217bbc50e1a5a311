//! The binary: what it says and how it exits when it cannot work.

use std::{
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use solana_keypair::Keypair;
use tempfile::NamedTempFile;

const CONTAINER: &str = "4sDyD42qEWjcXGY9ySnwu655GNcBEHchW3VDXdrvEiMt";

fn agent(arguments: &[&str]) -> Output {
    // What it keeps by default lies in the working folder; no setting of the environment the tests run in may leak in.
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_datagalax-agent"));
    agent.args(arguments).env_clear().current_dir(folder.path()).output().unwrap()
}

#[track_caller]
fn ends(arguments: &[&str], status: i32, says: &[&str]) {
    let output = agent(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert!(says.iter().all(|part| text.contains(part)), "{text}");
}

fn keypair(content: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

fn good_keypair() -> NamedTempFile {
    keypair(&serde_json::to_vec(Keypair::new().to_bytes().as_slice()).unwrap())
}

#[test]
fn settings_that_cannot_work_exit_64_and_name_the_option() {
    let good = good_keypair();
    let good = good.path().to_str().unwrap();
    ends(&[], 64, &["--keypair", "--container"]);
    ends(&["--nonsense"], 64, &["--nonsense"]);
    ends(&["--keypair", good, "--container", "nonsense"], 64, &["--container"]);
    ends(&["--keypair", good, "--container", CONTAINER, "--listen", "7070"], 64, &["--listen"]);
    ends(&["--keypair", good, "--container", CONTAINER, "--log", "a=b=c"], 64, &["--log"]);
    ends(&["--keypair", "/nonexistent", "--container", CONTAINER], 64, &["no keypair file at /nonexistent"]);
    let bad = keypair(b"[1,2,3]");
    ends(&["--keypair", bad.path().to_str().unwrap(), "--container", CONTAINER], 64, &["not a Solana keypair file"]);
}

#[test]
fn a_node_that_is_down_ends_it_with_the_reason() {
    let good = good_keypair();
    let arguments =
        ["--keypair", good.path().to_str().unwrap(), "--container", CONTAINER, "--listen", "127.0.0.1:0", "--rpc"];
    let down = ["http://127.0.0.1:1", "--start-timeout", "0"];
    ends(&[arguments.as_slice(), &down].concat(), 1, &["no answer from the RPC node at http://127.0.0.1:1", "gave up"]);
}

#[test]
fn a_port_that_is_taken_ends_it_with_the_reason() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (good, address) = (good_keypair(), taken.local_addr().unwrap().to_string());
    let keypair = good.path().to_str().unwrap();
    ends(&["--keypair", keypair, "--container", CONTAINER, "--listen", &address], 1, &["cannot listen on", "--listen"]);
}

#[test]
fn what_it_would_do_to_the_chain_is_checked_first() {
    let good = good_keypair();
    let good = ["--keypair", good.path().to_str().unwrap(), "--container", CONTAINER];
    let with = |more: &[&'static str]| [good.as_slice(), more].concat();
    ends(&with(&["--endpoint", "host.example"]), 64, &["--endpoint", "https://host:port"]);
    ends(&with(&["--price-per-hour", "1e9"]), 64, &["--price-per-hour", "is not an amount"]);
    ends(&with(&["--provider-keypair", "/nonexistent"]), 64, &["no keypair file at /nonexistent"]);
    ends(&with(&["--state-dir", "/proc/agent"]), 64, &["--state-dir", "/proc/agent"]);
    ends(&with(&["--priority-fee", "2", "--max-priority-fee", "1"]), 64, &["--max-priority-fee 1", "raise"]);
    ends(&with(&["--max-temperature", "500"]), 64, &["--max-temperature"]);
}

#[test]
fn settings_and_metrics_are_printed() {
    let printed = |flag| String::from_utf8(agent(&[flag]).stdout).unwrap();
    let settings = printed("--print-settings");
    assert!(["provider-keypair", "state-dir", "fault-quiet"].iter().all(|name| settings.contains(name)), "{settings}");
    let metrics = printed("--print-metrics");
    assert!(
        ["datagalax_agent_beacons_total", "datagalax_agent_faults"].iter().all(|name| metrics.contains(name)),
        "{metrics}"
    );
}

#[test]
fn help_teaches_and_the_fingerprint_is_printed() {
    let help = agent(&["--help"]);
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--machine-id"));
    let id = keypair(b"0123456789abcdef0123456789abcdef\n");
    let print = |_| agent(&["--print-fingerprint", "--no-gpu", "--machine-id", id.path().to_str().unwrap()]);
    let [first, second] = [0, 1].map(print);
    assert!(first.status.success());
    assert_eq!(first.stdout.trim_ascii_end().len(), 64);
    assert_eq!(first.stdout, second.stdout);
}
