//! The binary: what it says and how it exits when it cannot work.

use std::{io::Write, os::unix::fs::PermissionsExt, process::Command};

use solana_keypair::Keypair;
use tempfile::NamedTempFile;

#[track_caller]
fn ends(arguments: &[&str], status: i32, says: &[&str]) {
    // No setting of the environment the tests run in may leak in.
    let output = Command::new(env!("CARGO_BIN_EXE_datagalax-checker")).args(arguments).env_clear().output().unwrap();
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

#[test]
fn settings_that_cannot_work_exit_64_and_name_the_option() {
    let folder = tempfile::tempdir().unwrap();
    let state = ["--checker-id", "0", "--state-dir", folder.path().to_str().unwrap()];
    let good = keypair(&serde_json::to_vec(Keypair::new().to_bytes().as_slice()).unwrap());
    let good = good.path().to_str().unwrap();
    ends(&[], 64, &["--keypair", "--checker-id", "--state-dir"]);
    ends(&[&state[..], &["--keypair", good, "--probes", "0"]].concat(), 64, &["--probes"]);
    ends(&[&state[..], &["--keypair", "/nonexistent"]].concat(), 64, &["no keypair file at /nonexistent"]);
    let bad = keypair(b"{}");
    ends(&[&state[..], &["--keypair", bad.path().to_str().unwrap()]].concat(), 64, &["not a Solana keypair file"]);
    let file = good;
    ends(&["--keypair", good, "--checker-id", "0", "--state-dir", file], 64, &["--state-dir"]);
}

#[test]
fn a_node_that_is_down_ends_it_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let good = keypair(&serde_json::to_vec(Keypair::new().to_bytes().as_slice()).unwrap());
    let arguments = [
        "--keypair",
        good.path().to_str().unwrap(),
        "--checker-id",
        "0",
        "--state-dir",
        folder.path().to_str().unwrap(),
        "--rpc",
        "http://127.0.0.1:1",
        "--start-timeout",
        "0",
    ];
    ends(&arguments, 1, &["no answer from the RPC node at http://127.0.0.1:1", "gave up"]);
}
